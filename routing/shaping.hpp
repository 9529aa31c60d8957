// Shaping: how much a source may send to one provider while it is warming up or throttled.
//
// A warm-up cap counts recipients a day, in hourly slices so that a day's mail does not go out in one burst. A throttled
// source keeps to a part of the rate that it had when the throttling began. Both are metered per (source, provider),
// because that is how receivers judge. Pure but for the ShapingUse that is passed in.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "routing/budget.hpp"
#include "routing/types.hpp"

namespace egret::routing {

/// What one source has sent to one provider of late.
struct ShapingUse {
  BudgetUse day, hour;  ///< recipients, while there is a cap
  double recent = 0;    ///< messages of about the last minute (decaying)
  Time last{};          ///< the last of them
  double base = 0;      ///< messages a second when throttling began; 0: not throttled
  double tokens = 0;    ///< messages that may go at once while throttled
  Time refilled{};
};

struct ShapingLimits {
  double throttle = 1.0;                 ///< part of the rate that it may have (StandingView::throttle)
  std::optional<std::uint64_t> per_day;  ///< recipients (StandingView::per_day)
};

/// Why a message may not go now, and when it may. `cap`: a warm-up cap is used up, which the pool's other egresses make up
/// for; else the rate, of which only classes that spill may take the excess elsewhere.
struct ShapingRefusal {
  bool cap = false;
  std::string reason;
  Time until{};
};

/// A sixteenth of a day's cap, at least one: what an hour may have.
std::uint64_t hourly(std::uint64_t per_day);

/// Takes one message with so many recipients, or says why not; nothing is taken then. A message with more recipients
/// than a slice goes when the slice is untouched: else it would never go.
std::optional<ShapingRefusal> admit(ShapingUse& use, const ShapingLimits& limits, std::uint64_t recipients, Time now);

/// Gives back what admit() took for a message that was not tried after all, `at` the time of admit().
void take_back(ShapingUse& use, const ShapingLimits& limits, std::uint64_t recipients, Time at);

}  // namespace egret::routing
