#include "relay/delivery/job.hpp"

#include <gtest/gtest.h>

#include "relay/delivery/resting.hpp"

namespace egret::relay {
namespace {

JobPtr job(std::vector<std::uint32_t> recipients) {
  auto out = std::make_unique<Job>();
  out->message = std::make_shared<MessageRef>();
  out->message->open = static_cast<std::uint32_t>(recipients.size());
  out->recipients = std::move(recipients);
  return out;
}

TEST(Parts, OfAJobThatIsNotDividedAreTheJobItself) {
  JobPtr whole = job({0, 1});
  const Job* const address = whole.get();
  Parts parts(std::move(whole));
  const JobPtr only = parts.take({0, 1});
  EXPECT_EQ(only.get(), address);
  EXPECT_EQ(only->message.use_count(), 1);
  EXPECT_TRUE(Resting::fits(*only));
}

TEST(Parts, ShareTheMessage) {
  Parts parts(job({0, 1, 2}));
  const JobPtr first = parts.take({1});
  const JobPtr rest = parts.take({0, 2});
  EXPECT_EQ(first->recipients, (std::vector<std::uint32_t>{1}));
  EXPECT_EQ(rest->recipients, (std::vector<std::uint32_t>{0, 2}));
  EXPECT_EQ(first->message, rest->message);
  EXPECT_EQ(rest->message.use_count(), 2);
}

/// One recipient has the message, the other waits: what waits is kept as small as a message that waits as a whole.
TEST(Parts, WithoutThoseThatAreDoneAreTheJobItself) {
  JobPtr whole = job({0, 1});
  whole->message->open = 1;
  Parts parts(std::move(whole), 1);
  const JobPtr rest = parts.take({1});
  EXPECT_EQ(rest->message.use_count(), 1);
  EXPECT_TRUE(Resting::fits(*rest));
}

TEST(Parts, HoldNeitherTrialNorCharge) {
  JobPtr whole = job({0, 1});
  whole->holds_trial = true;
  whole->charged.emplace();
  whole->shaped.emplace();
  Parts parts(std::move(whole));
  const JobPtr both[] = {parts.take({0}), parts.take({1})};
  for (const JobPtr& part : both) {
    EXPECT_FALSE(part->holds_trial);
    EXPECT_FALSE(part->charged);
    EXPECT_FALSE(part->shaped);
  }
}

TEST(MessageRef, CopiedForAReportHasNothingOpen) {
  MessageRef message;
  message.id = smtp::MessageId{7};
  message.size = 4711;
  message.open = 3;
  message.poison = true;
  const MessageRef copy(message);
  EXPECT_EQ(copy.id, message.id);
  EXPECT_EQ(copy.size, 4711u);
  EXPECT_EQ(copy.open.load(), 0u);
  EXPECT_FALSE(copy.poison.load());
}

}  // namespace
}  // namespace egret::relay
