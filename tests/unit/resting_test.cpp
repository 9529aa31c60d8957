#include "relay/delivery/resting.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace egret::relay {
namespace {

using namespace std::chrono_literals;

routing::Time at(int seconds) {
  return routing::Time(std::chrono::seconds(seconds));
}

JobPtr job(std::uint64_t id, routing::Time next_at, std::uint32_t message_class = 0) {
  auto out = std::make_unique<Job>();
  out->message = std::make_shared<MessageRef>();
  out->message->id = smtp::MessageId{id};
  out->message->message_class = message_class;
  out->message->accepted = at(1);
  out->message->expires = at(1) + 24h;
  out->message->size = 4711;
  out->message->open = 1;
  out->recipients = {0};
  out->next_at = next_at;
  return out;
}

/// For these recipients of a message that has `open` of them.
JobPtr job_for(std::uint64_t id, routing::Time next_at, std::vector<std::uint32_t> recipients, std::uint32_t open) {
  JobPtr out = job(id, next_at);
  out->recipients = std::move(recipients);
  out->message->open = open;
  return out;
}

class RestingTest : public testing::Test {
 protected:
  std::vector<std::uint64_t> due(int seconds, std::size_t most = 100) {
    std::vector<std::uint64_t> out;
    for (const auto& one : resting_.take_due(at(seconds), most, [](std::uint32_t) { return true; }))
      out.push_back(static_cast<std::uint64_t>(one->message->id));
    return out;
  }
  Resting resting_{[](std::uint32_t, routing::Time accepted) { return accepted + 24h; }};
};

TEST_F(RestingTest, OfAVeryLongReplyKeepsTheCodes) {
  JobPtr in = job(7, at(50));
  in->last_reply = "451-4.7.1 later " + std::string(1500, 'x') + "\n451 4.7.1 " + std::string(1500, 'y');
  resting_.add(std::move(in));
  const auto out = resting_.take_due(at(50), 10, [](std::uint32_t) { return true; });
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0]->last_reply, "451 4.7.1");
}

TEST_F(RestingTest, GivesWhatWasLoadedInTheOrderOfItsTime) {
  const std::string none;
  for (const std::uint32_t n : {5u, 2u, 9u, 1u})
    resting_.load({.id = smtp::MessageId{n}, .next_at = at(static_cast<int>(n)), .recipients = 1, .reply = none, .host = none});
  resting_.sort();
  EXPECT_EQ(due(4), (std::vector<std::uint64_t>{1, 2}));
  EXPECT_EQ(due(10, 1), (std::vector<std::uint64_t>{5}));
}

TEST_F(RestingTest, CountsByClass) {
  resting_.add(job(1, at(1), 0));
  resting_.add(job(2, at(1), 3));
  resting_.add(job(3, at(1), 3));
  EXPECT_EQ(resting_.size(3), 2u);
  EXPECT_EQ(resting_.size(7), 0u);
}

TEST_F(RestingTest, GivesAJobBackAsItWas) {
  JobPtr in = job(7, at(50), 3);
  in->message->report = true;
  in->recipients = {4, 5, 6};
  in->message->open = 3;
  in->attempts = 9;
  in->sticky = routing::EgressRef{routing::EgressKind::smarthost, 2};
  in->sticky_strict = in->ambiguous = in->warned = true;
  in->last_reply = "451 4.7.1 later";
  in->last_host = "mx.example.net";
  ASSERT_TRUE(Resting::fits(*in));
  resting_.add(std::move(in));
  EXPECT_EQ(resting_.next(), at(50));
  EXPECT_TRUE(due(49).empty());
  const auto out = resting_.take_due(at(50), 10, [](std::uint32_t) { return true; });
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0]->message->id, smtp::MessageId{7});
  EXPECT_EQ(out[0]->message->message_class, 3u);
  EXPECT_EQ(out[0]->message->expires, at(1) + 24h);
  EXPECT_EQ(out[0]->message->size, 4711u);
  EXPECT_EQ(out[0]->message->open, 3u);
  EXPECT_TRUE(out[0]->message->report);
  EXPECT_EQ(out[0]->recipients, (std::vector<std::uint32_t>{4, 5, 6}));
  EXPECT_EQ(out[0]->attempts, 9u);
  EXPECT_EQ(out[0]->sticky, (routing::EgressRef{routing::EgressKind::smarthost, 2}));
  EXPECT_TRUE(out[0]->sticky_strict && out[0]->ambiguous && out[0]->warned);
  EXPECT_EQ(out[0]->last_reply, "451 4.7.1 later");
  EXPECT_EQ(out[0]->last_host, "mx.example.net");
  EXPECT_TRUE(resting_.empty());
}

