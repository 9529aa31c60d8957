#include "routing/probe_schedule.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>

namespace egret::routing {
namespace {

using namespace std::chrono_literals;

constexpr Instant round_trip = 20ms;

/// One query as it went out.
struct Sent {
  Instant at;
  std::size_t list;
  std::optional<std::size_t> target;
  std::uint64_t queries;
};

/// Drives a schedule as the prober does; every answer comes after one round trip.
class Driver {
 public:
  ProbeSchedule schedule;
  Duration ttl = 10s;
  std::optional<Duration> soon;
  Duration health_again = 30min;
  std::vector<Sent> sent;

  explicit Driver(ProbeSchedule s) : schedule(std::move(s)) {}

  void until(Instant end) {
    while (true) {
      Instant at = std::max(schedule.next(), now_);
      if (!answers_.empty()) at = std::min(at, std::max(answers_.begin()->first, now_));
      if (at > end) break;
      now_ = at;
      step();
    }
    now_ = end;
  }

  /// As if the program had not run for a while.
  void jump(Instant by) { now_ += by; }
  Instant now() const { return now_; }

  /// The most queries in any window of this length.
  std::uint64_t most_in(Instant window) const {
    std::uint64_t most = 0, inside = 0;
    for (std::size_t first = 0, last = 0; last < sent.size(); ++last) {
      inside += sent[last].queries;
      while (sent[last].at - sent[first].at >= window) inside -= sent[first++].queries;
      most = std::max(most, inside);
    }
    return most;
  }

  std::vector<Instant> times(std::size_t list, std::size_t target) const {
    std::vector<Instant> out;
    for (const Sent& s : sent)
      if (s.list == list && s.target == target) out.push_back(s.at);
    return out;
  }

 private:
  void step() {
    while (!answers_.empty() && answers_.begin()->first <= now_) {
      const auto turn = answers_.begin()->second;
      answers_.erase(answers_.begin());
      if (turn.target) {
        schedule.answered(turn.list, *turn.target, now_, ttl, soon);
      } else {
        schedule.open(turn.list, true);
        schedule.health_done(turn.list, now_, health_again);
      }
    }
    while (const auto turn = schedule.take(now_)) {
      sent.push_back({now_, turn->list, turn->target, turn->target ? 1 : ProbeSchedule::health_queries});
      answers_.emplace(now_ + round_trip, *turn);
    }
  }

