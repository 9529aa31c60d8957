#include "routing/shaping.hpp"

#include <algorithm>
#include <cmath>

namespace egret::routing {
namespace {

constexpr Duration day = std::chrono::hours(24), hour = std::chrono::hours(1);
constexpr double average_seconds = 60;  // over which the rate is measured
constexpr double least_rate = 1;        // messages a second that throttling starts from, where less was measured

double seconds(Duration duration) {
  return static_cast<double>(duration.count()) / 1000;
}

/// Whether the recipients fit into what is left of the period.
bool fits(const BudgetUse& use, const Budget& budget, std::uint64_t recipients, Time now) {
  const bool untouched = use.used == 0 || budget_window(budget, now) > use.window;
  return untouched || use.used + recipients <= budget.recipients;
}

void count(BudgetUse& use, const Budget& budget, std::uint64_t recipients, Time now) {
  const Time window = budget_window(budget, now);
  if (window > use.window) use = {window, 0};  // a clock set back must not hand out the same period twice
  use.used += recipients;
}

std::optional<ShapingRefusal> over_cap(const ShapingUse& use, std::uint64_t per_day, std::uint64_t recipients, Time now) {
  const Budget daily{per_day, day}, slice{hourly(per_day), hour};
  const auto refusal = [&](const char* period, const Budget& budget) {
    return ShapingRefusal{true, "warm-up: " + std::to_string(budget.recipients) + " recipients " + period + " are used up",
                          budget_window(budget, now) + budget.per};
  };
  if (!fits(use.day, daily, recipients, now)) return refusal("a day", daily);
  if (!fits(use.hour, slice, recipients, now)) return refusal("an hour", slice);
  return std::nullopt;
}

/// Refills the tokens of a throttled source; the message may go when there is one.
std::optional<ShapingRefusal> over_rate(ShapingUse& use, double throttle, Time now) {
  if (use.base == 0) {
    use.base = std::max(least_rate, use.recent / average_seconds);
    use.tokens = 1;
    use.refilled = now;
  }
  const double rate = std::max(use.base * throttle, 1e-3);
  const double elapsed = seconds(std::max(now - use.refilled, Duration(0)));
  use.tokens = std::min(std::max(1.0, rate), use.tokens + elapsed * rate);
  use.refilled = now;
  if (use.tokens >= 1 - 1e-9) return std::nullopt;
  const auto wait = Duration(static_cast<std::int64_t>(std::ceil((1 - use.tokens) / rate * 1000)));
  return ShapingRefusal{false, "throttled: " + std::to_string(std::lround(throttle * 100)) + "% of its rate", now + wait};
}

}  // namespace

std::uint64_t hourly(std::uint64_t per_day) {
  return std::max<std::uint64_t>(1, per_day / 16);
}

std::optional<ShapingRefusal> admit(ShapingUse& use, const ShapingLimits& limits, std::uint64_t recipients, Time now) {
  if (limits.per_day)
    if (auto refusal = over_cap(use, *limits.per_day, recipients, now)) return refusal;
  if (limits.throttle < 1.0) {
    if (auto refusal = over_rate(use, limits.throttle, now)) return refusal;
    use.tokens -= 1;
  } else {
    use.base = 0;
  }
  if (limits.per_day) {
    count(use.day, {*limits.per_day, day}, recipients, now);
    count(use.hour, {hourly(*limits.per_day), hour}, recipients, now);
  }
  const double passed = seconds(std::max(now - use.last, Duration(0)));
  use.recent = use.recent * std::exp(-passed / average_seconds) + 1;
  use.last = now;
  return std::nullopt;
}

void take_back(ShapingUse& use, const ShapingLimits& limits, std::uint64_t recipients, Time at) {
  if (limits.per_day) {
    refund(use.day, {*limits.per_day, day}, recipients, at);
    refund(use.hour, {hourly(*limits.per_day), hour}, recipients, at);
  }
  if (limits.throttle < 1.0) use.tokens += 1;
  use.recent = std::max(0.0, use.recent - 1);
}

}  // namespace egret::routing
