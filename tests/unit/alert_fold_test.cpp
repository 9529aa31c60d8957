#include "relay/alerts/fold.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include "routing/event_kinds.hpp"

namespace egret::relay {
namespace {

using namespace std::chrono_literals;
using Phase = Alert::Phase;

constexpr routing::Time start{1'700'000'000'000ms};

Event event(std::string kind, std::string to, std::string blocklist = "zen") {
  Event out;
  out.id = 7;
  out.kind = std::move(kind);
  out.source = "out1";
  out.blocklist = std::move(blocklist);
  out.to = std::move(to);
  return out;
}
Event listed() {
  return event("listed", "listed");
}
Event delisted() {
  return event("delisted", "trial");
}
Event exhausted(std::string pool) {
  Event out;
  out.kind = "pool-exhausted";
  out.pool = std::move(pool);
  return out;
}

std::optional<Phase> phase(const std::optional<Alert>& alert) {
  return alert ? std::optional(alert->phase) : std::nullopt;
}

TEST(AlertFold, TellsTheFirstEventAndTheFirstTurnAtOnceInOneStory) {
  AlertFold fold;
  const auto first = fold.add(listed(), start);
  const auto second = fold.add(delisted(), start + 5min);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->phase, Phase::opened);
  EXPECT_EQ(second->phase, Phase::changed);
  EXPECT_EQ(second->id, first->id);
  EXPECT_EQ(first->sequence, 1u);
  EXPECT_EQ(second->sequence, 2u);
}

TEST(AlertFold, TwentyTurnsWithinAWindowAreFourAlerts) {
  AlertFold fold;
  std::vector<Alert> out;
  const auto take = [&](std::optional<Alert> alert) {
    if (alert) out.push_back(*alert);
  };
  for (int i = 0; i < 20; ++i) take(fold.add(i % 2 == 0 ? listed() : delisted(), start + i * 1min));
  ASSERT_EQ(out.size(), 3u);
  EXPECT_EQ(out[2].phase, Phase::flapping);
  EXPECT_TRUE(fold.due(start + 19min + 30min - 1ms).empty());
  const auto closing = fold.due(start + 19min + 30min);
  ASSERT_EQ(closing.size(), 1u);
  EXPECT_EQ(closing[0].phase, Phase::settled);
  EXPECT_EQ(closing[0].id, out[0].id);
  EXPECT_EQ(closing[0].counts, (std::map<std::string, std::uint64_t>{{"delisted", 10}, {"listed", 10}}));
  EXPECT_EQ(closing[0].event.kind, "delisted");
  EXPECT_EQ(closing[0].first, start);
  EXPECT_EQ(closing[0].last, start + 19min);
  EXPECT_EQ(fold.stories(), 0u);
}

TEST(AlertFold, FlappingThatGoesOnIsSummedUpEveryTwoWindows) {
  AlertFold fold;
  int told = 0, summaries = 0;
  for (int minute = 0; minute < 600; ++minute) {
    const routing::Time now = start + minute * 1min;
    if (minute % 10 == 0) told += fold.add(minute % 20 == 0 ? listed() : delisted(), now).has_value();
    for (const auto& alert : fold.due(now)) summaries += alert.phase == Phase::flapping;
  }
  EXPECT_EQ(told, 3);
  EXPECT_EQ(summaries, 9);
}

TEST(AlertFold, WhatIsNotFoldedEndsWithoutASummary) {
  AlertFold fold;
  fold.add(listed(), start);
  EXPECT_EQ(fold.next_due(), start + 30min);
  EXPECT_TRUE(fold.due(start + 30min).empty());
  EXPECT_EQ(fold.stories(), 0u);
  EXPECT_EQ(fold.next_due(), std::nullopt);
}

TEST(AlertFold, AfterAQuietWindowANewStoryBegins) {
  AlertFold fold;
  const auto before = fold.add(listed(), start);
  fold.due(start + 31min);
  const auto after = fold.add(listed(), start + 31min);
  EXPECT_EQ(phase(after), Phase::opened);
  EXPECT_NE(after->id, before->id);
}

TEST(AlertFold, TheSameStateAgainIsCountedAndSummedUp) {
  AlertFold fold;
  EXPECT_EQ(phase(fold.add(exhausted("main"), start)), Phase::opened);
  EXPECT_FALSE(fold.add(exhausted("main"), start + 1min));
  EXPECT_FALSE(fold.add(exhausted("main"), start + 2min));
  const auto closing = fold.due(start + 32min);
  ASSERT_EQ(closing.size(), 1u);
  EXPECT_EQ(closing[0].phase, Phase::settled);
  EXPECT_EQ(closing[0].counts.at("pool-exhausted"), 3u);
}

TEST(AlertFold, OtherSourcesListsPoolsAndMessagesAreOtherStories) {
  AlertFold fold;
  EXPECT_EQ(phase(fold.add(listed(), start)), Phase::opened);
  EXPECT_EQ(phase(fold.add(event("listed", "listed", "spamcop"), start)), Phase::opened);
  Event other = listed();
  other.source = "out2";
  EXPECT_EQ(phase(fold.add(other, start)), Phase::opened);
  EXPECT_EQ(phase(fold.add(exhausted("main"), start)), Phase::opened);
  EXPECT_EQ(phase(fold.add(exhausted("bulk"), start)), Phase::opened);
  Event poison;
  poison.kind = "poison";
  poison.message = "A";
  EXPECT_EQ(phase(fold.add(poison, start)), Phase::opened);
  poison.message = "B";
  EXPECT_EQ(phase(fold.add(poison, start)), Phase::opened);
}

TEST(AlertFold, ABlockIsOneStoryWhicheverListTheReceiverNames) {
  AlertFold fold;
  fold.add(event("blocked", "blocked", "zen"), start);
  EXPECT_FALSE(fold.add(event("blocked", "blocked", ""), start + 1min));
}

TEST(AlertFold, StatesWithoutEndAreNotAllTold) {
  AlertFold fold;
  int told = 0;
  for (int i = 0; i < 100; ++i) told += fold.add(event("listed", std::to_string(i)), start).has_value();
  EXPECT_EQ(told, 5);
}

TEST(AlertFold, MemoryIsBounded) {
  AlertFold fold;
  for (std::size_t i = 0; i < AlertFold::max_stories + 100; ++i) {
    Event e = listed();
    e.provider = std::to_string(i);
    fold.add(e, start + std::chrono::milliseconds(i));
  }
  EXPECT_EQ(fold.stories(), AlertFold::max_stories);
}

TEST(EventKinds, EveryKindThatTheProgramMakesIsKnown) {
  const std::regex literal("\\bkind = (?:[^;(\"]*\\? )?\"([a-z-]+)\"(?: : \"([a-z-]+)\")?");
  std::size_t seen = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(EGRET_SOURCE_DIR "/relay")) {
    if (entry.path().extension() != ".cpp") continue;
    std::ifstream in(entry.path());
    std::ostringstream text;
    text << in.rdbuf();
    const std::string source = text.str();
    for (std::sregex_iterator it(source.begin(), source.end(), literal), end; it != end; ++it)
      for (const int group : {1, 2})
        if ((*it)[group].matched) {
          ++seen;
          EXPECT_TRUE(routing::find_event_kind((*it)[group].str())) << entry.path() << ": " << (*it)[group].str();
        }
  }
  EXPECT_GE(seen, 4u) << "the test no longer finds where events are made";
}

TEST(EventKinds, EveryStandingThatASourceCanTakeIsAKind) {
  using routing::Standing;
  for (const auto standing : {Standing::clean, Standing::trial, Standing::warming, Standing::throttled, Standing::blocked,
                              Standing::listed, Standing::misconfigured, Standing::drained, Standing::unknown})
    EXPECT_TRUE(routing::find_event_kind(to_string(standing))) << to_string(standing);
}

}  // namespace
}  // namespace egret::relay
