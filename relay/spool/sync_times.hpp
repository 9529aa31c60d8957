// How long the disk takes for a sync: nothing is accepted faster than that.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace egret::relay::spool {

/// Upper bounds of the counted ranges, in seconds; above the last is one more range.
inline constexpr std::array<double, 8> sync_bounds{0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3};

struct SyncCounts {
  std::array<std::uint64_t, sync_bounds.size() + 1> counts{};  ///< by range, not cumulated
  double seconds = 0;                                          ///< all syncs together
};

/// One thread syncs and calls begin() and end(); any thread may ask.
class SyncTimes {
 public:
  using Clock = std::chrono::steady_clock;

  void begin(Clock::time_point now) { running_since_.store(now.time_since_epoch().count(), std::memory_order_relaxed); }
  void end(Clock::time_point now);
  SyncCounts counts() const;
  /// The longest that ended since the last call, or what the one under way has taken so far if that is more. For one watcher.
  Clock::duration take_longest(Clock::time_point now);

 private:
  static constexpr Clock::rep none = -1;
  std::array<std::atomic<std::uint64_t>, sync_bounds.size() + 1> counts_{};
  std::atomic<Clock::rep> total_{0};
  std::atomic<Clock::rep> longest_{0};
  std::atomic<Clock::rep> running_since_{none};
};

}  // namespace egret::relay::spool