  Instant now_{0};
  std::multimap<Instant, ProbeSchedule::Turn> answers_;
};

ProbePlan plan(std::size_t targets, Duration interval = 5min, std::optional<QueryRate> budget = {}) {
  return {targets, interval, std::min<Duration>(interval * 6, 30min), budget};
}

Driver driver(std::vector<ProbePlan> lists, QueryRate all = {50, 1s}, std::uint64_t seed = 7) {
  return Driver(ProbeSchedule(std::move(lists), all, seed));
}

// ---- pace --------------------------------------------------------------------------------------------------------

TEST(QueryPace, LetsABurstGoAndThenOneAtATime) {
  QueryPace pace({10, 1s}, 3);
  for (int i = 0; i < 3; ++i) {
    EXPECT_LE(pace.ready(), Instant(0));
    pace.spend(Instant(0));
  }
  EXPECT_EQ(pace.ready(), Instant(100ms));
  EXPECT_EQ(pace.ready(3), Instant(300ms));
}

TEST(QueryPace, ABudgetIsNeverExceededInAnyPeriod) {
  for (const std::uint64_t count : {1u, 3u, 10u, 100u, 1000u, 30000u}) {
    QueryPace pace = QueryPace::budget({count, 1h});
    std::vector<Instant> sent;
    for (Instant now{0}; now < Instant(3h); now = std::max(now + Instant(1), pace.ready())) {
      pace.spend(now);
      sent.push_back(now);
    }
    for (std::size_t i = 0; i + count < sent.size(); ++i)
      EXPECT_GT(sent[i + count] - sent[i], Instant(1h) - Instant(1s)) << count;
  }
}

// ---- no burst ----------------------------------------------------------------------------------------------------

TEST(ProbeSchedule, SixtyFourSourcesOnThirtyListsStayWithinTheRateFromTheStartOn) {
  Driver d = driver(std::vector<ProbePlan>(30, plan(64)));
  d.until(1h);
  const std::uint64_t peak = d.most_in(1s);
  EXPECT_LE(peak, 50 + ProbeSchedule::health_queries);
  std::uint64_t steady = 0;
  for (const Sent& s : d.sent)
    if (s.at >= Instant(10min)) steady += s.queries;
  const double rate = static_cast<double>(steady) / (50 * 60);
  RecordProperty("peak_per_second", std::to_string(peak));
  RecordProperty("steady_per_second", std::to_string(rate));
  EXPECT_NEAR(rate, 64 * 30 / 300.0, 0.3);
  EXPECT_FALSE(d.schedule.stretched(0));
  for (std::size_t list = 0; list < 30; ++list)
    for (std::size_t target = 0; target < 64; ++target) {
      const auto times = d.times(list, target);
      ASSERT_GE(times.size(), 10u);
      EXPECT_LT(times.front(), Instant(60s)) << "the first round takes no longer than the rate makes it";
    }
}

TEST(ProbeSchedule, NoListGetsItsPartOfTheFirstRoundAtOnce) {
  Driver d = driver(std::vector<ProbePlan>(30, plan(64)));
  d.until(1min);
  std::map<std::size_t, std::vector<Instant>> by_list;
  for (const Sent& s : d.sent) by_list[s.list].push_back(s.at);
  for (const auto& [list, times] : by_list)
    for (std::size_t i = 0; i + 12 < times.size(); ++i) EXPECT_GE(times[i + 12] - times[i], Instant(1s)) << list;
}

TEST(ProbeSchedule, TenThousandAddressesOnTwentyListsAreStretchedToTheRate) {
  Driver d = driver(std::vector<ProbePlan>(20, plan(10'000)), {100, 1s});
  EXPECT_TRUE(d.schedule.stretched(0));
  EXPECT_GT(d.schedule.interval(0), Duration(40min));
  d.until(10min);
  EXPECT_LE(d.most_in(1s), 100 + ProbeSchedule::health_queries);
  EXPECT_GT(d.sent.size(), 30'000u);
}

TEST(ProbeSchedule, AnHourInWhichNothingRanIsFollowedByNoBurst) {
  Driver d = driver(std::vector<ProbePlan>(30, plan(64)));
  d.until(10min);
  d.jump(1h);
  const std::size_t before = d.sent.size();
  d.until(d.now() + Instant(2min));
  EXPECT_GT(d.sent.size(), before + 1900);
  EXPECT_LE(d.most_in(1s), 50 + ProbeSchedule::health_queries);
}

TEST(ProbeSchedule, ChecksComeWithinAFifthOfTheInterval) {
  Driver d = driver({plan(20)});
  d.until(2h);
  for (std::size_t target = 0; target < 20; ++target) {
    const auto times = d.times(0, target);
    for (std::size_t i = 1; i < times.size(); ++i) {
      EXPECT_GE(times[i] - times[i - 1], Instant(240s));
      EXPECT_LE(times[i] - times[i - 1], Instant(361s));
    }
  }
}

// ---- budgets -----------------------------------------------------------------------------------------------------

TEST(ProbeSchedule, ABudgetStretchesTheIntervalOfItsListAndOfNoOther) {
  Driver d = driver({plan(50, 5min, QueryRate{2000, 24h}), plan(50)});
  EXPECT_TRUE(d.schedule.stretched(0));
  EXPECT_FALSE(d.schedule.stretched(1));
  EXPECT_GT(d.schedule.interval(0), Duration(40min));
  d.until(48h);
  std::uint64_t spent = 0;
  for (const Sent& s : d.sent)
    if (s.list == 0 && s.at < Instant(24h)) spent += s.queries;
  EXPECT_LE(spent, 2000u);
  EXPECT_GT(spent, 1000u) << "and what it allows is used";
  for (std::size_t target = 0; target < 50; ++target) EXPECT_GE(d.times(0, target).size(), 10u) << target;
}

TEST(ProbeSchedule, ATinyBudgetStillAsksForHealthAndForEveryAddress) {
  Driver d = driver({plan(4, 5min, QueryRate{100, 24h})});
  d.health_again = 5min;
  d.until(72h);
  std::uint64_t spent = 0, health = 0;
  for (const Sent& s : d.sent) {
    if (s.at >= Instant(24h)) continue;
    spent += s.queries;
    health += !s.target;
  }
  EXPECT_LE(spent, 103u);
  EXPECT_GE(health, 3u);
  for (std::size_t target = 0; target < 4; ++target) EXPECT_GE(d.times(0, target).size(), 10u) << target;
}

TEST(ProbeSchedule, AnUrgentCheckFindsRoomInAUsedBudget) {
  Driver d = driver({plan(1000, 5min, QueryRate{20'000, 24h})});
  d.until(3h);
  ASSERT_TRUE(d.schedule.urgent(0, 3, d.now()));
  d.until(d.now() + Instant(2s));
  EXPECT_GE(d.times(0, 3).back(), Instant(3h));
}

// ---- TTL ---------------------------------------------------------------------------------------------------------

TEST(ProbeSchedule, AnAnswerIsNotAskedForAgainBeforeItsTtl) {
  Driver d = driver({plan(1)});
  d.soon = 30s;  // a confirmation is wanted
  d.ttl = 60s;
  d.until(5min);
  const auto times = d.times(0, 0);
  ASSERT_GE(times.size(), 4u);
  for (std::size_t i = 1; i < times.size(); ++i) EXPECT_GE(times[i] - times[i - 1], Instant(60s));
}

TEST(ProbeSchedule, AConfirmationDoesNotWaitForMoreThanTheTtl) {
  Driver d = driver({plan(1)});
  d.soon = 30s;
  d.ttl = 10s;
  d.until(5min);
  const auto times = d.times(0, 0);
  ASSERT_GE(times.size(), 4u);
  for (std::size_t i = 1; i < times.size(); ++i) EXPECT_EQ(times[i] - times[i - 1], Instant(30s) + round_trip);
}

TEST(ProbeSchedule, ATtlOfZeroIsASecondAndAHugeOneTheInterval) {
  Driver zero = driver({plan(1)});
  zero.soon = 0ms;
  zero.ttl = 0ms;
  zero.until(1min);
  const auto fast = zero.times(0, 0);
  ASSERT_GE(fast.size(), 10u);
  for (std::size_t i = 1; i < fast.size(); ++i) EXPECT_GE(fast[i] - fast[i - 1], Instant(1s));
  Driver huge = driver({plan(1)});
  huge.ttl = std::chrono::seconds(0x7fffffff);
  huge.until(1h);
  EXPECT_GE(huge.times(0, 0).size(), 9u);
}

// ---- urgent and hurried checks -----------------------------------------------------------------------------------

TEST(ProbeSchedule, AReceiversWordIsFollowedAtOnceWhateverTheTtlAndTheLoad) {
  Driver d = driver(std::vector<ProbePlan>(30, plan(64)));
  d.ttl = 5min;
  d.until(5s);  // in the middle of the first round
  ASSERT_TRUE(d.schedule.urgent(7, 12, d.now()));
  d.until(d.now() + Instant(200ms));
  const auto times = d.times(7, 12);
  ASSERT_FALSE(times.empty());
  EXPECT_GE(times.back(), Instant(5s));
}

TEST(ProbeSchedule, AReceiversWordIsFollowedOnceAMinute) {
  Driver d = driver({plan(2)});
  d.until(1min);
  EXPECT_TRUE(d.schedule.urgent(0, 0, d.now()));
  EXPECT_FALSE(d.schedule.urgent(0, 0, d.now() + Instant(59s)));
  EXPECT_TRUE(d.schedule.urgent(0, 1, d.now())) << "another source";
  EXPECT_TRUE(d.schedule.urgent(0, 0, d.now() + Instant(60s)));
}

TEST(ProbeSchedule, WhatIsInFlightIsAskedForOnceMoreAfterItsAnswer) {
  ProbeSchedule schedule({plan(1)}, {1000, 1s}, 1);
  ASSERT_FALSE(schedule.take(Instant(1s))->target);
  schedule.open(0, true);
  schedule.health_done(0, Instant(1s), 30min);
  const auto turn = schedule.take(Instant(2s));
  ASSERT_TRUE(turn && turn->target);
  EXPECT_TRUE(schedule.urgent(0, 0, Instant(2s)));
  schedule.hurry(0, Instant(2s));
  EXPECT_FALSE(schedule.take(Instant(3s)));
  schedule.answered(0, 0, Instant(3s), 1min, std::nullopt);
  EXPECT_TRUE(schedule.take(Instant(4s))) << "the answer may be older than what was told";
  schedule.answered(0, 0, Instant(4s), 1min, std::nullopt);
  EXPECT_FALSE(schedule.take(Instant(5s)));
}

TEST(ProbeSchedule, AnOperatorsRecheckKeepsThePace) {
  Driver d = driver(std::vector<ProbePlan>(10, plan(64)));
  d.until(3min);
  const std::size_t before = d.sent.size();
  const Instant asked = d.now();
  for (std::size_t list = 0; list < 10; ++list) d.schedule.hurry(list, asked);
  d.until(asked + Instant(20s));
  EXPECT_GE(d.sent.size() - before, 640u);
  EXPECT_LE(d.most_in(1s), 50 + ProbeSchedule::health_queries);
}

TEST(ProbeSchedule, AClosedListIsAskedForItsHealthOnly) {
  ProbeSchedule schedule({plan(5)}, {1000, 1s}, 1);
  for (Instant now{0}; now < Instant(10min); now += Instant(1s))
    while (const auto turn = schedule.take(now)) {
      EXPECT_FALSE(turn->target);
      schedule.health_done(0, now, 1min);
    }
  EXPECT_FALSE(schedule.next() == Instant::max());
}

}  // namespace
}  // namespace egret::routing
