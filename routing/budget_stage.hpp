// How far a budget is used, in the steps that operators are told of.
#pragma once

#include <string_view>

#include "routing/budget.hpp"

namespace egret::routing {

enum class BudgetStage { plenty, half, low, used_up };
std::string_view to_string(BudgetStage stage);

/// half from one half on, low from four fifths.
BudgetStage budget_stage(std::uint64_t used, const Budget& budget);
/// From how much on it is in that stage.
std::uint64_t stage_begins(BudgetStage stage, const Budget& budget);

}  // namespace egret::routing
