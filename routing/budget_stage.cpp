#include "routing/budget_stage.hpp"

namespace egret::routing {

std::string_view to_string(BudgetStage stage) {
  switch (stage) {
    case BudgetStage::plenty:
      return "plenty";
    case BudgetStage::low:
      return "low";
    case BudgetStage::used_up:
      return "used-up";
  }
  return "plenty";
}

BudgetStage budget_stage(std::uint64_t used, const Budget& budget) {
  if (used >= budget.recipients) return BudgetStage::used_up;
  return used >= budget.recipients - budget.recipients / 5 ? BudgetStage::low : BudgetStage::plenty;
}

}  // namespace egret::routing
