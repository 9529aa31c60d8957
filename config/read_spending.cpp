#include "config/read_spending.hpp"

#include <algorithm>
#include <charconv>

namespace egret::config {
namespace {

using namespace std::chrono_literals;
using routing::Price;
using routing::SpendingLimit;
using routing::Unit;

constexpr std::size_t max_limits = 8;
constexpr std::uint64_t max_price = 1000;  // whole units of a currency for one recipient: far from overflow

/// "0.10 EUR": what stands before the space, and the currency; `otherwise` where none is said.
struct Sum {
  std::string_view number;
  std::optional<Unit> unit;
};
Sum split_sum(std::string_view text, Unit otherwise) {
  const auto space = text.find(' ');
  if (space == std::string_view::npos) return {text, otherwise};
  return {text.substr(0, space), Unit::currency(text.substr(space + 1))};
}

std::optional<std::uint64_t> whole(std::string_view text) {
  std::uint64_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc{} || end != text.data() + text.size() || out > INT64_MAX) return std::nullopt;
  return out;
}

std::optional<routing::Duration> parse_period(std::string_view text) {
  const auto out = text.size() == 1 ? parse_duration("1" + std::string(text)) : parse_duration(text);
  if (!out || *out < 1s || *out > std::chrono::hours(24 * 366)) return std::nullopt;
  return out;
}

/// The texts of `key`, which is one or a list of them.
std::vector<std::string> one_or_more(Section& s, std::string_view key) {
  std::vector<std::string> out;
  const Tree* tree = s.take(key);
  if (!tree) return out;
  if (tree->kind == Tree::Kind::sequence) {
    s.texts(key, out);
    if (out.empty()) s.problem(key, "expected at least one budget");
  } else {
    s.text(key, out.emplace_back());
    if (tree->kind == Tree::Kind::scalar && out.back().empty()) s.problem(key, "expected a budget");
    if (out.back().empty()) out.clear();
  }
  return out;
}

std::vector<SpendingLimit> read_limits(Section& s) {
  std::vector<SpendingLimit> out;
  for (const auto& text : one_or_more(s, "budget")) {
    const auto limit = parse_limit(text);
    const auto same = [&](const SpendingLimit& o) { return o.unit == limit->unit && o.budget.per == limit->budget.per; };
    if (!limit)
      s.problem("budget", "expected recipients in a period, e.g. 50000/d, or money, e.g. 20 USD/d");
    else if (std::ranges::any_of(out, same))
      s.problem("budget", text + ": there is another for the same period");
    else
      out.push_back(*limit);
  }
  if (out.size() > max_limits) s.problem("budget", "expected at most " + std::to_string(max_limits));
  return out;
}

/// What is wrong with a limit in money where recipients cost that much; empty: nothing.
std::string mismatch(const SpendingLimit& limit, const std::optional<Price>& cost) {
  if (!limit.unit.money()) return {};
  if (!cost) return "a budget in money needs the cost of a recipient, e.g. cost: 0.10/1000";
  if (cost->currency != limit.unit)
    return "the budget is in " + std::string(limit.unit.code()) + ", the cost in " + std::string(cost->currency.code());
  if (cost->amount == 0) return "a budget in money limits nothing where the cost is 0";
  if (limit.budget.recipients > 0 && limit.budget.recipients < cost->amount) return "it does not pay for one recipient";
  return {};
}

/// The limit that lets the least through, as recipients: what the simulation and short listings work with.
std::optional<routing::Budget> tightest(const Spending& spending) {
  std::optional<routing::Budget> out;
  for (const auto& limit : spending.limits) {
    const auto recipients = routing::recipients_in(limit.unit, limit.budget.recipients, spending.cost);
    if (!recipients) continue;
    const routing::Budget budget{*recipients, limit.budget.per};
    const auto pace = [](const routing::Budget& b) {
      return static_cast<double>(b.recipients) / static_cast<double>(b.per.count());
    };
    if (!out || pace(budget) < pace(*out)) out = budget;
  }
  return out;
}

}  // namespace

std::optional<Price> parse_price(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const Sum sum = split_sum(text.substr(0, slash), *Unit::currency("USD"));
  const auto recipients = whole(text.substr(slash + 1));
  const auto amount = routing::parse_amount(sum.number);
  if (!sum.unit || !amount || !recipients || *recipients == 0 || *recipients > 1'000'000) return std::nullopt;
  if (*amount % *recipients != 0 || *amount / *recipients > max_price * routing::nanos) return std::nullopt;
  return Price{*amount / *recipients, *sum.unit};
}

std::optional<SpendingLimit> parse_limit(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const Sum sum = split_sum(text.substr(0, slash), Unit());
  const auto per = parse_period(text.substr(slash + 1));
  if (!per || !sum.unit) return std::nullopt;
  const auto amount = sum.unit->money() ? routing::parse_amount(sum.number) : whole(sum.number);
  if (!amount) return std::nullopt;
  return SpendingLimit{*sum.unit, {*amount, *per}};
}

void read_spending(Section& s, const std::optional<Price>& preset, Smarthost& out) {
  Spending spending;
  spending.cost = preset;
  std::string cost, rate;
  s.text("cost", cost);
  if (!cost.empty()) spending.cost = parse_price(cost);
  if (!cost.empty() && !spending.cost)
    s.problem("cost", "expected the price of so many recipients, e.g. 0.10/1000 or 0.10 EUR/1000");
  spending.limits = read_limits(s);
  for (const auto& limit : spending.limits)
    if (const auto wrong = cost.empty() || spending.cost ? mismatch(limit, spending.cost) : ""; !wrong.empty())
      s.problem("budget", routing::to_string(limit) + ": " + wrong);
  s.text("rate", rate);
  if (!rate.empty()) {
    const auto limit = parse_limit(rate);
    if (limit && !limit->unit.money() && limit->budget.recipients > 0 && limit->budget.recipients <= 1'000'000'000)
      spending.rate = limit->budget;
    else
      s.problem("rate", "expected recipients in a period, e.g. 14/s");
  }
  if (!spending.cost && spending.limits.empty() && !spending.rate) return;
  out.budget = tightest(spending);
  out.spending = std::make_shared<const Spending>(std::move(spending));
}

void read_class_budget(Section& s, const Config& config, MessageClass& out) {
  Spending spending;
  spending.limits = read_limits(s);
  if (spending.limits.empty()) return;
  if (out.pool < config.topology.pools.size())
    for (const auto& limit : spending.limits)
      for (const std::uint32_t host : config.topology.pools[out.pool].fallback) {
        const auto& of_host = config.smarthosts[host].spending;
        const auto wrong = mismatch(limit, of_host ? of_host->cost : std::nullopt);
        if (!wrong.empty())
          s.problem("budget", routing::to_string(limit) + ": smarthost " + config.smarthosts[host].name + ": " + wrong);
      }
  out.spending = std::make_shared<const Spending>(std::move(spending));
}

}  // namespace egret::config
