#include "routing/schedule.hpp"

#include <algorithm>

namespace egret::routing {

Time next_attempt(const std::vector<Duration>& schedule, int attempts, double jitter, Time now) {
  const std::size_t index = std::min(static_cast<std::size_t>(std::max(attempts, 1)) - 1, schedule.size() - 1);
  const Duration delay = schedule[index];
  return now + delay + Duration(static_cast<std::int64_t>(static_cast<double>(delay.count()) * 0.1 * jitter));
}

}  // namespace egret::routing
