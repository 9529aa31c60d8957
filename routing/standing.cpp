#include "routing/standing.hpp"

#include <algorithm>
#include <cmath>
#include <set>

namespace egret::routing {
namespace {

constexpr double epsilon = 1e-9;  // weights are decimal fractions
constexpr Duration vouch_window = std::chrono::minutes(10);
constexpr double throttle_floor = 1.0 / 16;
constexpr Duration throttle_step = std::chrono::minutes(5);
constexpr double cooldown_spread = 0.1;                    // of the cool-down, by the jitter
constexpr Duration block_memory = std::chrono::hours(48);  // in which a block can be taken back
constexpr std::size_t max_blocks = 4, max_refusals = 8, max_vouches = 64;
constexpr std::size_t max_providers = 1000;  // sites of no known provider are their own: remote names must not grow a state

/// base, 2 x base, 4 x base ... at most `cap`.
Duration doubled(Duration base, int repetitions, Duration cap) {
  const int shift = std::clamp(repetitions, 0, 20);
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

std::optional<std::uint64_t> ramp_cap(const Ramp& ramp, const StandingPolicy& policy) {
  if (ramp.phase == Ramp::Phase::none || ramp.step >= policy.warmup_caps.size()) return std::nullopt;
  return policy.warmup_caps[ramp.step];
}

void start_ramp(Ramp& ramp, Time now) {
  ramp = {Ramp::Phase::trial, 0, now, 0};
}

/// Which lists count: those that may eject, or those as well that only observe.
enum class Counted { enforced, observed_too };

/// Whether a listing counts for a provider.
bool counts(const std::string& name, const Listing& listing, std::string_view provider, const StandingContext& context,
            Counted counted = Counted::enforced) {
  const Blocklist* list = find_list(context, name);
  return listing.confirmed && list && !list->inform_only && (!list->observe || counted == Counted::observed_too) &&
         list->concerns_provider(provider);
}

/// The confirmed policy listing that concerns a provider, or null.
const std::pair<const std::string, Listing>* policy_listing(const SourceState& state, std::string_view provider,
                                                            const StandingContext& context, Counted counted = Counted::enforced) {
  for (const auto& entry : state.listings)
    if (entry.second.policy && counts(entry.first, entry.second, provider, context, counted)) return &entry;
  return nullptr;
}

std::string listing_text(const SourceState& state, std::string_view provider, const StandingContext& context) {
  std::string out;
  for (const auto& [name, listing] : state.listings) {
    if (!counts(name, listing, provider, context)) continue;
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

double sum_of_weights(const SourceState& state, std::string_view provider, const StandingContext& context, Counted counted) {
  double sum = 0;
  for (const auto& [name, listing] : state.listings)
    if (counts(name, listing, provider, context, counted)) sum += find_list(context, name)->weight;
  return sum;
}

/// Whether listings alone keep the source out with a provider.
bool out_by_listing(const SourceState& state, std::string_view provider, const StandingContext& context,
                    Counted counted = Counted::enforced) {
  return policy_listing(state, provider, context, counted) ||
         sum_of_weights(state, provider, context, counted) >= context.policy.threshold - epsilon;
}

/// Nothing is known of the provider that is not true of every other.
bool plain(const ProviderState& p) {
  return !p.blocked_until && p.strikes == 0 && p.ramp.phase == Ramp::Phase::none && p.throttle == 1.0 && !p.drained &&
         !p.observed_until && p.blocks.empty();
}

/// The provider's state, made where there is none; among too many, the one that was quiet longest makes room.
ProviderState& provider_state(SourceState& state, const std::string& name) {
  if (!state.providers.contains(name) && state.providers.size() >= max_providers) {
    const auto last = [](const ProviderState& p) { return std::max(p.last_block, p.throttled_at); };
    auto oldest = state.providers.end();
    for (auto it = state.providers.begin(); it != state.providers.end(); ++it)
      if (!it->second.drained && (oldest == state.providers.end() || last(it->second) < last(oldest->second))) oldest = it;
    if (oldest != state.providers.end()) state.providers.erase(oldest);
  }
  return state.providers[name];
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
  for (const auto& provider : were_out) {
    ProviderState& p = provider_state(state, provider);
    start_ramp(p.ramp, now);
    if (!p.blocks.empty()) p.blocks.back().ramp = p.ramp;  // taking the block back must not spare the trial
  }
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
  const bool by_receiver = std::ranges::any_of(
      state.vouched, [&](const Vouch& v) { return v.blocklist == check.blocklist && now - v.at <= vouch_window; });
  if (listing.listed_in_a_row >= context.policy.confirm) {
    listing.confirmed = true;
    listing.on_word = false;
  } else if (!listing.confirmed && listing.listed_in_a_row + by_receiver >= context.policy.confirm) {
    listing.confirmed = listing.on_word = true;
  }
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

// ---- blocks ----

/// A block whose time is over becomes a trial.
void end_block(ProviderState& p, Time now) {
  if (!p.blocked_until || now < *p.blocked_until) return;
  p.calm_since = *p.blocked_until;
  p.blocked_until.reset();
  p.config_fault = false;
  start_ramp(p.ramp, now);
}

/// How many strikes the time without a block has earned.
std::int64_t calm_steps(const ProviderState& p, const StandingPolicy& policy, Time now) {
  if (p.blocked_until || p.strikes == 0 || now < p.calm_since) return 0;
  return (now - p.calm_since) / std::max(policy.cooldown_max, Duration(1));
}

void forget_strikes(ProviderState& p, const StandingPolicy& policy, Time now) {
  const std::int64_t steps = calm_steps(p, policy, now);
  if (steps == 0) return;
  p.strikes -= static_cast<int>(std::min<std::int64_t>(steps, p.strikes));
  p.calm_since += steps * std::max(policy.cooldown_max, Duration(1));
}

/// Sets the block that p.blocks ends with: from its first refusal, for as long as the strikes before it say.
void set_block(ProviderState& p, const StandingPolicy& policy) {
  const Block& block = p.blocks.back();
  const Block::Refusal& first = block.refusals.front();
  const Duration cooldown = doubled(policy.cooldown_first, block.strikes, policy.cooldown_max);
  const double spread = static_cast<double>(cooldown.count()) * cooldown_spread * std::clamp(first.jitter, 0.0, 1.0);
  p.blocked_until = first.at + cooldown + Duration(static_cast<std::int64_t>(spread));
  p.config_fault = first.config_fault;
  p.last_block = first.at;
}

/// One more refusal while the block lasts. Messages that were under way when it began are no repetition of it.
void support_block(ProviderState& p, const Refused& refused, Time now) {
  if (p.blocks.empty()) return;
  Block& block = p.blocks.back();
  if (std::ranges::find(block.refusals, refused.message, &Block::Refusal::message) != block.refusals.end()) return;
  if (block.refusals.size() >= max_refusals)
    block.firm = true;
  else
    block.refusals.push_back({refused.message, now, refused.jitter, refused.label == Label::ip_config});
}

void block(ProviderState& p, const Refused& refused, const StandingPolicy& policy, Time now) {
  end_block(p, now);
  if (p.blocked_until) return support_block(p, refused, now);
  forget_strikes(p, policy, now);
  if (p.blocks.size() >= max_blocks) p.blocks.erase(p.blocks.begin());
  p.blocks.push_back({{}, false, p.strikes, p.last_block, p.calm_since, p.reason, p.ramp});
  support_block(p, refused, now);
  set_block(p, policy);
  p.reason = refused.text;
  ++p.strikes;
  p.ramp = {};
}

/// Takes back the block at `index`, which nothing supports any more: as if it had never been.
void undo_block(ProviderState& p, std::size_t index, Time began, const StandingPolicy& policy) {
  const Block gone = std::move(p.blocks[index]);
  p.blocks.erase(p.blocks.begin() + static_cast<std::ptrdiff_t>(index));
  p.strikes = std::max(0, p.strikes - 1);
  if (index == p.blocks.size()) {
    p.blocked_until.reset();
    p.config_fault = false;
    p.last_block = gone.last_block;
    p.calm_since = gone.calm_since;
    p.ramp = gone.ramp;
    if (p.throttled_at < began) p.reason = gone.reason;
    return;
  }
  Block& next = p.blocks[index];
  next.last_block = gone.last_block;
  next.calm_since = gone.calm_since;
  next.reason = gone.reason;
  next.ramp = gone.ramp;
  for (std::size_t i = index; i < p.blocks.size(); ++i) p.blocks[i].strikes = std::max(0, p.blocks[i].strikes - 1);
  if (p.blocked_until && !p.blocks.back().refusals.empty()) set_block(p, policy);
}

void withdraw(ProviderState& p, std::uint64_t message, const StandingPolicy& policy) {
  for (std::size_t i = p.blocks.size(); i-- > 0;) {
    Block& block = p.blocks[i];
    if (block.refusals.empty()) continue;
    const Time began = block.refusals.front().at;
    if (std::erase_if(block.refusals, [&](const Block::Refusal& r) { return r.message == message; }) == 0) continue;
    if (block.refusals.empty() && !block.firm)
      undo_block(p, i, began, policy);
    else if (i + 1 == p.blocks.size() && p.blocked_until && !block.refusals.empty())
      set_block(p, policy);  // it rests on a later refusal now
  }
}

void apply(SourceState& state, const Withdrawn& gone, const StandingContext& context, Time now) {
  if (gone.message == 0) return;
  std::set<std::string> lists;
  for (const Vouch& v : state.vouched)
    if (v.message == gone.message && v.provider == gone.provider) lists.insert(v.blocklist);
  std::erase_if(state.vouched, [&](const Vouch& v) { return v.message == gone.message && v.provider == gone.provider; });
  for (const std::string& name : lists) {
    const auto listing = state.listings.find(name);
    const bool others = std::ranges::any_of(state.vouched, [&](const Vouch& v) { return v.blocklist == name; });
    if (listing == state.listings.end() || !listing->second.on_word || others) continue;
    listing->second.confirmed = listing->second.on_word = false;
  }
  const auto it = state.providers.find(gone.provider);
  if (it == state.providers.end()) return;
  withdraw(it->second, gone.message, context.policy);
  end_block(it->second, now);  // what is left of it may be over by now
}

void vouch(SourceState& state, const Refused& refused, Time now) {
  std::erase_if(state.vouched, [&](const Vouch& v) {
    const bool again = v.blocklist == refused.blocklist && v.provider == refused.provider && v.message == refused.message;
    return again || now - v.at > vouch_window;
  });
  if (state.vouched.size() >= max_vouches) state.vouched.erase(state.vouched.begin());
  state.vouched.push_back({refused.blocklist, refused.provider, refused.message, now});
}

void throttle(ProviderState& p, const Refused& refused, Time now) {
  // One halving a second at the most: many replies to one burst are one observation.
  if (p.throttle == 1.0 || now - p.throttled_at >= std::chrono::seconds(1)) {
    p.throttle = std::max(throttle_floor, p.throttle / 2);
    p.throttled_at = now;
  }
  p.reason = refused.text;
}

void apply(SourceState& state, const Refused& refused, const StandingContext& context, Time now) {
  if (refused.observe && refused.label == Label::ip_throttled) return;  // ejects nobody in any case
  ProviderState& p = provider_state(state, refused.provider);
  if (refused.observe) {
    if (!p.observed_until || now >= *p.observed_until) p.observed_until = now + context.policy.cooldown_first;
    return;
  }
  if (!refused.blocklist.empty()) vouch(state, refused, now);
  if (refused.label == Label::ip_throttled)
    throttle(p, refused, now);
  else
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
  (drain.provider.empty() ? state.drained : provider_state(state, drain.provider).drained) = true;
}

void apply(SourceState& state, const Resume& resume, const StandingContext&, Time) {
  if (!resume.provider.empty()) {
    const auto it = state.providers.find(resume.provider);
    if (it != state.providers.end()) it->second.drained = false;
    return;
  }
  state.drained = false;
  for (auto& [name, provider] : state.providers) provider.drained = false;
}

bool step_over(const Ramp& ramp, const StandingPolicy& policy, Time now) {
  return ramp.phase == Ramp::Phase::warming && now - ramp.since >= policy.warmup_step;
}

/// The next step of the warm-up. A source that is out meanwhile warms nothing: it stays on its step.
void advance(Ramp& ramp, bool carries, const StandingPolicy& policy, Time now) {
  if (!step_over(ramp, policy, now)) return;
  if (!carries) {
    ramp.since = now;
  } else if (ramp.step + 1 >= policy.warmup.size() || policy.warmup[ramp.step + 1] >= 1.0) {
    ramp = {};
  } else {
    ramp = {Ramp::Phase::warming, ramp.step + 1, now, 0};
  }
}

bool recovers(const ProviderState& p, Time now) {
  return p.throttle < 1.0 && now - p.throttled_at >= throttle_step;
}

bool remembers_too_long(const Block& block, Time now) {
  return block.refusals.empty() || now - block.refusals.front().at > block_memory;
}

bool due(const ProviderState& p, const StandingPolicy& policy, Time now) {
  return (p.blocked_until && now >= *p.blocked_until) || step_over(p.ramp, policy, now) || recovers(p, now) ||
         calm_steps(p, policy, now) > 0 || (p.observed_until && now >= *p.observed_until) ||
         (!p.blocked_until && !p.blocks.empty() && remembers_too_long(p.blocks.front(), now)) || plain(p);
}

void apply(SourceState& state, const Tick&, const StandingContext& context, Time now) {
  if (state.resting_until && now >= *state.resting_until) state.resting_until.reset();
  advance(state.ramp, in_service(view(state, "", context).standing), context.policy, now);
  for (auto& [name, p] : state.providers) {
    if (!due(p, context.policy, now)) continue;
    end_block(p, now);
    forget_strikes(p, context.policy, now);
    advance(p.ramp, in_service(view(state, name, context).standing), context.policy, now);
    if (p.observed_until && now >= *p.observed_until) p.observed_until.reset();
    if (!p.blocked_until) std::erase_if(p.blocks, [&](const Block& b) { return remembers_too_long(b, now); });
    // Additive up with time too, so that a quiet provider is not throttled for ever.
    if (recovers(p, now)) {
      p.throttle = std::min(1.0, p.throttle + 0.25);
      p.throttled_at = now;
    }
  }
  std::erase_if(state.providers, [](const auto& entry) { return plain(entry.second); });
}

// ---- naming what happened ----------------------------------------------------------------------------------------

struct Cause {
  std::string rule, text, blocklist;
};

/// How a source looks with one provider, and how it would look if the rules that only observe counted.
struct Look {
  StandingView view;
  std::optional<Standing> would_be;  ///< where that differs
  std::optional<Time> would_until;
};
using Picture = std::map<std::string, Look>;

std::optional<Standing> would_be(const SourceState& state, std::string_view provider, const StandingContext& context) {
  if (policy_listing(state, provider, context, Counted::observed_too)) return Standing::misconfigured;
  if (out_by_listing(state, provider, context, Counted::observed_too)) return Standing::listed;
  const auto it = state.providers.find(provider);
  if (it != state.providers.end() && it->second.observed_until) return Standing::blocked;
  return std::nullopt;
}

/// The providers whose standing the evidence may change: a reply of one does not make the others be looked at.
std::set<std::string> concerned(const SourceState& state, const Evidence& evidence, const StandingContext& context) {
  if (const auto* refused = std::get_if<Refused>(&evidence)) return {"", refused->provider};
  if (const auto* delivered = std::get_if<Delivered>(&evidence); delivered && state.ramp.phase != Ramp::Phase::trial)
    return {"", delivered->provider};
  return provider_names(state, context);
}

Picture picture(const SourceState& state, const std::set<std::string>& names, const StandingContext& context) {
  Picture out;
  for (const auto& name : names) {
    Look& look = out[name];
    look.view = view(state, name, context);
    if (!in_service(look.view.standing)) continue;
    look.would_be = would_be(state, name, context);
    if (look.would_be == Standing::blocked) look.would_until = state.providers.find(name)->second.observed_until;
  }
  return out;
}

/// Of a provider that nothing particular is known of, everybody's.
const Look& look_at(const Picture& picture, const std::string& name) {
  const auto it = picture.find(name);
  return it == picture.end() ? picture.at("") : it->second;
}

/// What happened to everybody need not be told for each provider again.
void drop_repeated(std::vector<Transition>& transitions) {
  if (transitions.empty() || !transitions.front().provider.empty()) return;
  const Standing from = transitions.front().from, to = transitions.front().to;
  std::erase_if(transitions, [&](const Transition& t) { return !t.provider.empty() && t.from == from && t.to == to; });
}

Cause cause(const ListChecked& e) {
  std::string text =
      e.blocklist + (e.judgement.result == Judgement::Result::listed ? " lists the source" : " no longer lists the source");
  for (const auto& code : e.judgement.codes) text += ' ' + code;
  return {"blocklist-check", text, e.blocklist};
}

/// The list's own words, which came with the first check that found the listing.
std::string reason_of(const SourceState& state, const ListChecked& e) {
  const auto known = state.listings.find(e.blocklist);
  const std::string& text = !e.text.empty() || known == state.listings.end() ? e.text : known->second.text;
  return text.empty() || e.judgement.result != Judgement::Result::listed ? std::string() : " (" + text + ")";
}

Cause cause(const ListWithdrawn& e) {
  return {"blocklist-out-of-service", e.blocklist + " is out of service: its listings do not count", e.blocklist};
}
Cause cause(const Refused& e) {
  return {e.rule, e.text, e.blocklist};
}
Cause cause(const Withdrawn&) {
  return {"poison", "a message that every source was blocked for is the suspect: its refusals do not count", {}};
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
  return sum_of_weights(state, provider, context, Counted::enforced);
}

bool due(const SourceState& state, const StandingContext& context, Time now) {
  if (state.resting_until && now >= *state.resting_until) return true;
  if (step_over(state.ramp, context.policy, now)) return true;
  return std::ranges::any_of(state.providers, [&](const auto& entry) { return due(entry.second, context.policy, now); });
}

StandingView view(const SourceState& state, std::string_view provider, const StandingContext& context) {
  const auto out = [](Standing standing, std::optional<Time> until, std::string reason) {
    StandingView view;
    view.standing = standing;
    view.until = until;
    view.reason = std::move(reason);
    view.share = 0.0;
    return view;
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
  std::vector<const Ramp*> ramps{&state.ramp};
  if (p) ramps.push_back(&p->ramp);
  const auto in_phase = [&](Ramp::Phase phase) { return std::ranges::find(ramps, phase, &Ramp::phase) != ramps.end(); };
  for (const Ramp* ramp : ramps)
    if (const auto cap = ramp_cap(*ramp, context.policy)) ok.per_day = std::min(*cap, ok.per_day.value_or(*cap));
  if (in_phase(Ramp::Phase::trial)) {
    ok.standing = Standing::trial;
    ok.reason = "returning: one message at a time";
    for (const Ramp* ramp : ramps)
      if (ramp->phase == Ramp::Phase::trial) ok.since = std::max(ok.since, ramp->since);
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
  if (std::holds_alternative<Tick>(evidence) && !due(state, context, now)) return {};
  std::set<std::string> names = concerned(state, evidence, context);
  const Picture before = picture(state, names, context);
  std::visit([&](const auto& e) { apply(state, e, context, now); }, evidence);
  names.merge(concerned(state, evidence, context));
  const Picture after = picture(state, names, context);
  std::vector<Transition> out, observed;
  const auto add = [&](std::vector<Transition>& to, const std::string& name, Standing from, Standing standing,
                       std::optional<Time> until) {
    Cause why = std::visit([](const auto& e) { return cause(e); }, evidence);
    if (const auto* checked = std::get_if<ListChecked>(&evidence)) why.text += reason_of(state, *checked);
    to.push_back({name, from, standing, why.rule, why.text, why.blocklist, until, &to == &observed});
  };
  for (const auto& name : names) {
    const Look &was = look_at(before, name), &is = after.at(name);
    if (was.view.standing != is.view.standing || was.view.share != is.view.share)
      add(out, name, was.view.standing, is.view.standing, is.view.until);
    if (was.would_be != is.would_be && in_service(is.view.standing))
      add(observed, name, was.would_be.value_or(was.view.standing), is.would_be.value_or(is.view.standing), is.would_until);
  }
  drop_repeated(out);
  drop_repeated(observed);
  std::ranges::move(observed, std::back_inserter(out));
  return out;
}

}  // namespace egret::routing
