#include "routing/standing.hpp"

#include <algorithm>
#include <cmath>
#include <set>

namespace egret::routing {
namespace {

constexpr double epsilon = 1e-9;  // weights are decimal fractions
constexpr Duration vouch_window = std::chrono::minutes(10);
constexpr double throttle_floor = 1.0 / 16;

/// base, 2 x base, 4 x base ... at most `cap`.
Duration doubled(Duration base, int repetitions, Duration cap) {
  const int shift = std::min(repetitions, 20);
  return std::min(cap, Duration(base.count() << shift));
}

const Blocklist* find_list(const StandingContext& context, std::string_view name) {
  const auto it = context.lists.find(name);
  return it == context.lists.end() ? nullptr : &it->second;
}

double ramp_share(const Ramp& ramp, const StandingPolicy& policy) {
  if (ramp.phase == Ramp::Phase::none || policy.warmup.empty()) return 1.0;
  return policy.warmup[std::min(ramp.step, policy.warmup.size() - 1)];
}

void start_ramp(Ramp& ramp, Time now) {
  ramp = {Ramp::Phase::trial, 0, now, 0};
}

/// The confirmed policy listing that concerns a provider, or null.
const std::pair<const std::string, Listing>* policy_listing(const SourceState& state, std::string_view provider,
                                                            const StandingContext& context) {
  for (const auto& entry : state.listings) {
    const Blocklist* list = find_list(context, entry.first);
    if (entry.second.confirmed && entry.second.policy && list && !list->inform_only && list->concerns_provider(provider))
      return &entry;
  }
  return nullptr;
}

std::string listing_text(const SourceState& state, std::string_view provider, const StandingContext& context) {
  std::string out;
  for (const auto& [name, listing] : state.listings) {
    const Blocklist* list = find_list(context, name);
    if (!listing.confirmed || !list || list->inform_only || !list->concerns_provider(provider)) continue;
    if (!out.empty()) out += ", ";
    out += name;
    for (const auto& code : listing.codes) out += ' ' + code;
  }
  return "listed by " + out;
}

/// "" for everybody, and every provider that anything particular is known of.
std::set<std::string> provider_names(const SourceState& state, const StandingContext& context) {
  std::set<std::string> out{""};
  for (const auto& [name, p] : state.providers) out.insert(name);
  for (const auto& [name, listing] : state.listings)
    if (const Blocklist* list = find_list(context, name)) out.insert(list->concerns.begin(), list->concerns.end());
  return out;
}

// ---- applying evidence -------------------------------------------------------------------------------------------

/// Whether listings alone keep the source out with a provider.
bool out_by_listing(const SourceState& state, std::string_view provider, const StandingContext& context) {
  return policy_listing(state, provider, context) || score(state, provider, context) >= context.policy.threshold - epsilon;
}

/// A listing is gone: where it was what kept the source out, that returns by trial.
void listing_ended(SourceState& state, const std::string& name, const StandingContext& context, Time now) {
  std::vector<std::string> were_out;
  for (const auto& provider : provider_names(state, context))
    if (out_by_listing(state, provider, context)) were_out.push_back(provider);
  state.listings.erase(name);
  std::erase_if(were_out, [&](const std::string& provider) { return out_by_listing(state, provider, context); });
  // Names are sorted, so "everybody" comes first and includes the rest.
  if (!were_out.empty() && were_out.front().empty()) return start_ramp(state.ramp, now);
  for (const auto& provider : were_out) start_ramp(state.providers[provider].ramp, now);
}

void listed(SourceState& state, const ListChecked& check, const StandingContext& context, Time now) {
  auto [it, fresh] = state.listings.try_emplace(check.blocklist);
  Listing& listing = it->second;
  if (fresh) listing.first_seen = now;
  listing.last_seen = now;
  listing.codes = check.judgement.codes;
  listing.policy = check.judgement.policy;
  if (!check.text.empty()) listing.text = check.text;
  listing.clean_in_a_row = 0;
  listing.clean_since.reset();
  ++listing.listed_in_a_row;
  // A receiver that named this very list counts as the first of the checks that must agree.
  const auto vouched = state.vouched.find(check.blocklist);
  const bool by_receiver = vouched != state.vouched.end() && now - vouched->second <= vouch_window;
  if (listing.listed_in_a_row + by_receiver >= context.policy.confirm) listing.confirmed = true;
}

void not_listed(SourceState& state, const ListChecked& check, const StandingContext& context, Time now) {
  const auto it = state.listings.find(check.blocklist);
  if (it == state.listings.end()) return;
  Listing& listing = it->second;
  if (!listing.confirmed) {
    state.listings.erase(it);
    return;
  }
  listing.listed_in_a_row = 0;
  ++listing.clean_in_a_row;
  if (!listing.clean_since) listing.clean_since = now;
  const Blocklist* list = find_list(context, check.blocklist);
  const Duration settle = list ? list->settle : Duration{0};
  if (listing.clean_in_a_row < context.policy.confirm || now - *listing.clean_since < settle) return;
  listing_ended(state, check.blocklist, context, now);
}

void apply(SourceState& state, const ListChecked& check, const StandingContext& context, Time now) {
  switch (check.judgement.result) {
    case Judgement::Result::unknown:
      return;
    case Judgement::Result::clean:
      not_listed(state, check, context, now);
      break;
    case Judgement::Result::listed:
      listed(state, check, context, now);
      break;
  }
  state.checked = true;
}

void apply(SourceState& state, const ListWithdrawn& gone, const StandingContext& context, Time now) {
  if (state.listings.contains(gone.blocklist)) listing_ended(state, gone.blocklist, context, now);
}

void block(ProviderState& p, const Refused& refused, const StandingPolicy& policy, Time now) {
  const bool already = p.blocked_until && now < *p.blocked_until;
  if (already) return;  // messages that were under way when the block began are no repetition of it
  p.reason = refused.text;
  p.config_fault = refused.label == Label::ip_config;
  if (p.strikes > 0 && now - p.last_block > policy.cooldown_max * 2) p.strikes = 0;
  p.blocked_until = now + doubled(policy.cooldown_first, p.strikes, policy.cooldown_max);
  ++p.strikes;
  p.last_block = now;
  p.ramp = {};
}

void apply(SourceState& state, const Refused& refused, const StandingContext& context, Time now) {
  ProviderState& p = state.providers[refused.provider];
  if (!refused.blocklist.empty()) state.vouched[refused.blocklist] = now;
  if (refused.label == Label::ip_throttled) {
    // One halving a second at the most: many replies to one burst are one observation.
    if (p.throttle == 1.0 || now - p.throttled_at >= std::chrono::seconds(1)) {
      p.throttle = std::max(throttle_floor, p.throttle / 2);
      p.throttled_at = now;
    }
    p.reason = refused.text;
    return;
  }
  block(p, refused, context.policy, now);
}

void count_success(Ramp& ramp, const StandingPolicy& policy, Time now) {
  if (ramp.phase != Ramp::Phase::trial || ++ramp.successes < policy.trial_successes) return;
  ramp = {Ramp::Phase::warming, 0, now, 0};
}

void apply(SourceState& state, const Delivered& delivered, const StandingContext& context, Time now) {
  // A message that was under way when the source went out proves nothing about its return.
  if (!in_service(view(state, delivered.provider, context).standing)) return;
  count_success(state.ramp, context.policy, now);
  const auto it = state.providers.find(delivered.provider);
  if (it == state.providers.end()) return;
  count_success(it->second.ramp, context.policy, now);
  if (it->second.throttle < 1.0) it->second.throttle = std::min(1.0, it->second.throttle + 0.02);
}

void apply(SourceState& state, const SourceFault& fault, const StandingContext&, Time now) {
  state.rest_reason = fault.reason;
  if (state.resting_until && now < *state.resting_until) return;
  state.resting_until = now + doubled(std::chrono::seconds(5), state.rests, std::chrono::minutes(5));
  ++state.rests;
}

void apply(SourceState& state, const SourceWorks&, const StandingContext&, Time) {
  state.resting_until.reset();
  state.rests = 0;
  state.rest_reason.clear();
}

void apply(SourceState& state, const Drain& drain, const StandingContext&, Time) {
  (drain.provider.empty() ? state.drained : state.providers[drain.provider].drained) = true;
}

void apply(SourceState& state, const Resume& resume, const StandingContext&, Time) {
  if (!resume.provider.empty()) {
    state.providers[resume.provider].drained = false;
    return;
  }
  state.drained = false;
  for (auto& [name, provider] : state.providers) provider.drained = false;
}

void advance(Ramp& ramp, const StandingPolicy& policy, Time now) {
  if (ramp.phase != Ramp::Phase::warming || now - ramp.since < policy.warmup_step) return;
  if (ramp.step + 1 >= policy.warmup.size() || policy.warmup[ramp.step + 1] >= 1.0) {
    ramp = {};
    return;
  }
  ramp = {Ramp::Phase::warming, ramp.step + 1, now, 0};
}

void apply(SourceState& state, const Tick&, const StandingContext& context, Time now) {
  if (state.resting_until && now >= *state.resting_until) state.resting_until.reset();
  advance(state.ramp, context.policy, now);
  for (auto& [name, p] : state.providers) {
    if (p.blocked_until && now >= *p.blocked_until) {
      p.blocked_until.reset();
      p.config_fault = false;
      start_ramp(p.ramp, now);
    }
    advance(p.ramp, context.policy, now);
    // Additive up with time too, so that a quiet provider is not throttled for ever.
    if (p.throttle < 1.0 && now - p.throttled_at >= std::chrono::minutes(5)) {
      p.throttle = std::min(1.0, p.throttle + 0.25);
      p.throttled_at = now;
    }
  }
}

// ---- naming what happened ----------------------------------------------------------------------------------------

struct Cause {
  std::string rule, text, blocklist;
};

Cause cause(const ListChecked& e) {
  std::string text =
      e.blocklist + (e.judgement.result == Judgement::Result::listed ? " lists the source" : " no longer lists the source");
  for (const auto& code : e.judgement.codes) text += ' ' + code;
  if (!e.text.empty()) text += " (" + e.text + ")";
  return {"blocklist-check", text, e.blocklist};
}
Cause cause(const ListWithdrawn& e) {
  return {"blocklist-out-of-service", e.blocklist + " is out of service: its listings do not count", e.blocklist};
}
Cause cause(const Refused& e) {
  return {e.rule, e.text, e.blocklist};
}
Cause cause(const Delivered&) {
  return {"deliveries", "enough deliveries succeeded", {}};
}
Cause cause(const SourceFault& e) {
  return {"source-fault", e.reason, {}};
}
Cause cause(const SourceWorks&) {
  return {"source-works", "the address works again", {}};
}
Cause cause(const Drain&) {
  return {"operator-drain", "drained by the operator", {}};
}
Cause cause(const Resume&) {
  return {"operator-resume", "resumed by the operator", {}};
}
Cause cause(const Tick&) {
  return {"time", "its time was over", {}};
}

}  // namespace

double score(const SourceState& state, std::string_view provider, const StandingContext& context) {
  double sum = 0;
  for (const auto& [name, listing] : state.listings) {
    const Blocklist* list = find_list(context, name);
    if (listing.confirmed && list && !list->inform_only && list->concerns_provider(provider)) sum += list->weight;
  }
  return sum;
}

StandingView view(const SourceState& state, std::string_view provider, const StandingContext& context) {
  const auto out = [](Standing standing, std::optional<Time> until, std::string reason) {
    return StandingView{standing, until, std::move(reason), 0.0, 1.0, false};
  };
  const auto it = state.providers.find(provider);
  const ProviderState* p = it == state.providers.end() ? nullptr : &it->second;
  if (state.drained || (p && p->drained)) return out(Standing::drained, {}, "drained by the operator");
  if (state.resting_until) return out(Standing::misconfigured, state.resting_until, state.rest_reason);
  if (const auto* listing = policy_listing(state, provider, context))
    return out(Standing::misconfigured, {}, "policy listing by " + listing->first + ": the range should not send mail");
  if (score(state, provider, context) >= context.policy.threshold - epsilon)
    return out(Standing::listed, {}, listing_text(state, provider, context));
  if (p && p->blocked_until)
    return out(p->config_fault ? Standing::misconfigured : Standing::blocked, p->blocked_until, p->reason);

  StandingView ok;
  ok.share = std::min(ramp_share(state.ramp, context.policy), p ? ramp_share(p->ramp, context.policy) : 1.0);
  ok.throttle = p ? p->throttle : 1.0;
  const auto in_phase = [&](Ramp::Phase phase) { return state.ramp.phase == phase || (p && p->ramp.phase == phase); };
  if (in_phase(Ramp::Phase::trial)) {
    ok.standing = Standing::trial;
    ok.reason = "returning: one message at a time";
  } else if (in_phase(Ramp::Phase::warming)) {
    ok.standing = Standing::warming;
    const Time since = std::max(state.ramp.since, p ? p->ramp.since : Time{});
    ok.until = since + context.policy.warmup_step;
    ok.reason = "returning: share " + std::to_string(std::lround(ok.share * 100)) + "%";
  } else if (ok.throttle < 1.0) {
    ok.standing = Standing::throttled;
    ok.reason = p->reason;
  } else {
    ok.standing = state.checked || context.lists.empty() ? Standing::clean : Standing::unknown;
  }
  ok.wants_successes = ok.standing == Standing::trial || ok.throttle < 1.0;
  return ok;
}

std::vector<Transition> fold(SourceState& state, const Evidence& evidence, const StandingContext& context, Time now) {
  std::map<std::string, StandingView> before;
  for (const auto& name : provider_names(state, context)) before[name] = view(state, name, context);
  const StandingView before_default = before.at("");
  std::visit([&](const auto& e) { apply(state, e, context, now); }, evidence);
  std::vector<Transition> out;
  for (const auto& name : provider_names(state, context)) {
    const StandingView after = view(state, name, context);
    const auto it = before.find(name);
    const StandingView& was = it == before.end() ? before_default : it->second;
    if (was.standing == after.standing && was.share == after.share) continue;
    const Cause why = std::visit([](const auto& e) { return cause(e); }, evidence);
    out.push_back({name, was.standing, after.standing, why.rule, why.text, why.blocklist, after.until});
  }
  // What happened to everybody need not be told for each provider again.
  if (!out.empty() && out.front().provider.empty())
    std::erase_if(
        out, [&](const Transition& t) { return !t.provider.empty() && t.from == out.front().from && t.to == out.front().to; });
  return out;
}

void smarthost_refused(SmarthostState& state, std::string reason, Time now) {
  state.reason = std::move(reason);
  if (state.resting_until && now < *state.resting_until) return;
  state.resting_until = now + doubled(std::chrono::minutes(1), state.rests, std::chrono::hours(1));
  ++state.rests;
}

void smarthost_delivered(SmarthostState& state) {
  state = {};
}

}  // namespace egret::routing
