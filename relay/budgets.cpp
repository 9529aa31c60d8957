#include "relay/budgets.hpp"

#include <algorithm>

#include "config/spending.hpp"
#include "relay/state/budget_store.hpp"

namespace egret::relay {
namespace {

using routing::BudgetStage;
using routing::Duration;
using routing::Time;
using routing::Unit;

constexpr Duration day{std::chrono::hours(24)};
constexpr int most_tries = 64;                        // to find the bound wide enough: others pay from the same block
constexpr auto disk_pause = std::chrono::seconds(5);  // before mail is offered again to a disk that took nothing
constexpr auto shortest_hold = std::chrono::milliseconds(500);

std::uint64_t amount_or_0(Unit unit, std::uint64_t recipients, const std::optional<routing::Price>& price) {
  return routing::amount_of(unit, recipients, price).value_or(0);
}

std::optional<routing::Price> price_of(const Charge& charge) {
  return charge.price.currency.money() ? std::optional(charge.price) : std::nullopt;
}

}  // namespace

Spent& Spent::operator+=(const Spent& o) {
  recipients += o.recipients;
  for (const auto& [unit, amount] : o.money) money[unit] += amount;
  return *this;
}

// ---- counters ----------------------------------------------------------------------------------------------------

/// A clock set back must not hand out the same period twice.
void Budgets::Counter::roll(Time now) {
  const Time window = routing::budget_window({0, per}, now);
  if (window <= use.window) return;
  use = {window, 0};
  sent = 0;
  told = BudgetStage::plenty;
  refused = false;
}

/// A block: that part of the limit, in whole recipients.
std::uint64_t Budgets::Counter::part(std::uint64_t divisor) const {
  const std::uint64_t out = *limit / divisor;
  return out - out % grain;
}

bool Budgets::Counter::fits(std::uint64_t amount) const {
  return !limit || (use.used <= *limit && amount <= *limit - use.used);
}

/// Whether the disk knows already that it may be used.
bool Budgets::Counter::bounded(std::uint64_t amount) const {
  return !limit || amount == 0 || (bound.window == use.window && sent + amount <= bound.used);
}

BudgetStage Budgets::Counter::stage() const {
  if (!limit) return BudgetStage::plenty;
  return refused ? BudgetStage::used_up : routing::budget_stage(use.used, budget());
}

Budgets::Account& Budgets::account(const std::string& smarthost, const std::string& message_class) {
  auto& out = accounts_[smarthost + ' ' + message_class];
  if (!out) out = std::make_unique<Account>(Account{smarthost, message_class, {}});
  return *out;
}

Budgets::Counter& Budgets::counter(Account& account, Unit unit, Duration per) {
  for (Counter& known : account.counters)
    if (known.unit == unit && known.per == per) return known;
  Counter& out = account.counters.emplace_back();
  out.unit = unit;
  out.per = per;
  return out;
}

/// A limit that is another than before is told of anew, as far as it is used less now.
void Budgets::limit(Account& account, const config::Spending& spending) {
  for (const auto& limit : spending.limits) {
    Counter& counted = counter(account, limit.unit, limit.budget.per);
    const bool same = counted.limit == limit.budget.recipients;
    counted.limit = limit.budget.recipients;
    if (same) continue;
    counted.refused = false;
    counted.told = std::min(counted.told, counted.stage());
  }
}

// ---- configuration and disk --------------------------------------------------------------------------------------

Budgets::Budgets(const config::Config& config) {
  configure(config);
}

Budgets::~Budgets() = default;

void Budgets::configure(const config::Config& config) {
  shaping.configure(config.topology.sources.size());
  const std::lock_guard lock(mutex_);
  smarthosts_.clear();
  classes_.clear();
  pairs_.clear();
  prices_.clear();
  // What is of an earlier configuration shares the account of its name, and its limits are those of the present one.
  std::map<Account*, const config::Spending*> limits;
  for (const auto& one : config.classes) {
    Account& own = account("", one.name);
    counter(own, Unit(), day);
    classes_.push_back(&own);
    if (!one.removed || !limits.contains(&own)) limits[&own] = one.removed ? nullptr : one.spending.get();
  }
  for (const auto& host : config.smarthosts) {
    Account& own = account(host.name, "");
    const auto price = host.spending ? host.spending->cost : std::nullopt;
    prices_.push_back(price);
    const Duration shown = host.spending && !host.spending->limits.empty() ? host.spending->limits.front().budget.per : day;
    for (const Duration per : {day, shown})
      for (const auto& unit :
           {std::optional(Unit()), std::optional(Unit::messages()), price ? std::optional(price->currency) : std::nullopt})
        if (unit) counter(own, *unit, per);
    smarthosts_.push_back(&own);
    if (!host.removed || !limits.contains(&own)) limits[&own] = host.removed ? nullptr : host.spending.get();
    for (const auto& one : config.classes) {
      Account& pair = account(host.name, one.name);
      counter(pair, Unit(), day);
      if (price) counter(pair, price->currency, day);
      pairs_.push_back(&pair);
    }
  }
  for (const auto& [own, spending] : limits) {
    for (Counter& counted : own->counters) {
      const auto still = [&](const routing::SpendingLimit& l) { return l.unit == counted.unit && l.budget.per == counted.per; };
      if (!spending || std::ranges::none_of(spending->limits, still)) counted.limit.reset();
    }
    if (spending) limit(*own, *spending);
  }
  paces_.resize(config.smarthosts.size());
  for (std::size_t i = 0; i < paces_.size(); ++i) {
    paces_[i].rate = config.smarthosts[i].spending ? config.smarthosts[i].spending->rate : std::nullopt;
    paces_[i].waiting.resize(config.classes.size());
  }
}

void Budgets::open(std::unique_ptr<BudgetStore> store, Time now) {
  const std::lock_guard lock(mutex_);
  store_ = std::move(store);
  for (const BudgetRow& row : store_->load(now)) {
    Counter& counted = counter(account(row.smarthost, row.message_class), row.unit, row.per);
    counted.use = counted.bound = counted.seen = row.use;
    counted.sent = row.use.used;
    counted.told = row.told;
    if (counted.limit && *counted.limit != row.limit) counted.told = std::min(counted.told, counted.stage());
    counted.roll(now);
  }
}

/// Writes rows and believes them. The caller holds writing_.
bool Budgets::write(const std::vector<Writing>& rows) {
  if (rows.empty() || !store_) return true;
  std::vector<BudgetRow> out;
  {
    const std::lock_guard lock(mutex_);
    for (const Writing& row : rows) {
      const Counter& counted = row.account->counters[row.counter];
      out.push_back({row.account->smarthost, row.account->message_class, counted.unit, counted.per, row.use, counted.told,
                     counted.limit.value_or(0)});
    }
  }
  const bool written = store_->commit(out);
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    Counter& counted = rows[i].account->counters[rows[i].counter];
    if (written)
      counted.bound = rows[i].use;
    else
      counted.unsaved = true;
  }
  return written;
}

