#include "routing/spending.hpp"

#include <algorithm>

namespace egret::routing {

std::optional<Unit> Unit::currency(std::string_view code) {
  const auto capital = [](char c) { return c >= 'A' && c <= 'Z'; };
  if (code.size() != 3 || !std::ranges::all_of(code, capital)) return std::nullopt;
  return Unit({code[0], code[1], code[2]});
}

std::optional<Unit> Unit::of_code(std::string_view code) {
  if (code.empty()) return Unit();
  if (code == messages().code()) return messages();
  return currency(code);
}

std::optional<std::uint64_t> amount_of(Unit unit, std::uint64_t recipients, const std::optional<Price>& price) {
  if (unit == Unit()) return recipients;
  if (unit == Unit::messages()) return 1;
  if (!price || price->currency != unit) return std::nullopt;
  return recipients * price->amount;
}

std::optional<std::uint64_t> recipients_in(Unit unit, std::uint64_t amount, const std::optional<Price>& price) {
  if (unit == Unit()) return amount;
  if (!unit.money() || !price || price->currency != unit || price->amount == 0) return std::nullopt;
  return amount / price->amount;
}

std::string to_string(std::uint64_t amount, Unit unit) {
  if (!unit.money()) return std::to_string(amount);
  std::string out = std::to_string(amount / nanos);
  if (const std::uint64_t rest = amount % nanos) {
    std::string digits = std::to_string(nanos + rest).substr(1);
    digits.erase(digits.find_last_not_of('0') + 1);
    out += '.' + digits;
  }
  return out + ' ' + std::string(unit.code());
}

std::string to_string(const SpendingLimit& limit) {
  using namespace std::chrono_literals;
  std::string per = to_string(limit.budget.per);
  for (const Duration one : {Duration(1s), Duration(1min), Duration(1h), Duration(24h)})
    if (limit.budget.per == one) per = to_string(one).substr(1);
  return to_string(limit.budget.recipients, limit.unit) + '/' + per;
}

std::string to_string(const Price& price) {
  return to_string(price.amount * 1000, price.currency) + "/1000";
}

std::optional<std::uint64_t> parse_amount(std::string_view text, std::uint64_t most) {
  std::uint64_t whole = 0, part = 0, place = nanos;
  std::size_t at = 0;
  const auto digit = [&] { return at < text.size() && text[at] >= '0' && text[at] <= '9'; };
  if (!digit()) return std::nullopt;
  for (; digit(); ++at) {
    whole = whole * 10 + static_cast<std::uint64_t>(text[at] - '0');
    if (whole > most) return std::nullopt;
  }
  if (at < text.size() && text[at] == '.') {
    if (++at; !digit()) return std::nullopt;
    for (; digit(); ++at) {
      place /= 10;
      if (place == 0) return std::nullopt;
      part += static_cast<std::uint64_t>(text[at] - '0') * place;
    }
  }
  if (at != text.size()) return std::nullopt;
  return whole * nanos + part;
}

}  // namespace egret::routing
