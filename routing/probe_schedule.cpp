#include "routing/probe_schedule.hpp"

#include <algorithm>

namespace egret::routing {
namespace {

constexpr double planned_share = 0.8;  // of a budget: the rest is for re-checks and whatever else is not planned

double per_second(QueryRate rate) {
  return static_cast<double>(rate.count) * 1000.0 / static_cast<double>(std::max<std::int64_t>(1, rate.per.count()));
}

double seconds(Duration duration) {
  return static_cast<double>(std::max<std::int64_t>(1, duration.count())) / 1000.0;
}

Duration from_seconds(double s) {
  return Duration(static_cast<std::int64_t>(std::min(s, 3e8) * 1000.0));
}

Instant step_of(QueryRate rate) {
  return Instant(static_cast<std::int64_t>(1e6 / std::max(per_second(rate), 1e-6)));
}

}  // namespace

QueryPace::QueryPace(QueryRate rate, std::uint64_t burst)
    : step_(std::max(Instant(1), step_of(rate))), burst_(std::max<std::uint64_t>(1, burst)) {}

QueryPace QueryPace::budget(QueryRate rate) {
  // A burst of b and a rate of (n - b) per period never make more than n in a period.
  const std::uint64_t n = std::max<std::uint64_t>(1, rate.count);
  const std::uint64_t burst = std::max<std::uint64_t>(1, std::min(n / 2, std::max<std::uint64_t>(10, n / 20)));
  return QueryPace({std::max<std::uint64_t>(1, n - burst), rate.per}, burst);
}

Instant QueryPace::ready(std::uint64_t queries) const {
  return full_ - step_ * static_cast<std::int64_t>(burst_ - std::min(burst_, queries));
}

void QueryPace::spend(Instant now, std::uint64_t queries) {
  full_ = std::max(full_, now) + step_ * static_cast<std::int64_t>(queries);
}

ProbeSchedule::ProbeSchedule(std::vector<ProbePlan> lists, QueryRate all, std::uint64_t seed) : all_(all, 1), random_(seed) {
  std::size_t total = 0;
  for (auto& plan : lists) {
    List& list = lists_.emplace_back();
    list.plan = plan;
    list.interval = plan.interval;
    if (plan.budget) list.budget = QueryPace::budget(*plan.budget);
    list.targets.resize(plan.targets);
    total += plan.targets;
  }
  stretch(all);
  // The first round takes as long as the pace makes it; drawing its times mixes the lists, so that none gets its part at once.
  const Instant round = step_of(all) * static_cast<std::int64_t>(total);
  for (List& list : lists_)
    for (std::size_t i = 0; i < list.targets.size(); ++i) {
      const Instant spread = std::min<Instant>(round, list.interval);
      wait_until(list, i, Instant(std::uniform_int_distribution<std::int64_t>(0, spread.count())(random_)));
    }
}

/// Makes the intervals as long as the budgets and the common pace ask for.
void ProbeSchedule::stretch(QueryRate all) {
  double wanted = 0;
  for (List& list : lists_) {
    const auto health = static_cast<double>(health_queries) / seconds(list.plan.health_interval);
    if (list.plan.budget && list.plan.targets > 0) {
      const double allowed = per_second(*list.plan.budget) * planned_share;
      // Health may cost half of a small budget, not all.
      const double left = std::max(allowed - health, allowed / 2);
      const Duration least = from_seconds(static_cast<double>(list.plan.targets) / left);
      list.stretched = least > list.interval;
      list.interval = std::max(list.interval, least);
    }
    wanted += health + static_cast<double>(list.plan.targets) / seconds(list.interval);
  }
  const double factor = wanted / (per_second(all) * planned_share);
  if (factor <= 1) return;
  for (List& list : lists_) {
    list.interval = from_seconds(seconds(list.interval) * factor);
    list.stretched = true;
  }
}

Duration ProbeSchedule::jittered(Duration duration) {
  const double factor = std::uniform_real_distribution<double>(0.8, 1.2)(random_);
  return Duration(static_cast<std::int64_t>(static_cast<double>(duration.count()) * factor));
}

void ProbeSchedule::wait_until(List& list, std::size_t target, Instant due) {
  Target& t = list.targets[target];
  if (!t.in_flight) list.waiting.erase({t.due, target});
  t.due = due;
  t.in_flight = false;
  list.waiting.insert({due, target});
}

Instant ProbeSchedule::urgent_of(const List& list) const {
  if (list.urgent.empty() || !list.open) return Instant::max();
  return list.budget ? list.budget->ready() : Instant{0};
}

/// Whichever is due first has its turn next, so that a small budget starves neither health nor checks.
ProbeSchedule::Next ProbeSchedule::next_of(const List& list) const {
  const bool targets = list.open && !list.waiting.empty();
  const Instant due = targets ? list.waiting.begin()->first : Instant::max();
  if (!list.health_in_flight && list.health_due <= due)
    return {list.budget ? std::max(list.health_due, list.budget->ready(health_queries)) : list.health_due, true};
  if (!targets) return {};
  // What is not urgent leaves a tenth of the burst to what is.
  return {list.budget ? std::max(due, list.budget->ready(1 + list.budget->burst() / 10)) : due, false};
}

Instant ProbeSchedule::next() const {
  Instant out = Instant::max();
  for (const List& list : lists_) out = std::min({out, urgent_of(list), next_of(list).at});
  return out == Instant::max() ? out : std::max(out, all_.ready());
}

std::optional<ProbeSchedule::Turn> ProbeSchedule::take(Instant now) {
  if (all_.ready() > now) return std::nullopt;
  for (std::size_t i = 0; i < lists_.size(); ++i) {
    List& list = lists_[i];
    if (urgent_of(list) > now) continue;
    const std::size_t target = list.urgent.front();
    list.urgent.pop_front();
    Target& t = list.targets[target];
    t.urgent = false;
    list.waiting.erase({t.due, target});
    t.in_flight = true;
    spend(i, now, 1);
    return Turn{i, target};
  }
  std::size_t best = lists_.size();
  Next first;
  for (std::size_t i = 0; i < lists_.size(); ++i)
    if (const Next candidate = next_of(lists_[i]); candidate.at < first.at) {
      best = i;
      first = candidate;
    }
  if (best == lists_.size() || first.at > now) return std::nullopt;
  List& list = lists_[best];
  if (first.health) {
    list.health_in_flight = true;
    spend(best, now, health_queries);
    return Turn{best, std::nullopt};
  }
  const std::size_t target = list.waiting.begin()->second;
  list.waiting.erase(list.waiting.begin());
  list.targets[target].in_flight = true;
  spend(best, now, 1);
  return Turn{best, target};
}

void ProbeSchedule::answered(std::size_t index, std::size_t target, Instant now, Duration ttl, std::optional<Duration> soon) {
  List& list = lists_[index];
  const Duration kept = std::min(std::max(ttl, least_ttl), list.interval);
  const Duration wanted = soon ? std::min(*soon, list.interval) : jittered(list.interval);
  const bool again = std::exchange(list.targets[target].again, false);
  wait_until(list, target, again ? now : now + std::max(kept, wanted));
}

void ProbeSchedule::health_done(std::size_t index, Instant now, Duration again) {
  List& list = lists_[index];
  list.health_in_flight = false;
  Duration wait = jittered(again);
  // A budget too small for the usual look is spent on addresses first.
  if (list.plan.budget)
    wait =
        std::max(wait, from_seconds(static_cast<double>(health_queries) / (per_second(*list.plan.budget) * planned_share / 2)));
  list.health_due = now + wait;
}

bool ProbeSchedule::urgent(std::size_t index, std::size_t target, Instant now) {
  List& list = lists_[index];
  Target& t = list.targets[target];
  if (t.urgent_at && now - *t.urgent_at < std::min(urgent_gap, list.plan.interval)) return false;
  t.urgent_at = now;
  t.again = t.in_flight;
  if (!t.urgent && !t.in_flight) {
    t.urgent = true;
    list.urgent.push_back(target);
  }
  return true;
}

void ProbeSchedule::hurry(std::size_t index, Instant now) {
  for (std::size_t i = 0; i < lists_[index].targets.size(); ++i) hurry(index, i, now);
}

void ProbeSchedule::hurry(std::size_t index, std::size_t target, Instant now) {
  List& list = lists_[index];
  Target& t = list.targets[target];
  t.again = t.again || t.in_flight;
  if (!t.in_flight && t.due > now) wait_until(list, target, now);
}

void ProbeSchedule::spend(std::size_t index, Instant now, std::uint64_t queries) {
  all_.spend(now, queries);
  if (lists_[index].budget) lists_[index].budget->spend(now, queries);
}

bool ProbeSchedule::may_spend(std::size_t index, Instant now) const {
  // The common pace only spreads: one query more waits for nobody. A list's budget is the list's word.
  return !lists_[index].budget || lists_[index].budget->ready() <= now;
}

}  // namespace egret::routing
