#include "relay/spool/sync_times.hpp"

#include <algorithm>

namespace egret::relay::spool {

void SyncTimes::end(Clock::time_point now) {
  const Clock::duration took = now.time_since_epoch() - Clock::duration(running_since_.load(std::memory_order_relaxed));
  running_since_.store(none, std::memory_order_relaxed);
  const double seconds = std::chrono::duration<double>(took).count();
  const auto range = std::ranges::lower_bound(sync_bounds, seconds) - sync_bounds.begin();
  counts_[static_cast<std::size_t>(range)].fetch_add(1, std::memory_order_relaxed);
  total_.fetch_add(took.count(), std::memory_order_relaxed);
  Clock::rep longest = longest_.load(std::memory_order_relaxed);
  while (longest < took.count() && !longest_.compare_exchange_weak(longest, took.count(), std::memory_order_relaxed)) {
  }
}

SyncCounts SyncTimes::counts() const {
  SyncCounts out;
  for (std::size_t i = 0; i < counts_.size(); ++i) out.counts[i] = counts_[i].load(std::memory_order_relaxed);
  out.seconds = std::chrono::duration<double>(Clock::duration(total_.load(std::memory_order_relaxed))).count();
  return out;
}

SyncTimes::Clock::duration SyncTimes::take_longest(Clock::time_point now) {
  const Clock::duration ended(longest_.exchange(0, std::memory_order_relaxed));
  const Clock::rep since = running_since_.load(std::memory_order_relaxed);
  if (since == none) return ended;
  return std::max(ended, now.time_since_epoch() - Clock::duration(since));
}

}  // namespace egret::relay::spool
