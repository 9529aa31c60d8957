// How far a budget is used, in the steps that operators are told of.
#pragma once

#include <string_view>

#include "routing/budget.hpp"

namespace egret::routing {

enum class BudgetStage { plenty, low, used_up };
std::string_view to_string(BudgetStage stage);

/// low from four fifths on.
BudgetStage budget_stage(std::uint64_t used, const Budget& budget);

}  // namespace egret::routing
