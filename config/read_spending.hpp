// Reads cost, budget and rate of smarthosts, and the budgets of classes.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "config/config.hpp"
#include "config/spending.hpp"
#include "config/tree.hpp"

namespace egret::config {

/// "0.10/1000", "0.10 EUR/1000": the price of so many recipients; US dollars where nothing else is said. Nullopt where it
/// is none, or where the price of one recipient is no whole number of nanos.
std::optional<routing::Price> parse_price(std::string_view text);
/// "50000/d", "20 USD/d", "10/5s": recipients or money in each period, of s, m, h, d or a duration from 1s to 366d.
std::optional<routing::SpendingLimit> parse_limit(std::string_view text);

/// `preset` is what the provider's preset says of the cost.
void read_spending(Section& s, const std::optional<routing::Price>& preset, Smarthost& out);

/// `config` holds the smarthosts and pools already, `out` its pool.
void read_class_budget(Section& s, const Config& config, MessageClass& out);

}  // namespace egret::config
