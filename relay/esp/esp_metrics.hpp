// Counters of what ESPs tell, by smarthost. Any thread.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "routing/esp_event.hpp"

namespace egret::relay {

struct EspCounts {
  std::array<std::uint64_t, 5> events{};         ///< taken, by kind
  std::uint64_t untied = 0;                      ///< of these, about mail that is not known here
  std::uint64_t repeated = 0;                    ///< known already
  std::map<std::string, std::uint64_t> refused;  ///< requests, by reason
};

class EspMetrics {
 public:
  /// Calls `change(EspCounts&)`. The name of the smarthost is empty for requests that name none of ours.
  template <class Change>
  void update(const std::string& smarthost, Change change) {
    const std::lock_guard lock(mutex_);
    change(counts_[smarthost]);
  }
  std::map<std::string, EspCounts> counts() const {
    const std::lock_guard lock(mutex_);
    return counts_;
  }

  struct Totals {
    std::uint64_t handovers_dropped = 0;  ///< not stored: the queue was full, or the database refused
    std::uint64_t reports = 0;            ///< DSNs made
    std::uint64_t forwarded = 0;
    std::uint64_t forward_retried = 0;
    std::uint64_t forward_dropped = 0;  ///< events given up
  };
  template <class Change>
  void total(Change change) {
    const std::lock_guard lock(mutex_);
    change(totals_);
  }
  Totals totals() const {
    const std::lock_guard lock(mutex_);
    return totals_;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, EspCounts> counts_;
  Totals totals_;
};

}  // namespace egret::relay
