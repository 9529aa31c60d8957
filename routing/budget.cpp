#include "routing/budget.hpp"

#include <algorithm>

namespace egret::routing {

Time budget_window(const Budget& budget, Time now) {
  const auto since = now.time_since_epoch();
  return Time(since - since % budget.per);
}

bool charge(BudgetUse& use, const Budget& budget, std::uint64_t recipients, Time now) {
  const Time window = budget_window(budget, now);
  // A clock set back must not hand out the same period twice.
  if (window > use.window) use = {window, 0};
  if (use.used + recipients > budget.recipients) return false;
  use.used += recipients;
  return true;
}

void refund(BudgetUse& use, const Budget& budget, std::uint64_t recipients, Time now) {
  if (budget_window(budget, now) == use.window) use.used -= std::min(use.used, recipients);
}

}  // namespace egret::routing
