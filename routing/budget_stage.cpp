#include "routing/budget_stage.hpp"

namespace egret::routing {

std::string_view to_string(BudgetStage stage) {
  switch (stage) {
    case BudgetStage::plenty:
      return "plenty";
    case BudgetStage::half:
      return "half";
    case BudgetStage::low:
      return "low";
    case BudgetStage::used_up:
      return "used-up";
  }
  return "plenty";
}

std::uint64_t stage_begins(BudgetStage stage, const Budget& budget) {
  switch (stage) {
    case BudgetStage::plenty:
      return 0;
    case BudgetStage::half:
      return budget.recipients - budget.recipients / 2;
    case BudgetStage::low:
      return budget.recipients - budget.recipients / 5;
    case BudgetStage::used_up:
      return budget.recipients;
  }
  return 0;
}

BudgetStage budget_stage(std::uint64_t used, const Budget& budget) {
  for (const auto stage : {BudgetStage::used_up, BudgetStage::low, BudgetStage::half})
    if (used >= stage_begins(stage, budget)) return stage;
  return BudgetStage::plenty;
}

}  // namespace egret::routing
