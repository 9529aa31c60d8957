#include "routing/sender_stats.hpp"

#include <gtest/gtest.h>

namespace egret::routing {
namespace {

using namespace std::chrono_literals;

const Time start{std::chrono::hours(500'000)};

Tally tally_of(std::string_view user, std::uint64_t recipients, std::uint64_t delivered = 0, std::uint64_t unknown = 0) {
  Tally out;
  const SenderOf who{user, "a@x.test", "x.test", "192.0.2.0/24"};
  if (recipients > 0) out.accepted(who, recipients);
  SenderCounts counts;
  counts.delivered = delivered;
  counts.bounced = unknown;
  counts.rejects[static_cast<std::size_t>(Label::recipient)] = unknown;
  UserOutcomes outcomes;
  outcomes.delivered = delivered;
  outcomes.unknown = unknown;
  out.outcome(who, counts, outcomes);
  return out;
}

TEST(SenderStats, AnswerWhoSendsWhatByHour) {
  SenderStats stats;
  stats.add(tally_of("joe", 10, 8, 2), start);
  stats.add(tally_of("joe", 5, 5), start + 1h);
  stats.add(tally_of("ann", 100, 100), start + 1h);
  const auto report = stats.report(SenderKind::user, 24, 10, start + 1h);
  ASSERT_EQ(report.top.size(), 2u);
  EXPECT_EQ(report.top[0].name, "ann");
  const SenderRow& joe = report.top[1];
  EXPECT_EQ(joe.total.messages, 2u);
  EXPECT_EQ(joe.total.recipients, 15u);
  EXPECT_EQ(joe.total.delivered, 13u);
  EXPECT_EQ(joe.total.bounced, 2u);
  ASSERT_EQ(joe.hours.size(), 2u);
  EXPECT_EQ(joe.hours[0].second.recipients, 10u);
  EXPECT_EQ(joe.hours[1].second.recipients, 5u);
  EXPECT_EQ(report.all.total.recipients, 115u);
  EXPECT_EQ(stats.report(SenderKind::domain, 24, 10, start + 1h).top.at(0).total.recipients, 115u);
  EXPECT_EQ(stats.report(SenderKind::user, 1, 10, start + 1h).all.total.recipients, 105u);
}

TEST(SenderStats, WhoIsNotShownIsAmongTheOthers) {
  SenderStats stats;
  for (int i = 1; i <= 5; ++i) stats.add(tally_of("u" + std::to_string(i), static_cast<std::uint64_t>(i)), start);
  const auto report = stats.report(SenderKind::user, 24, 2, start);
  ASSERT_EQ(report.top.size(), 2u);
  EXPECT_EQ(report.top[0].name, "u5");
  EXPECT_EQ(report.others.total.recipients, 6u);
}

TEST(SenderStats, AreBoundedAndKeepTheLargest) {
  SenderStats stats;
  stats.add(tally_of("big", 1'000'000), start);
  for (int i = 0; i < 3000; ++i) stats.add(tally_of("u" + std::to_string(i), 1), start);
  const auto& names = stats.hours().begin()->second.kinds[static_cast<std::size_t>(SenderKind::user)].names;
  EXPECT_LE(names.size(), 2 * SenderStats::names_kept);
  const auto report = stats.report(SenderKind::user, 1, 1, start);
  EXPECT_EQ(report.top.at(0).name, "big");
  EXPECT_EQ(report.all.total.recipients, 1'003'000u);
  EXPECT_EQ(report.others.total.recipients, 3'000u);
  for (int i = 0; i < 100; ++i) stats.add(tally_of("joe", 1), start + i * 1h);
  EXPECT_EQ(stats.hours().size(), SenderStats::hours_kept);
}

TEST(SenderStats, AHourSurvivesAsText) {
  SenderStats stats;
  stats.add(tally_of("j\"\xff", 10, 8, 2), start);
  const auto& hour = stats.hours().begin()->second;
  const auto back = decode_hour(encode_hour(hour));
  ASSERT_TRUE(back);
  EXPECT_EQ(encode_hour(*back), encode_hour(hour));
  for (const char* text : {"", "{}", "[]", "[[{},[]]]", "[1,2,3,4]", "[[{},[1]],[{},[1]],[{},[1]],[{},[1]]]"})
    EXPECT_FALSE(decode_hour(text)) << text;
}

TEST(Tally, StrangersAreCountedByNetworkAndDomain) {
  EXPECT_EQ(tally_of("", 7).strangers.size(), 2u);
  EXPECT_TRUE(tally_of("", 7).outcomes_of.empty());
  EXPECT_TRUE(tally_of("joe", 7, 7).strangers.empty());
  EXPECT_EQ(tally_of("joe", 7, 7).outcomes_of.at("joe").delivered, 7u);
}

TEST(Tally, AFloodOfNamesIsBounded) {
  Tally tally;
  for (std::size_t i = 0; i < 2 * Tally::max_names; ++i) tally.accepted({"u" + std::to_string(i), "s", "d", "n"}, 1);
  EXPECT_LE(tally.by_kind[0].size(), Tally::max_names + 1);
}

}  // namespace
}  // namespace egret::routing
