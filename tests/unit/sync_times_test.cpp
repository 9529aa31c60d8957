#include "relay/spool/sync_times.hpp"

#include <gtest/gtest.h>

#include <numeric>

namespace egret::relay::spool {
namespace {

using namespace std::chrono_literals;
using At = SyncTimes::Clock::time_point;

void sync(SyncTimes& times, At begin, SyncTimes::Clock::duration took) {
  times.begin(begin);
  times.end(begin + took);
}

TEST(SyncTimes, AreCountedByRangeWithTheBoundInTheLowerOne) {
  SyncTimes times;
  const At start{1h};
  for (const auto took : {SyncTimes::Clock::duration(100us), SyncTimes::Clock::duration(1ms), SyncTimes::Clock::duration(2ms),
                          SyncTimes::Clock::duration(3s), SyncTimes::Clock::duration(1h)})
    sync(times, start, took);
  const SyncCounts counts = times.counts();
  EXPECT_EQ(counts.counts[0], 2u);
  EXPECT_EQ(counts.counts[1], 1u);
  EXPECT_EQ(counts.counts[7], 1u);
  EXPECT_EQ(counts.counts[8], 1u);
  EXPECT_EQ(std::accumulate(counts.counts.begin(), counts.counts.end(), std::uint64_t{0}), 5u);
  EXPECT_NEAR(counts.seconds, 3603.0031, 1e-6);
}

TEST(SyncTimes, TheLongestIsToldOnce) {
  SyncTimes times;
  const At start{1h};
  sync(times, start, 2s);
  sync(times, start, 1s);
  EXPECT_EQ(times.take_longest(start + 5s), 2s);
  EXPECT_EQ(times.take_longest(start + 5s), 0s);
}

TEST(SyncTimes, OneThatIsStillUnderWayCounts) {
  SyncTimes times;
  const At start{1h};
  sync(times, start, 2s);
  times.begin(start + 10s);
  EXPECT_EQ(times.take_longest(start + 11s), 2s);
  EXPECT_EQ(times.take_longest(start + 14s), 4s);
  times.end(start + 15s);
  EXPECT_EQ(times.take_longest(start + 20s), 5s);
}

}  // namespace
}  // namespace egret::relay::spool
