#include <gtest/gtest.h>

#include "relay/delivery/history.hpp"

namespace egret::relay {
namespace {

AttemptRecord attempt(int n) {
  AttemptRecord out;
  out.time = routing::Time(routing::Duration(1'000 + n));
  out.egress = "out1";
  out.site = "mx.example";
  out.outcome = "deferred";
  out.reply = "451 4.7.1 " + std::string(static_cast<std::size_t>(n), 'x');
  out.route = "first choice";
  for (int i = 0; i < n; ++i) out.recipients.push_back("user" + std::to_string(i) + "@example.com");
  return out;
}

TEST(MessageHistory, GivesBackEachAttemptAsItWas) {
  History history;
  history.of(smtp::MessageId{7}).sender = "a@example.com";
  for (int n = 0; n < 4; ++n) history.add(smtp::MessageId{7}, attempt(n));
  const auto found = history.find(smtp::MessageId{7});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->sender, "a@example.com");
  ASSERT_EQ(found->attempts.size(), 4u);
  for (int n = 0; n < 4; ++n) {
    const AttemptRecord& out = found->attempts[static_cast<std::size_t>(n)];
    const AttemptRecord in = attempt(n);
    EXPECT_EQ(out.time, in.time);
    EXPECT_EQ(out.egress, in.egress);
    EXPECT_EQ(out.site, in.site);
    EXPECT_EQ(out.host, "");
    EXPECT_EQ(out.outcome, in.outcome);
    EXPECT_EQ(out.reply, in.reply);
    EXPECT_EQ(out.route, in.route);
    EXPECT_EQ(out.recipients, in.recipients);
  }
  EXPECT_FALSE(history.find(smtp::MessageId{8}));
}

TEST(MessageHistory, IsBoundedInMessagesAndAttempts) {
  History history;
  for (std::uint64_t id = 1; id <= History::kept + 1; ++id) history.of(smtp::MessageId{id});
  EXPECT_FALSE(history.head(smtp::MessageId{1}));
  EXPECT_TRUE(history.head(smtp::MessageId{2}));
  for (std::size_t n = 0; n < History::attempts_kept + 5; ++n) history.add(smtp::MessageId{2}, attempt(1));
  EXPECT_EQ(history.find(smtp::MessageId{2})->attempts.size(), History::attempts_kept);
  history.add(smtp::MessageId{1}, attempt(1));
  EXPECT_FALSE(history.find(smtp::MessageId{1})) << "one that is forgotten stays forgotten";
}

}  // namespace
}  // namespace egret::relay