/// Lets the bounds run ahead far enough for a charge, and a block further.
bool Budgets::reserve(const std::array<Account*, 3>& accounts, std::uint64_t recipients,
                      const std::optional<routing::Price>& price) {
  const std::lock_guard writing(writing_);
  std::vector<Writing> rows;
  {
    const std::lock_guard lock(mutex_);
    for (Account* own : accounts)
      for (std::size_t i = 0; i < own->counters.size(); ++i) {
        Counter& counted = own->counters[i];
        const std::uint64_t amount = amount_or_0(counted.unit, recipients, price);
        if (!counted.limit)
          rows.push_back({own, i, {counted.use.window, counted.sent}});  // beside it, so that what is shown fits together
        if (counted.bounded(amount)) continue;
        counted.grain = std::max<std::uint64_t>(1, amount_or_0(counted.unit, 1, price));
        const std::uint64_t needed = counted.sent + amount;
        const std::uint64_t ahead = std::max(needed, std::min(*counted.limit, needed + counted.part(100)));
        rows.push_back({own, i, {counted.use.window, ahead}});
      }
  }
  return write(rows);
}

void Budgets::save(Time now) {
  const std::lock_guard writing(writing_);
  std::vector<Writing> rows;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [key, own] : accounts_)
      for (std::size_t i = 0; i < own->counters.size(); ++i) {
        Counter& counted = own->counters[i];
        counted.roll(now);
        const routing::BudgetUse paid{counted.use.window, counted.sent};
        const routing::BudgetUse seen = std::exchange(counted.seen, paid);
        const bool moved = paid.window != seen.window || paid.used != seen.used;
        const bool told = std::exchange(counted.unsaved, false);
        const bool fresh = counted.bound.window == paid.window;
        routing::BudgetUse row = paid;
        if (counted.limit) {
          // Twice what the last second took, so that at full speed nothing need wait for the disk either.
          const bool same = paid.window == seen.window && paid.used > seen.used;
          const std::uint64_t speed = same ? 2 * (paid.used - seen.used) : 0;
          const std::uint64_t ahead = std::clamp(speed, counted.part(100), counted.part(20));
          if (fresh) row.used = std::max(row.used, counted.bound.used);
          if (moved && paid.used > 0 && row.used - paid.used < ahead / 2)
            row.used = std::max(row.used, std::min(*counted.limit, paid.used + ahead));
        }
        const bool same_row = fresh && row.used == counted.bound.used;
        if (told || (moved && !same_row)) rows.push_back({own.get(), i, row});
      }
  }
  write(rows);
  // Charges are refused until the disk takes something again.
  if (store_ && store_->failing()) store_->commit({});
}

