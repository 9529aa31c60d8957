// How many octets of messages are coming in, over all sessions of all workers: what is in memory and not yet on disk. Spool and
// dispatcher bound what comes after; this bounds what comes before, in which nothing but clients and syncs decide how long it
// takes.
//
// The bound is half of spool.cache, and never so little that nothing could come in. From half of that bound on, sessions keep
// less of a body each (the rest goes to the spool while it comes in); from three quarters on, messages of lesser classes do not
// begin, and at the bound none does: 452 4.3.1. Whoever has begun may end: with `small_piece` octets each, that is bounded by
// limits.connections.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace egret::relay {

/// Thread-safe; one atomic operation for each read of a body, in pieces of a network read.
class Intake {
 public:
  static constexpr std::uint64_t piece = 1u << 20;         ///< octets of a body in memory, before they go to the spool
  static constexpr std::uint64_t small_piece = 64 * 1024;  ///< the same while it is crowded

  /// `cache` is spool.cache, in octets.
  explicit Intake(std::uint64_t cache) { configure(cache); }
  void configure(std::uint64_t cache) { limit_.store(std::max(cache / 2, least), std::memory_order_relaxed); }

  /// A session holds `now` octets of a message where it held `before`.
  void hold(std::uint64_t before, std::uint64_t now) { used_.fetch_add(now - before, std::memory_order_relaxed); }
  std::uint64_t used() const { return used_.load(std::memory_order_relaxed); }

  bool crowded() const { return used() >= limit_.load(std::memory_order_relaxed) / 2; }
  /// Whether a message may not begin now; `lesser`: of a class that leaves room for others.
  bool full(bool lesser) const {
    const auto limit = limit_.load(std::memory_order_relaxed);
    return used() >= (lesser ? limit / 4 * 3 : limit);
  }

  /// Whether it is time to say once more in the log that messages are refused: every ten seconds.
  bool tell(std::chrono::steady_clock::time_point now) {
    auto last = told_.load(std::memory_order_relaxed);
    const auto present = now.time_since_epoch();
    return (last == none || present - std::chrono::steady_clock::duration(last) >= std::chrono::seconds(10)) &&
           told_.compare_exchange_strong(last, present.count());
  }

 private:
  static constexpr std::uint64_t least = 4 * small_piece;
  static constexpr std::chrono::steady_clock::rep none = -1;
  std::atomic<std::uint64_t> limit_{0};
  std::atomic<std::uint64_t> used_{0};
  std::atomic<std::chrono::steady_clock::rep> told_{none};
};

}  // namespace egret::relay