TEST_F(RestingTest, TakesTheLongestDueFirstAndTheOlderOfTwo) {
  for (const auto& [id, when] : {std::pair{5, 30}, {4, 10}, {9, 20}, {8, 20}, {1, 99}}) resting_.add(job(id, at(when)));
  EXPECT_EQ(due(30), (std::vector<std::uint64_t>{4, 8, 9, 5}));
  EXPECT_EQ(resting_.size(), 1u);
}

TEST_F(RestingTest, LetsNoClassWaitBehindACrowdOfAnother) {
  for (std::uint64_t i = 0; i < 1000; ++i) resting_.add(job(100 + i, at(1), 1));
  resting_.add(job(5, at(2), 0));
  const auto out = due(3, 10);
  EXPECT_EQ(out.size(), 11u);
  EXPECT_TRUE(std::ranges::count(out, 5u));
}

TEST_F(RestingTest, DoesNotFitWithABodyOrSomebodyWhoWaits) {
  JobPtr with_body = job(1, at(1));
  with_body->content = std::make_shared<spool::Message>();
  EXPECT_FALSE(Resting::fits(*with_body));
  JobPtr with_site = job(2, at(1));
  with_site->site = std::make_shared<Site>();
  EXPECT_FALSE(Resting::fits(*with_site));
  EXPECT_TRUE(Resting::fits(*job(3, at(1))));
}

TEST_F(RestingTest, GivesPartsOfAMessageBackWithWhatTheyShare) {
  JobPtr first = job_for(1, at(1), {0, 2}, 3);
  JobPtr second = part_of(*first, {1});
  const std::weak_ptr<MessageRef> message = first->message;
  second->next_at = at(2);
  resting_.add(std::move(first));
  resting_.add(std::move(second));
  EXPECT_EQ(message.use_count(), 2);
  const auto parts = resting_.take_due(at(2), 10, [](std::uint32_t) { return true; });
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[0]->recipients, (std::vector<std::uint32_t>{0, 2}));
  EXPECT_EQ(parts[1]->recipients, (std::vector<std::uint32_t>{1}));
  EXPECT_EQ(parts[0]->message, parts[1]->message);
  EXPECT_EQ(parts[0]->message, message.lock());
  EXPECT_EQ(parts[0]->message->open, 3u);
}