void Budgets::close(Time now) {
  const std::lock_guard writing(writing_);
  std::vector<Writing> rows;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [key, own] : accounts_)
      for (std::size_t i = 0; i < own->counters.size(); ++i) {
        Counter& counted = own->counters[i];
        counted.roll(now);
        rows.push_back({own.get(), i, {counted.use.window, counted.sent}});
      }
  }
  write(rows);
}

// ---- charges -----------------------------------------------------------------------------------------------------

std::array<Budgets::Account*, 3> Budgets::accounts(std::uint32_t smarthost, std::uint32_t message_class) const {
  return {smarthosts_[smarthost], classes_[message_class], pairs_[smarthost * classes_.size() + message_class]};
}

std::optional<SpendingRefusal> Budgets::refused(std::uint32_t smarthost, std::uint32_t message_class, std::uint64_t recipients,
                                                Time now, bool note) const {
  for (Account* own : accounts(smarthost, message_class))
    for (Counter& counted : own->counters) {
      if (!counted.limit) continue;
      counted.roll(now);
      const auto amount = routing::amount_of(counted.unit, recipients, prices_[smarthost]);
      if (amount && counted.fits(*amount)) continue;
      const std::string whose = own->smarthost.empty() ? " of class " + own->message_class : "";
      const std::string limit = whose + ": " + routing::to_string(routing::SpendingLimit{counted.unit, counted.budget()});
      if (!amount) return SpendingRefusal{"its cost is not known in the currency of the budget" + limit, {}};
      counted.refused = counted.refused || note;
      return SpendingRefusal{"budget used up" + limit, counted.use.window + counted.per};
    }
  return std::nullopt;
}

/// Each class waits for its own mail: what waits of another may be served after it.
std::optional<SpendingRefusal> Budgets::too_fast(std::uint32_t smarthost, std::uint32_t message_class, Time now) const {
  const Pace& pace = paces_[smarthost];
  if (!pace.rate) return std::nullopt;
  const auto debt = std::max(Duration(0), std::chrono::ceil<Duration>(pace.next - std::chrono::steady_clock::now()));
  const auto queue = Duration(static_cast<std::int64_t>(pace.waiting[message_class]) * pace.rate->per.count() /
                              static_cast<std::int64_t>(pace.rate->recipients));
  const Duration all = debt + queue;
  if (all <= max_wait) return std::nullopt;
  const std::string rate = routing::to_string(routing::SpendingLimit{Unit(), *pace.rate});
  const Duration rounded = std::chrono::ceil<std::chrono::seconds>(all);
  return SpendingRefusal{"rate of " + rate + ": " + routing::to_string(rounded) + " wait already",
                         now + std::max<Duration>(shortest_hold, all - max_wait / 2)};
}

