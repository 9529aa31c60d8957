// When mail that goes before other mail came by last: whoever delivers other mail asks it before giving way.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>

namespace egret::relay {

/// Any thread.
class Precedence {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds memory{2};

  void came(Clock::time_point now) { last_.store(now.time_since_epoch().count(), std::memory_order_relaxed); }
  /// Such mail is about: more may follow.
  bool lately(Clock::time_point now) const {
    return now.time_since_epoch() - Clock::duration(last_.load(std::memory_order_relaxed)) < memory;
  }

  /// How long a message of a lesser class waits before its next step, when the worker's loop takes `lag` to come round:
  /// with little to do not at all, else much longer than that, so that the loop is mostly free again.
  static Clock::duration pause(Clock::duration lag) {
    constexpr std::chrono::microseconds free{150};
    constexpr std::chrono::milliseconds most{50};
    return lag < free ? Clock::duration::zero() : std::min<Clock::duration>(lag * 16, most);
  }

 private:
  std::atomic<Clock::rep> last_{-Clock::duration(std::chrono::hours(1)).count()};
};

}  // namespace egret::relay
