#include "relay/reputation/unknown_replies.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

namespace egret::relay {
namespace {

routing::Time at(int second) {
  return routing::Time{std::chrono::seconds(second)};
}

TEST(NormalisedReply, KeepsTheCodesAndMasksWhatDiffers) {
  EXPECT_EQ(normalised_reply("550 5.7.1 <bob@example.com> from [192.0.2.1] refused, id 4Xq2k91Zz, 17 times."),
            "550 5.7.1 <ADDRESS> from [IP] refused, id ID, # times.");
  EXPECT_EQ(normalised_reply("451 try again in 300 seconds"), "451 try again in # seconds");
  EXPECT_EQ(normalised_reply("550 [2001:db8::1] no"), "550 [IP] no");
}

TEST(NormalisedReply, MakesOneLineOfMany) {
  EXPECT_EQ(normalised_reply("550-a\r\n550   b"), "550-a # b");
}

TEST(NormalisedReply, IsBounded) {
  EXPECT_LE(normalised_reply(std::string(100000, 'x')).size(), 512u);
}

TEST(UnknownReplies, CountsRepliesThatDifferInParticularsAsOne) {
  UnknownReplies replies;
  replies.add("550 no, 192.0.2.1", "one.example", at(1));
  replies.add("550 no, 192.0.2.2", "two.example", at(5));
  const auto all = replies.all();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].text, "550 no, IP");
  EXPECT_EQ(all[0].count, 2u);
  EXPECT_EQ(all[0].first_seen, at(1));
  EXPECT_EQ(all[0].last_seen, at(5));
  EXPECT_EQ(all[0].provider, "two.example");
  EXPECT_EQ(all[0].example, "550 no, 192.0.2.2");
}

TEST(UnknownReplies, ListTheMostFrequentFirst) {
  UnknownReplies replies;
  replies.add("550 seldom", "", at(1));
  replies.add("550 often", "", at(1));
  replies.add("550 often", "", at(2));
  ASSERT_EQ(replies.all().size(), 2u);
  EXPECT_EQ(replies.all().front().text, "550 often");
}

/// Words that differ in letters, not in digits.
std::string word(std::size_t n) {
  std::string out = "550 ";
  for (int i = 0; i < 4; ++i, n /= 26) out += static_cast<char>('a' + n % 26);
  return out;
}

TEST(UnknownReplies, KeepsABoundedNumberAndForgetsTheRarest) {
  UnknownReplies replies;
  for (int i = 0; i < 2; ++i) replies.add("550 frequent", "", at(i));
  for (std::size_t n = 0; n < 2 * UnknownReplies::kept; ++n) replies.add(word(n), "", at(static_cast<int>(n)));
  const auto all = replies.all();
  EXPECT_EQ(all.size(), UnknownReplies::kept);
  EXPECT_EQ(all.front().text, "550 frequent");
  EXPECT_EQ(std::ranges::count(all, word(0), &UnknownReply::text), 0);
  EXPECT_EQ(std::ranges::count(all, word(2 * UnknownReplies::kept - 1), &UnknownReply::text), 1);
}

TEST(UnknownReplies, MayBeFedFromManyThreads) {
  UnknownReplies replies;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < 500; ++i) replies.add("550 same", "", at(i));
      });
  }
  ASSERT_EQ(replies.all().size(), 1u);
  EXPECT_EQ(replies.all().front().count, 2000u);
}

}  // namespace
}  // namespace egret::relay
