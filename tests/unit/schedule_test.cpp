#include "routing/schedule.hpp"

#include <gtest/gtest.h>

namespace egret::routing {
namespace {

using namespace std::chrono_literals;

const std::vector<Duration> schedule{1min, 5min, 1h};
const Time now{std::chrono::hours(1000)};

TEST(Schedule, TakesItsEntriesInOrder) {
  EXPECT_EQ(next_attempt(schedule, 1, 0, now), now + 1min);
  EXPECT_EQ(next_attempt(schedule, 2, 0, now), now + 5min);
  EXPECT_EQ(next_attempt(schedule, 3, 0, now), now + 1h);
}

TEST(Schedule, RepeatsItsLastEntry) {
  EXPECT_EQ(next_attempt(schedule, 4, 0, now), now + 1h);
  EXPECT_EQ(next_attempt(schedule, 1'000'000, 0, now), now + 1h);
}

TEST(Schedule, TakesNoAttemptForTheFirst) {
  EXPECT_EQ(next_attempt(schedule, 0, 0, now), now + 1min);
}

TEST(Schedule, AddsUpToATenth) {
  EXPECT_EQ(next_attempt(schedule, 1, 1, now), now + 66s);
  EXPECT_EQ(next_attempt(schedule, 1, 0.5, now), now + 63s);
}

TEST(Schedule, NeverComesEarly) {
  for (int i = 0; i <= 100; ++i) {
    const Time at = next_attempt(schedule, 2, i / 100.0, now);
    EXPECT_GE(at, now + 5min);
    EXPECT_LE(at, now + 5min + 30s);
  }
}

}  // namespace
}  // namespace egret::routing
