#include "relay/delivery/held_jobs.hpp"

#include <gtest/gtest.h>

namespace egret::relay {
namespace {

using namespace std::chrono_literals;

constexpr auto max_age = 24h;

routing::Time at(std::int64_t seconds) {
  return routing::Time(std::chrono::seconds(seconds));
}

/// Accepted at the second that is its id.
JobPtr job(std::uint64_t id, std::uint32_t message_class = 0) {
  auto out = std::make_unique<Job>();
  out->message = std::make_shared<MessageRef>();
  out->message->id = smtp::MessageId{id};
  out->message->message_class = message_class;
  out->message->accepted = at(static_cast<std::int64_t>(id));
  out->message->expires = out->message->accepted + max_age;
  out->message->open = 1;
  out->recipients = {0};
  return out;
}

bool all(std::uint32_t) {
  return true;
}

class HeldJobsTest : public testing::Test {
 protected:
  void fill(std::uint64_t count, std::uint32_t message_class = 0) {
    for (std::uint64_t id = 1; id <= count; ++id) held_.add(job(id, message_class), 1);
  }
  void take_from_hand(std::size_t count) {
    for (std::size_t n = 0; n < count; ++n) held_.jobs.pop();
  }
  std::chrono::hours max_age_ = max_age;
  Resting::Expires expires_ = [this](std::uint32_t, routing::Time accepted) { return accepted + max_age_; };
  HeldJobs held_{expires_};
};

TEST_F(HeldJobsTest, OfManyKeepsSomeAtHandAndTheRestAsNumbers) {
  fill(HeldJobs::at_hand + 500);
  EXPECT_EQ(held_.jobs.size(), HeldJobs::at_hand);
  EXPECT_EQ(held_.away().size(), 500u);
  EXPECT_EQ(held_.size(), HeldJobs::at_hand + 500);
}

TEST_F(HeldJobsTest, EachClassHasItsOwnAtHand) {
  fill(HeldJobs::at_hand + 1, 0);
  fill(10, 1);
  EXPECT_EQ(held_.jobs.size(1), 10u);
  EXPECT_EQ(held_.away().size(0), 1u);
}

TEST_F(HeldJobsTest, WhatHoldsAPlaceOrWasTriedInThisRoundStaysAtHand) {
  fill(HeldJobs::at_hand + 1);
  JobPtr trial = job(9001);
  trial->holds_trial = true;
  JobPtr tried = job(9002);
  tried->tried.push_back({});
  JobPtr charged = job(9003);
  charged->charged.emplace();
  for (JobPtr* one : {&trial, &tried, &charged}) held_.add(std::move(*one), 1);
  EXPECT_EQ(held_.away().size(), 1u);
  EXPECT_EQ(held_.jobs.size(), HeldJobs::at_hand + 3);
}

TEST_F(HeldJobsTest, CallsTheOldestBackWhenFewAreLeftAtHand) {
  fill(HeldJobs::at_hand + 500);
  EXPECT_FALSE(held_.hungry());
  EXPECT_TRUE(held_.call_back(at(5000), 10, all).empty());
  take_from_hand(HeldJobs::at_hand - HeldJobs::call_below + 1);
  EXPECT_TRUE(held_.hungry());
  const auto called = held_.call_back(at(5000), 10, all);
  ASSERT_EQ(called.size(), 10u);
  EXPECT_EQ(called.front()->message->id, smtp::MessageId{HeldJobs::at_hand + 1});
  EXPECT_EQ(called.front()->next_at, at(5000));
  EXPECT_TRUE(called.front()->called);
  EXPECT_TRUE(held_.call_back(at(5000), 10, [](std::uint32_t) { return false; }).empty());
}

TEST_F(HeldJobsTest, WhatWasCalledBackIsNotPutAwayAgainAtOnce) {
  fill(HeldJobs::at_hand + 500);
  take_from_hand(HeldJobs::at_hand);
  auto called = held_.call_back(at(5000), 100, all);
  for (auto& one : called) held_.add(std::move(one), 1);
  EXPECT_EQ(held_.jobs.size(), 100u);
  EXPECT_EQ(held_.away().size(), 400u);
  held_.add(job(9000), 1);  // behind the others
  EXPECT_EQ(held_.away().size(), 401u);
}

TEST_F(HeldJobsTest, GivesUpWhatIsTooOldWhereverItIs) {
  fill(HeldJobs::at_hand + 500);
  EXPECT_LE(held_.next_expiry(), at(1) + max_age);
  const auto first = held_.take_expired(at(10) + max_age);
  EXPECT_EQ(first.size(), 10u);
  const auto rest = held_.take_expired(at(HeldJobs::at_hand + 5) + max_age + 2s);
  EXPECT_EQ(held_.jobs.size(), 0u);
  EXPECT_EQ(rest.size(), HeldJobs::at_hand - 10 + 7);
  EXPECT_EQ(held_.next_expiry(), at(HeldJobs::at_hand + 8) + max_age);
  EXPECT_EQ(held_.size(), 493u);
}

TEST_F(HeldJobsTest, GivesNothingUpThatMayWaitLongerByNow) {
  fill(HeldJobs::at_hand + 5);
  take_from_hand(HeldJobs::at_hand);
  max_age_ = 2 * max_age;
  EXPECT_TRUE(held_.take_expired(at(HeldJobs::at_hand + 10) + max_age).empty());
  EXPECT_EQ(held_.size(), 5u);
  EXPECT_EQ(held_.next_expiry(), at(HeldJobs::at_hand + 1) + 2 * max_age);
}

TEST_F(HeldJobsTest, OfWhatIsAwayGivesUpSoManyAtOnce) {
  fill(HeldJobs::at_hand + 2 * HeldJobs::many);
  take_from_hand(HeldJobs::at_hand);
  EXPECT_EQ(held_.take_expired(at(1'000'000)).size(), HeldJobs::many);
  EXPECT_EQ(held_.take_expired(at(1'000'000)).size(), HeldJobs::many);
  EXPECT_TRUE(held_.empty());
  EXPECT_EQ(held_.next_expiry(), routing::Time::max());
}

TEST_F(HeldJobsTest, VisitsAllAndKeepsWhatIsLeftOfADividedOne) {
  fill(HeldJobs::at_hand + 2);
  JobPtr divided = job(9000);
  divided->recipients = {0, 1};
  divided->message->open = 2;
  held_.add(std::move(divided), 1);
  std::size_t seen = 0;
  held_.erase_if(at(7), [&](JobPtr& one) {
    ++seen;
    if (one->message->id == smtp::MessageId{9000}) one->recipients.pop_back();
    return one->message->id == smtp::MessageId{HeldJobs::at_hand + 1};
  });
  EXPECT_EQ(seen, HeldJobs::at_hand + 3);
  EXPECT_EQ(held_.away().size(), 2u);
  ASSERT_EQ(held_.away().copies_of(smtp::MessageId{9000}).size(), 1u);
  EXPECT_EQ(held_.away().copies_of(smtp::MessageId{9000})[0]->recipients, std::vector<std::uint32_t>{0});
  EXPECT_EQ(held_.next_expiry(), at(1) + max_age);
}

}  // namespace
}  // namespace egret::relay
