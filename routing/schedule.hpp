// When to try again, and for how long.
#pragma once

#include <vector>

#include "routing/types.hpp"

namespace egret::routing {

/// The next attempt after `attempts` rounds (at least 1): the schedule's entry, then its last one again, plus up to a
/// tenth of it by `jitter` (0 to 1), so that a crowd of messages does not come back as one.
Time next_attempt(const std::vector<Duration>& schedule, int attempts, double jitter, Time now);

}  // namespace egret::routing
