// What mail by smarthosts costs and how much of it there may be: prices, and limits in recipients or in money. All
// amounts are integers: money is counted in thousand-millionths of its unit (nanos), so that the price of one recipient
// of "0.10 for 1000" is exact and a million of them add up without drift.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "routing/budget.hpp"
#include "routing/types.hpp"

namespace egret::routing {

/// What is counted: recipients, messages, or nanos of a currency.
class Unit {
 public:
  constexpr Unit() = default;  ///< recipients
  static constexpr Unit messages() { return Unit({'m', 's', 'g'}); }
  /// Three capital letters, as in ISO 4217; which of them are in use is not checked.
  static std::optional<Unit> currency(std::string_view code);
  /// What code() gave.
  static std::optional<Unit> of_code(std::string_view code);

  bool money() const { return code_[0] >= 'A' && code_[0] <= 'Z'; }
  std::string_view code() const { return {code_.data(), code_[0] ? code_.size() : 0}; }  ///< "", "msg", "USD"
  auto operator<=>(const Unit&) const = default;

 private:
  constexpr explicit Unit(std::array<char, 3> code) : code_(code) {}
  std::array<char, 3> code_{};
};

inline constexpr std::uint64_t nanos = 1'000'000'000;  ///< of one unit of a currency

/// What one recipient costs.
struct Price {
  std::uint64_t amount = 0;  ///< nanos
  Unit currency;
  bool operator==(const Price&) const = default;
};

/// So much in each period; `budget.recipients` counts what the unit says.
struct SpendingLimit {
  Unit unit;
  Budget budget;
  bool operator==(const SpendingLimit& o) const {
    return unit == o.unit && budget.recipients == o.budget.recipients && budget.per == o.budget.per;
  }
};

/// What `recipients` take of a limit in `unit`; nullopt where that cannot be said: money without a price in it.
std::optional<std::uint64_t> amount_of(Unit unit, std::uint64_t recipients, const std::optional<Price>& price);
/// How many recipients fit into `amount`; nullopt as above, and where they cost nothing.
std::optional<std::uint64_t> recipients_in(Unit unit, std::uint64_t amount, const std::optional<Price>& price);

/// "50000", "20 USD", "0.0415 EUR".
std::string to_string(std::uint64_t amount, Unit unit);
/// "50000/d", "20 USD/d", "10/5s".
std::string to_string(const SpendingLimit& limit);
/// "0.1 USD/1000".
std::string to_string(const Price& price);

/// "0.10" in nanos. No sign, no exponent, at most nine decimals, at most `most` whole units.
std::optional<std::uint64_t> parse_amount(std::string_view text, std::uint64_t most = 1'000'000'000);

}  // namespace egret::routing
