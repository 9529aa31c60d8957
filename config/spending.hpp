// What the configuration says about money and pace: the price of mail by a smarthost, how much of it there may be, and
// how fast. Read by config/read_spending.
#pragma once

#include <optional>
#include <vector>

#include "routing/spending.hpp"

namespace egret::config {

/// Of a smarthost, or of a class at all smarthosts together (limits only).
struct Spending {
  std::optional<routing::Price> cost;          ///< of one recipient; null: not known
  std::vector<routing::SpendingLimit> limits;  ///< all hold at once; no two count the same in the same period
  std::optional<routing::Budget> rate;         ///< recipients; mail above it waits its turn
};

}  // namespace egret::config
