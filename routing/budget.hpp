// How much may go through a smarthost: so many recipients in each period, counted as ESPs count.
#pragma once

#include <cstdint>
#include <optional>

#include "routing/types.hpp"

namespace egret::routing {

struct Budget {
  std::uint64_t recipients = 0;
  Duration per{std::chrono::hours(24)};
};

/// Periods are aligned to 1970-01-01T00:00Z, so a day's budget renews at midnight UTC.
struct BudgetUse {
  Time window{};
  std::uint64_t used = 0;
};

/// Start of the period that `now` is in.
Time budget_window(const Budget& budget, Time now);

/// Takes `recipients` from the budget; false, and nothing taken, when not all of them fit.
bool charge(BudgetUse& use, const Budget& budget, std::uint64_t recipients, Time now);

/// Gives back what was taken in the same period and not used.
void refund(BudgetUse& use, const Budget& budget, std::uint64_t recipients, Time now);

}  // namespace egret::routing
