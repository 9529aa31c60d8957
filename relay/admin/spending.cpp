#include "relay/admin/spending.hpp"

#include <algorithm>

#include "config/spending.hpp"
#include "relay/runtime/clock.hpp"

namespace egret::relay::api {
namespace {

namespace json = boost::json;
using routing::Unit;

constexpr routing::Duration day{std::chrono::hours(24)};

/// JSON has no integers of that meaning; for people's eyes this is exact enough. What counts is kept in integers.
double units(std::uint64_t amount) {
  return static_cast<double>(amount) / static_cast<double>(routing::nanos);
}

json::value amount_of(Unit unit, std::uint64_t amount) {
  return unit.money() ? json::value(units(amount)) : json::value(amount);
}

std::string name_of(Unit unit) {
  return unit.money() ? std::string(unit.code()) : "recipients";
}

json::object limit(const BudgetLine& line) {
  const std::uint64_t left = *line.limit - std::min(*line.limit, line.used);
  return {{"budget", routing::to_string(routing::SpendingLimit{line.unit, {*line.limit, line.per}})},
          {"unit", name_of(line.unit)},
          {"amount", amount_of(line.unit, *line.limit)},
          {"per", routing::to_string(line.per)},
          {"used", amount_of(line.unit, line.used)},
          {"left", amount_of(line.unit, left)},
          {"stage", routing::to_string(line.stage)},
          {"period_ends", routing::to_rfc3339(line.ends)}};
}

json::array limits(const std::vector<BudgetLine>& lines) {
  json::array out;
  for (const BudgetLine& line : lines)
    if (line.limit) out.push_back(limit(line));
  return out;
}

json::object spent(const Spent& spent) {
  json::object cost;
  for (const auto& [unit, amount] : spent.money) cost[unit.code()] = units(amount);
  return {{"recipients", spent.recipients}, {"cost", std::move(cost)}};
}

/// What may still be sent by the smarthost in the present periods; null: no end of it.
json::value left(const std::vector<BudgetLine>& lines, const std::optional<routing::Price>& price) {
  std::optional<std::uint64_t> least;
  std::optional<routing::Time> ends;
  for (const BudgetLine& line : lines) {
    if (!line.limit) continue;
    const auto fit = routing::recipients_in(line.unit, *line.limit - std::min(*line.limit, line.used), price);
    if (!fit || (least && *fit >= *least)) continue;
    least = fit;
    ends = line.ends;
  }
  if (!least) return nullptr;
  return json::object{{"recipients", *least},
                      {"cost", price ? json::value(units(*least * price->amount)) : json::value()},
                      {"period_ends", routing::to_rfc3339(*ends)}};
}

/// In the period that `budget` is about, or today.
json::object used(const std::vector<BudgetLine>& lines, routing::Duration per, const std::optional<routing::Price>& price) {
  json::object out{{"messages", 0}, {"recipients", 0}, {"cost", nullptr}, {"currency", nullptr}};
  for (const BudgetLine& line : lines) {
    if (line.per != per) continue;
    if (line.unit == Unit::messages()) out["messages"] = line.used;
    if (line.unit == Unit()) out["recipients"] = line.used;
    if (!price || line.unit != price->currency) continue;
    out["cost"] = units(line.used);
    out["currency"] = line.unit.code();
  }
  return out;
}

}  // namespace

void add_spending(const AdminContext& c, std::uint32_t smarthost, json::object& out) {
  const config::Smarthost& host = c.config->smarthosts[smarthost];
  const config::Spending none;
  const config::Spending& configured = host.spending ? *host.spending : none;
  const auto lines = c.budgets.smarthost_lines(smarthost, now());
  const routing::Duration per = configured.limits.empty() ? day : configured.limits.front().budget.per;
  out["used"] = used(lines, per, configured.cost);
  json::value budget;
  if (host.budget) budget = {{"recipients", host.budget->recipients}, {"per", routing::to_string(host.budget->per)}};
  out["budget"] = std::move(budget);
  out["limits"] = limits(lines);
  out["left"] = left(lines, configured.cost);
  out["cost"] = configured.cost ? json::value(routing::to_string(*configured.cost)) : json::value();
  out["rate"] =
      configured.rate ? json::value(routing::to_string(routing::SpendingLimit{Unit(), *configured.rate})) : json::value();
  Spent all;
  json::object by_class;
  for (std::uint32_t k = 0; k < c.config->classes.size(); ++k) {
    const Spent of_class = c.budgets.today(smarthost, k, now());
    if (of_class.recipients > 0) by_class[c.config->classes[k].name] = spent(of_class);
    all += of_class;
  }
  json::object today = spent(all);
  today["by_class"] = std::move(by_class);
  out["today"] = std::move(today);
}

void add_pool_spending(const AdminContext& c, std::uint32_t pool, json::object& out) {
  const auto& config = *c.config;
  Spent all;
  json::object by_smarthost, by_class, budgets;
  for (std::uint32_t k = 0; k < config.classes.size(); ++k) {
    if (config.classes[k].pool != pool || config.classes[k].removed) continue;
    Spent of_class;
    for (const std::uint32_t i : config.topology.pools[pool].fallback) of_class += c.budgets.today(i, k, now());
    by_class[config.classes[k].name] = spent(of_class);
    all += of_class;
    if (auto own = limits(c.budgets.class_lines(k, now())); !own.empty()) budgets[config.classes[k].name] = std::move(own);
  }
  for (const std::uint32_t i : config.topology.pools[pool].fallback) {
    Spent by_host;
    for (std::uint32_t k = 0; k < config.classes.size(); ++k)
      if (config.classes[k].pool == pool && !config.classes[k].removed) by_host += c.budgets.today(i, k, now());
    json::object one = spent(by_host);
    one["left"] = left(c.budgets.smarthost_lines(i, now()), c.budgets.price(i));
    by_smarthost[config.topology.smarthosts[i]] = std::move(one);
  }
  json::object today = spent(all);
  today["by_smarthost"] = std::move(by_smarthost);
  today["by_class"] = std::move(by_class);
  out["failover_today"] = std::move(today);
  out["class_budgets"] = std::move(budgets);
}

}  // namespace egret::relay::api