std::optional<SpendingRefusal> Budgets::refusal(std::uint32_t smarthost, std::uint32_t message_class, std::uint64_t recipients,
                                                Time now) const {
  const std::lock_guard lock(mutex_);
  auto out = refused(smarthost, message_class, recipients, now, false);
  return out ? out : too_fast(smarthost, message_class, now);
}

std::optional<SpendingRefusal> Budgets::charge(std::uint32_t smarthost, std::uint32_t message_class, std::uint64_t recipients,
                                               Time now, std::optional<Charge>& out, bool its_turn) {
  const std::lock_guard lock(mutex_);
  const auto concerned = accounts(smarthost, message_class);
  const auto& price = prices_[smarthost];
  if (auto no = refused(smarthost, message_class, recipients, now, true)) return no;
  if (!its_turn)
    if (auto no = too_fast(smarthost, message_class, now)) return no;
  const bool limited = std::ranges::any_of(concerned, [](const Account* own) {
    return std::ranges::any_of(own->counters, [](const Counter& counted) { return counted.limit.has_value(); });
  });
  if (limited && store_ && store_->failing())
    return SpendingRefusal{"what is used of its budget cannot be saved", now + disk_pause};
  for (Account* own : concerned)
    for (Counter& counted : own->counters) {
      counted.roll(now);
      counted.use.used += amount_or_0(counted.unit, recipients, price);
    }
  out = Charge{now, price.value_or(routing::Price{}), static_cast<std::uint32_t>(recipients), smarthost, message_class};
  out->waits = !its_turn && paces_[smarthost].rate.has_value();
  if (out->waits) paces_[smarthost].waiting[message_class] += recipients;
  return std::nullopt;
}

bool Budgets::pay(Charge& charge) {
  const auto price = price_of(charge);
  for (int i = 0; i < most_tries; ++i) {
    std::array<Account*, 3> concerned{};
    {
      const std::lock_guard lock(mutex_);
      if (charge.sent) return true;
      concerned = accounts(charge.smarthost, charge.message_class);
      const bool bounded = !store_ || std::ranges::all_of(concerned, [&](const Account* own) {
        return std::ranges::all_of(own->counters, [&](const Counter& counted) {
          return counted.bounded(amount_or_0(counted.unit, charge.recipients, price));
        });
      });
      if (bounded) {
        for (Account* own : concerned)
          for (Counter& counted : own->counters)
            if (routing::budget_window({0, counted.per}, charge.when) == counted.use.window)
              counted.sent += amount_or_0(counted.unit, charge.recipients, price);
        charge.sent = true;
        return true;
      }
    }
    if (!reserve(concerned, charge.recipients, price)) break;
  }
  return false;
}

void Budgets::refund(Charge& charge, std::uint64_t recipients) {
  const std::lock_guard lock(mutex_);
  recipients = std::min<std::uint64_t>(recipients, charge.recipients);
  if (recipients == 0) return;
  charge.recipients -= static_cast<std::uint32_t>(recipients);
  for (Account* own : accounts(charge.smarthost, charge.message_class))
    for (Counter& counted : own->counters) {
      if (routing::budget_window({0, counted.per}, charge.when) != counted.use.window) continue;
      if (counted.unit == Unit::messages() && charge.recipients > 0) continue;
      const std::uint64_t amount = amount_or_0(counted.unit, recipients, price_of(charge));
      counted.use.used -= std::min(counted.use.used, amount);
      if (charge.sent) counted.sent -= std::min(counted.sent, amount);
    }
  if (!charge.waits) return;
  auto& waiting = paces_[charge.smarthost].waiting[charge.message_class];
  waiting -= std::min(waiting, recipients);
}

bool Budgets::current(const Charge& charge, Time now) const {
  const std::lock_guard lock(mutex_);
  for (const Account* own : accounts(charge.smarthost, charge.message_class))
    for (const Counter& counted : own->counters)
      if (counted.limit && routing::budget_window({0, counted.per}, now) > routing::budget_window({0, counted.per}, charge.when))
        return false;
  return true;
}