TEST_F(RestingTest, KeepsWhatNumbersDoNotSay) {
  JobPtr poison = job(1, at(1));
  poison->message->poison = true;
  JobPtr large = job(2, at(2));
  large->message->size = 5'000'000'000;
  JobPtr gaps = job_for(3, at(3), {0, 2}, 2);
  for (JobPtr* one : {&poison, &large, &gaps}) resting_.add(std::move(*one));
  const auto out = resting_.take_due(at(9), 10, [](std::uint32_t) { return true; });
  ASSERT_EQ(out.size(), 3u);
  EXPECT_TRUE(out[0]->message->poison);
  EXPECT_EQ(out[1]->message->size, 5'000'000'000u);
  EXPECT_EQ(out[2]->recipients, (std::vector<std::uint32_t>{0, 2}));
  for (const auto& one : out) EXPECT_EQ(one->message.use_count(), 1);
}

TEST_F(RestingTest, ReusesThePlacesOfPartsThatAreGone) {
  for (std::uint64_t round = 0; round < 3; ++round) {
    std::vector<std::weak_ptr<MessageRef>> messages;
    for (std::uint64_t id = 1; id <= 5; ++id) {
      JobPtr part = job(id, at(static_cast<int>(id)));
      part->message->open = 2;
      messages.push_back(part->message);
      resting_.add(std::move(part));
    }
    EXPECT_EQ(due(3), (std::vector<std::uint64_t>{1, 2, 3}));
    EXPECT_TRUE(messages[0].expired());
    EXPECT_FALSE(messages[4].expired());
    EXPECT_EQ(due(9), (std::vector<std::uint64_t>{4, 5}));
    EXPECT_TRUE(messages[4].expired());
  }
}

TEST_F(RestingTest, KeepsTheRestOfADividedMessageOfWhichSomeWereTaken) {
  resting_.add(job_for(1, at(5), {0, 3}, 9));
  resting_.add(job(2, at(6)));
  std::vector<JobPtr> changed;
  resting_.erase_if([](JobPtr& one) { return one->recipients.size() > 1 && (one->recipients.pop_back(), false); }, changed);
  ASSERT_EQ(changed.size(), 1u);
  EXPECT_EQ(changed[0]->recipients, std::vector<std::uint32_t>{0});
  EXPECT_EQ(changed[0]->message.use_count(), 1);
  EXPECT_EQ(due(100), std::vector<std::uint64_t>{2});
}

TEST_F(RestingTest, KeepsAPartlyTakenJobApart) {
  resting_.add(job_for(1, at(5), {0, 1}, 2));
  resting_.add(job(2, at(6)));
  resting_.add(job(3, at(7)));
  std::vector<JobPtr> changed, taken;
  resting_.erase_if(
      [&](JobPtr& one) {
        if (one->message->id == smtp::MessageId{1}) one->recipients.pop_back();
        if (one->message->id != smtp::MessageId{2}) return false;
        taken.push_back(std::move(one));
        return true;
      },
      changed);
  ASSERT_EQ(changed.size(), 1u);
  EXPECT_EQ(changed[0]->recipients.size(), 1u);
  EXPECT_EQ(taken.size(), 1u);
  EXPECT_EQ(due(100), std::vector<std::uint64_t>{3});
}

TEST_F(RestingTest, KeepsOnlyTheCodesOfTooManyDifferentReplies) {
  for (std::uint64_t i = 0; i < Resting::most_texts + 100; ++i) {
    JobPtr one = job(i + 1, at(1));
    one->last_reply = "451 4.7.1 queue id " + std::to_string(i);
    resting_.add(std::move(one));
  }
  const auto out = resting_.take_due(at(2), Resting::most_texts + 100, [](std::uint32_t) { return true; });
  EXPECT_EQ(out.front()->last_reply, "451 4.7.1 queue id 0");
  EXPECT_EQ(out.back()->last_reply, "451 4.7.1");
}

TEST(SharedTextsTest, AreKeptOnceAndGoWithTheirLastUser) {
  SharedTexts texts;
  const auto a = texts.keep("a", "", 10), again = texts.keep("a", "", 10), b = texts.keep("b", "", 10);
  EXPECT_EQ(a, again);
  EXPECT_NE(a, b);
  EXPECT_EQ(texts.size(), 2u);
  texts.release(a);
  EXPECT_EQ(texts[a], "a");
  texts.release(again);
  EXPECT_EQ(texts.size(), 1u);
  EXPECT_EQ(texts[texts.keep("c", "", 10)], "c");
  EXPECT_EQ(texts[b], "b");
  EXPECT_EQ(texts.keep("", "", 10), 0u);
}

}  // namespace
}  // namespace egret::relay
