#include "routing/simulated_reputation.hpp"

#include <algorithm>

#include "routing/advice.hpp"

namespace egret::routing {
namespace {

constexpr Duration tick_interval = std::chrono::seconds(1);  // the daemon's is shorter: rounding, no decision
constexpr std::uint64_t quiet_ticks = 10;                    // a source that nothing is known of is looked at less often
constexpr Duration health_interval_max = std::chrono::minutes(30);
constexpr Duration first_round_gap = std::chrono::milliseconds(100);
constexpr std::size_t timeline_kept = 10'000;

/// Nothing about it changes with time alone.
bool quiet(const SourceState& state) {
  return state.providers.empty() && state.listings.empty() && state.ramp.phase == Ramp::Phase::none && !state.resting_until;
}

DnsAnswer no_such_name() {
  return {DnsAnswer::Status::nxdomain, {}, {}};
}

DnsAnswer silence() {
  return {DnsAnswer::Status::failed, {}, "timeout"};
}

/// What a list in good order, or one that is down, says to the three probes.
HealthProbe probe_of(const Blocklist& list, bool answers) {
  if (!answers) return {silence(), silence(), silence()};
  HealthProbe out{no_such_name(), no_such_name(), no_such_name()};
  if (list.test_listed) out.listed = {DnsAnswer::Status::answer, {IpAddress::v4(127, 0, 0, 2)}, {}};
  return out;
}

TimelineEntry entry_of(Time now, std::string kind) {
  TimelineEntry out;
  out.time = now;
  out.kind = std::move(kind);
  return out;
}

}  // namespace

SimulatedReputation::SimulatedReputation(const SimulationSetup& setup, SimulationReport& report, std::mt19937_64& random,
                                         Time start)
    : setup_(setup),
      report_(report),
      random_(random),
      states_(setup.topology.sources.size()),
      smarthosts_(setup.topology.smarthosts.size()),
      tick_at_(start) {
  for (const auto& [name, definition] : setup.lists) {
    if (!definition.enabled) continue;
    List& list = lists_.emplace_back();
    list.definition = &definition;
    for (std::uint32_t i = 0; i < states_.size(); ++i)
      if (setup.topology.sources[i].reputation.unmapped().v6 ? definition.ipv6 : definition.ipv4) list.sources.push_back(i);
    plan(static_cast<std::uint32_t>(lists_.size()) - 1, {}, start);
  }
  publish();
}

// ---- what the scenario says --------------------------------------------------------------------------------------

void SimulatedReputation::apply(const Incident& incident, Time now) {
  const auto toggle = [&](auto& map, auto key, auto value) {
    if (incident.begins)
      map[key] = value;
    else
      map.erase(key);
  };
  const auto member = [&](auto& set, const auto& value) {
    if (incident.begins)
      set.insert(value);
    else
      set.erase(value);
  };
  switch (incident.kind) {
    case Incident::Kind::listed:
      return toggle(listed_, std::pair(incident.blocklist, incident.source), incident.code);
    case Incident::Kind::blocked:
      return toggle(blocked_, std::pair(incident.provider, incident.source), incident);
    case Incident::Kind::throttled:
      return toggle(throttled_, std::pair(incident.provider, incident.source), incident);
    case Incident::Kind::smarthost_refuses:
      return toggle(refusing_, incident.smarthost, incident);
    case Incident::Kind::list_down:
      return member(down_, incident.blocklist);
    case Incident::Kind::source_down:
      return member(broken_, incident.source);
    case Incident::Kind::drained:
      return incident.begins ? fold(incident.source, Drain{incident.provider}, now)
                             : fold(incident.source, Resume{incident.provider}, now);
  }
}

const Incident* SimulatedReputation::blocks(const std::string& provider, std::uint32_t source) const {
  if (blocked_.empty()) return nullptr;
  const auto it = blocked_.find({provider, source});
  return it == blocked_.end() ? nullptr : &it->second;
}

const Incident* SimulatedReputation::throttles(const std::string& provider, std::uint32_t source) const {
  if (throttled_.empty()) return nullptr;
  const auto it = throttled_.find({provider, source});
  return it == throttled_.end() ? nullptr : &it->second;
}

const Incident* SimulatedReputation::refuses(std::uint32_t smarthost) const {
  const auto it = refusing_.find(smarthost);
  return it == refusing_.end() ? nullptr : &it->second;
}

// ---- the owner of the standings ----------------------------------------------------------------------------------

void SimulatedReputation::note(TimelineEntry entry) {
  if (report_.timeline.size() >= timeline_kept) {
    ++report_.timeline_left_out;
    return;
  }
  report_.timeline.push_back(std::move(entry));
}

void SimulatedReputation::fold(std::uint32_t source, const Evidence& evidence, Time now) {
  const auto transitions = routing::fold(states_[source], evidence, context(), now);
  for (const auto& transition : transitions) tell(source, transition, now);
  dirty_ = dirty_ || !std::holds_alternative<Tick>(evidence);
  if (!transitions.empty()) publish();
  const auto* refused = std::get_if<Refused>(&evidence);
  if (!refused || refused->blocklist.empty()) return;
  // A receiver named the list: it is asked at once.
  for (std::uint32_t i = 0; i < lists_.size(); ++i) {
    if (lists_[i].definition->name != refused->blocklist ||
        std::ranges::find(lists_[i].sources, source) == lists_[i].sources.end())
      continue;
    const auto [last, fresh] = urgent_.try_emplace({i, source}, now);
    if (!fresh && now - last->second < setup_.policy.confirm_interval) continue;
    last->second = now;
    plan(i, source, now);
  }
}

void SimulatedReputation::smarthost_refused(std::uint32_t smarthost, AccountTrouble trouble, const std::string& reason,
                                            Time now) {
  // Simulated senders have no domains: one that is refused only tries the next.
  if (trouble == AccountTrouble::sender) return;
  SmarthostState& state = smarthosts_[smarthost];
  if (!routing::smarthost_refused(state, reason, now, trouble, setup_.smarthosts[smarthost].quota)) return;
  TimelineEntry entry = entry_of(now, trouble == AccountTrouble::authentication ? "smarthost-login" : "smarthost-rests");
  entry.smarthost = setup_.topology.smarthosts[smarthost];
  entry.text = reason;
  entry.action = rest_action(state);
  note(std::move(entry));
  publish();
}

void SimulatedReputation::smarthost_delivered(std::uint32_t smarthost, Time now) {
  if (smarthosts_[smarthost].rests == 0) return;
  routing::smarthost_delivered(smarthosts_[smarthost], now);
  dirty_ = true;
}

void SimulatedReputation::tick(Time now) {
  for (std::uint32_t i = 0; i < states_.size(); ++i) {
    if (quiet(states_[i]) && ticks_ % quiet_ticks != 0) continue;
    if (const auto until = states_[i].resting_until; until && now >= *until)
      fold(i, works(i) ? Evidence(SourceWorks{}) : Evidence(SourceFault{states_[i].rest_reason}), now);
    fold(i, Tick{}, now);
  }
  ++ticks_;
  if (dirty_) publish();
  tick_at_ = now + tick_interval;
}

void SimulatedReputation::publish() {
  ++snapshot_.version;
  snapshot_.sources.clear();
  for (const auto& state : states_) snapshot_.sources.push_back(snapshot_of(state, context()));
  snapshot_.smarthosts.clear();
  for (const auto& state : smarthosts_) snapshot_.smarthosts.push_back({state.resting_until, state.reason, state.senders});
  dirty_ = false;
}

void SimulatedReputation::tell(std::uint32_t source, const Transition& t, Time now) {
  // The first conclusive check of a source that was never in trouble is no news.
  if (t.from == Standing::unknown && t.to == Standing::clean) return;
  TimelineEntry entry = entry_of(now, event_kind(t));
  entry.source = setup_.topology.sources[source].name;
  entry.provider = t.provider;
  entry.blocklist = t.blocklist;
  entry.rule = t.rule;
  entry.from = to_string(t.from);
  entry.to = to_string(t.to);
  entry.text = t.text;
  entry.action = advice(t, setup_.lists, setup_.providers);
  if (setup_.policy.observe && !in_service(t.to)) entry.action = "observed only, not enforced. " + entry.action;
  note(std::move(entry));
  if (!in_service(t.to)) tell_exhausted(t, now);
}

void SimulatedReputation::tell_exhausted(const Transition& t, Time now) {
  for (const auto& pool : setup_.topology.pools) {
    const auto out = [&](std::uint32_t s) { return !in_service(view(states_[s], t.provider, context()).standing); };
    if (pool.sources.empty() || !std::ranges::all_of(pool.sources, out)) continue;
    TimelineEntry entry = entry_of(now, "pool-exhausted");
    entry.provider = t.provider;
    entry.rule = t.rule;
    entry.text = "every source of pool " + pool.name + " is out of service";
    entry.action = exhausted_action(pool.when_exhausted);
    note(std::move(entry));
  }
}

// ---- the prober --------------------------------------------------------------------------------------------------

Duration SimulatedReputation::interval(const List& list) const {
  return std::max(setup_.policy.interval, list.definition->interval.value_or(setup_.policy.interval));
}

/// A fifth more or less.
Duration SimulatedReputation::spread(Duration duration) {
  const double draw = static_cast<double>(random_() >> 11) / 9007199254740992.0;
  return Duration(static_cast<std::int64_t>(static_cast<double>(duration.count()) * (0.8 + 0.4 * draw)));
}

void SimulatedReputation::plan(std::uint32_t list, std::optional<std::uint32_t> source, Time at) {
  checks_.push({at, order_++, list, source, false});
}

void SimulatedReputation::advance(Time now) {
  while (!checks_.empty() && checks_.top().at <= now) {
    const Check due = checks_.top();
    checks_.pop();
    if (due.confirmation) confirming_.erase({due.list, *due.source});
    if (due.source)
      check(due.list, *due.source, now);
    else
      round(due.list, now);
  }
  if (tick_at_ <= now) tick(now);
}

/// The list's health, then its sources one after another, spread over the interval.
void SimulatedReputation::round(std::uint32_t index, Time now) {
  List& list = lists_[index];
  const Duration period = interval(list);
  const bool good = healthy(list, list.in_service ? std::min(period * 6, health_interval_max) : period / 2, now);
  withdraw_if_due(list, now);
  if (!good || list.sources.empty()) return plan(index, {}, now + spread(period));
  const Duration even = period / static_cast<std::int64_t>(list.sources.size());
  Time at = now;
  for (const std::uint32_t source : list.sources) {
    plan(index, source, at);
    at += spread(list.first ? std::min(even, first_round_gap) : even);
  }
  plan(index, {}, list.first ? now + period : at);
  list.first = false;
}

bool SimulatedReputation::healthy(List& list, Duration max_age, Time now) {
  if (list.probed && now - list.checked < max_age) return list.in_service;
  const Health health = judge_health(probe_of(*list.definition, answers(list.definition->name)), *list.definition);
  const bool news = list.in_service != health.in_service && (list.probed || !health.in_service);
  list.probed = true;
  list.checked = now;
  list.answered = health.answered;
  list.in_service = health.in_service;
  if (health.in_service) {
    list.out_since.reset();
    list.withdrawn = false;
  } else if (!list.out_since) {
    list.out_since = now;
  }
  if (!news) return list.in_service;
  TimelineEntry entry = entry_of(now, health.in_service ? "list-up" : "list-down");
  entry.blocklist = list.definition->name;
  entry.rule = "blocklist-health";
  entry.text = health.in_service ? "passes its test points again" : health.reason;
  if (!health.in_service) entry.action = "its answers do not count until it passes its test points (RFC 5782)";
  note(std::move(entry));
  return list.in_service;
}

/// A list that has been out of service for an interval does not keep a source listed, unless nothing can be asked.
void SimulatedReputation::withdraw_if_due(List& list, Time now) {
  if (!list.out_since || list.withdrawn || now - *list.out_since < interval(list)) return;
  const bool dns_works = std::ranges::any_of(lists_, [](const List& other) { return other.probed && other.answered; });
  if (!dns_works) return;
  list.withdrawn = true;
  for (std::uint32_t i = 0; i < states_.size(); ++i) fold(i, ListWithdrawn{list.definition->name}, now);
}

void SimulatedReputation::check(std::uint32_t index, std::uint32_t source, Time now) {
  List& list = lists_[index];
  const std::string& name = list.definition->name;
  DnsAnswer answer = no_such_name();
  if (!answers(name))
    answer = silence();
  else if (const auto code = listed_.find({name, source}); code != listed_.end())
    answer = {DnsAnswer::Status::answer, {code->second}, {}};
  ListChecked evidence{name, judge(answer, *list.definition), {}};
  const auto known = states_[source].listings.find(name);
  const bool confirmed = known != states_[source].listings.end() && known->second.confirmed;
  // Before a list may take a source out of service it must show that it is in order by now.
  if (evidence.judgement.result == Judgement::Result::listed && !confirmed &&
      !healthy(list, setup_.policy.confirm_interval / 2, now))
    evidence.judgement = {};
  if (!list.in_service) return;
  fold(source, evidence, now);
  // What is about to change is looked at again soon, not after a whole interval.
  const auto after = states_[source].listings.find(name);
  if (after == states_[source].listings.end() || evidence.judgement.result == Judgement::Result::unknown) return;
  const bool undecided = after->second.confirmed ? after->second.clean_in_a_row > 0 : after->second.listed_in_a_row > 0;
  if (!undecided || setup_.policy.confirm_interval >= interval(list) || !confirming_.insert({index, source}).second) return;
  checks_.push({now + setup_.policy.confirm_interval, order_++, index, source, true});
}

}  // namespace egret::routing