std::size_t Budgets::most_recipients(std::uint32_t smarthost, std::uint32_t message_class) const {
  const std::lock_guard lock(mutex_);
  std::uint64_t out = UINT32_MAX;
  for (const Account* own : accounts(smarthost, message_class))
    for (const Counter& counted : own->counters)
      if (counted.limit)
        if (const auto most = routing::recipients_in(counted.unit, *counted.limit, prices_[smarthost]))
          out = std::min(out, *most);
  if (const auto& rate = paces_[smarthost].rate) out = std::min(out, rate->recipients);
  return static_cast<std::size_t>(std::max<std::uint64_t>(1, out));
}

// ---- rate --------------------------------------------------------------------------------------------------------

bool Budgets::paced(std::uint32_t smarthost) const {
  const std::lock_guard lock(mutex_);
  return paces_[smarthost].rate.has_value();
}

Duration Budgets::wait(std::uint32_t smarthost, Instant now) const {
  const std::lock_guard lock(mutex_);
  const Pace& pace = paces_[smarthost];
  if (!pace.rate || pace.next <= now) return Duration(0);
  return std::chrono::ceil<Duration>(pace.next - now);
}

/// No bursts: the turn after this one comes when the rate has made up for these recipients.
void Budgets::take_turn(Charge& charge, Instant now) {
  const std::lock_guard lock(mutex_);
  Pace& pace = paces_[charge.smarthost];
  if (std::exchange(charge.waits, false)) {
    auto& waiting = pace.waiting[charge.message_class];
    waiting -= std::min<std::uint64_t>(waiting, charge.recipients);
  }
  if (!pace.rate) return;
  const std::chrono::nanoseconds step =
      std::chrono::nanoseconds(pace.rate->per) / static_cast<std::int64_t>(pace.rate->recipients);
  pace.next = std::max(pace.next, now) + std::chrono::duration_cast<Instant::duration>(step * charge.recipients);
}

// ---- what people see ---------------------------------------------------------------------------------------------

std::vector<BudgetLine> Budgets::lines(const Account& account, Time now) {
  std::vector<BudgetLine> out;
  for (Counter counted : account.counters) {
    counted.roll(now);
    out.push_back(
        {counted.unit, counted.per, counted.limit, counted.use.used, counted.use.window + counted.per, counted.stage()});
  }
  return out;
}

std::optional<routing::Price> Budgets::price(std::uint32_t smarthost) const {
  const std::lock_guard lock(mutex_);
  return prices_[smarthost];
}

std::vector<BudgetLine> Budgets::smarthost_lines(std::uint32_t smarthost, Time now) const {
  const std::lock_guard lock(mutex_);
  return lines(*smarthosts_[smarthost], now);
}

std::vector<BudgetLine> Budgets::class_lines(std::uint32_t message_class, Time now) const {
  const std::lock_guard lock(mutex_);
  return lines(*classes_[message_class], now);
}

Spent Budgets::today(std::uint32_t smarthost, std::uint32_t message_class, Time now) const {
  Spent out;
  const std::lock_guard lock(mutex_);
  for (Counter& counted : pairs_[smarthost * classes_.size() + message_class]->counters) {
    counted.roll(now);
    if (counted.per != day) continue;
    if (counted.unit.money())
      out.money[counted.unit] += counted.sent;
    else if (counted.unit == Unit())
      out.recipients += counted.sent;
  }
  return out;
}

std::vector<BudgetNews> Budgets::take_news(Time now) {
  std::vector<BudgetNews> out;
  const std::lock_guard lock(mutex_);
  for (const auto& [key, own] : accounts_)
    for (Counter& counted : own->counters) {
      if (!counted.limit) continue;
      counted.roll(now);
      const BudgetStage present = counted.stage();
      // Attempts take and give back: what was told once holds for the period. What was passed in one step is told, too.
      for (const auto stage : {BudgetStage::half, BudgetStage::low, BudgetStage::used_up}) {
        if (stage <= counted.told || stage > present) continue;
        const bool reached = counted.use.used >= routing::stage_begins(stage, counted.budget());
        if (!reached && stage != BudgetStage::used_up) continue;
        out.push_back({own->smarthost,
                       own->message_class,
                       {counted.unit, counted.budget()},
                       counted.use.used,
                       counted.use.window + counted.per,
                       counted.told,
                       stage});
        counted.told = stage;
        counted.unsaved = true;
      }
    }
  return out;
}

}  // namespace egret::relay
