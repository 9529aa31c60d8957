#include "routing/simulated_delivery.hpp"

#include <algorithm>

#include "routing/blocklist.hpp"
#include "routing/schedule.hpp"

namespace egret::routing {
namespace {

// What receivers and smarthosts typically say. {ip} and {zone} are filled in.
constexpr std::string_view listed_reply = "554 5.7.1 Service unavailable; Client host [{ip}] blocked using {zone}";
constexpr std::string_view blocked_reply =
    "550 5.7.1 Mail from [{ip}] was refused: this IP address is blocked because of its poor reputation";
constexpr std::string_view throttled_reply =
    "421 4.7.0 Too many messages from [{ip}], its IP address is rate limited, try again later";
constexpr std::string_view quota_reply = "454 4.7.0 Throttling failure: Daily message quota exceeded";
constexpr Duration look_again = std::chrono::seconds(1);

std::string fill(std::string text, std::string_view mark, std::string_view value) {
  for (std::size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at + value.size()))
    text.replace(at, mark.size(), value);
  return text;
}

smtp::RecipientOutcome outcome_of(const std::string& reply, smtp::Phase phase) {
  return {smtp::parse_reply(reply), phase};
}

/// Without a budget the use of the day is counted all the same.
Budget budget_of(const SimulatedSmarthost& smarthost) {
  return smarthost.budget.value_or(Budget{UINT64_MAX, std::chrono::hours(24)});
}

}  // namespace

double draw_share(std::mt19937_64& random) {
  return static_cast<double>(random() >> 11) / 9007199254740992.0;
}

SimulatedDelivery::SimulatedDelivery(const SimulationSetup& setup, const Scenario& scenario, SimulatedReputation& reputation,
                                     SimulationReport& report, std::vector<std::size_t> class_report, std::mt19937_64& random)
    : setup_(setup),
      scenario_(scenario),
      reputation_(reputation),
      report_(report),
      class_report_(std::move(class_report)),
      random_(random),
      budgets_(setup.smarthosts.size()),
      told_used_up_(setup.smarthosts.size(), Time::min()),
      waiting_(report.classes.size()) {
  std::map<std::string, std::uint32_t> sites;
  for (std::uint32_t i = 0; i < scenario.domains.size(); ++i) {
    const auto [site, fresh] = sites.try_emplace(scenario.domains[i].site, static_cast<std::uint32_t>(sites.size()));
    if (fresh) domain_at_.push_back(i);
    site_of_.push_back(site->second);
  }
}

void SimulatedDelivery::submit(const SimulatedTraffic& traffic, std::uint32_t domain, Time now) {
  auto job = std::make_unique<Job>();
  const SimulatedClass& message_class = setup_.classes[traffic.message_class];
  job->message_class = traffic.message_class;
  job->domain = domain;
  job->pool = scenario_.domains[domain].pool.value_or(message_class.pool);
  job->recipients = traffic.recipients;
  job->size = traffic.size;
  job->accepted = now;
  job->expires = now + message_class.max_age;
  ++hour(*job, now).accepted;
  ++waiting_[class_report_[job->message_class]];
  dispatch(std::move(job), now);
}

Time SimulatedDelivery::next() const {
  Time out = std::min(held_at_, next_end());
  if (!scheduled_.empty()) out = std::min(out, scheduled_.front()->next_at);
  return out;
}

void SimulatedDelivery::advance(Time now) {
  while (!in_flight_.empty() && in_flight_.front().ends <= now) {
    Attempt attempt = std::move(in_flight_.front());
    in_flight_.pop_front();
    Lane& lane = lanes_.at(attempt.lane);
    --lane.active;
    ++report_.attempts;
    conclude(std::move(attempt.job), now);
    settle(now);
    kick(attempt.lane, lane, now);
  }
  while (!stopped_ && !scheduled_.empty() && scheduled_.front()->next_at <= now) {
    std::ranges::pop_heap(scheduled_, LaterFirst{});
    JobPtr job = std::move(scheduled_.back());
    scheduled_.pop_back();
    dispatch(std::move(job), now);
  }
  if (!stopped_ && held_at_ <= now) look_at_held(now);
}

void SimulatedDelivery::settle(Time now) {
  while (version_ != reputation_.snapshot().version || offer_held_) {
    const bool moved = version_ != reputation_.snapshot().version;
    version_ = reputation_.snapshot().version;
    if (moved) reroute_lanes(now);
    offer_held_ = false;
    release_held(now);
  }
}

void SimulatedDelivery::finish(Time now) {
  const auto count = [&](const Job& job) {
    if (job.was_held && job.messages > 0) class_of(job).held.add(job.held_for + (now - job.held_since.value_or(now)));
  };
  for (const auto& [key, group] : held_)
    for (const auto& job : group.jobs) count(*job);
  for (const auto& [key, lane] : lanes_)
    for (const auto& job : lane.ready) count(*job);
  for (const auto& job : scheduled_) count(*job);
}

// ---- the decision (dispatcher) -----------------------------------------------------------------------------------

Request SimulatedDelivery::request_for(const Job& job) const {
  const SimulatedDomain& to = domain(job);
  Request request;
  request.pool = job.pool;
  request.site = to.site;
  request.provider = to.provider;
  request.ipv4 = to.ipv4;
  request.ipv6 = to.ipv6;
  request.excluded = job.tried;
  if (job.sticky) (job.sticky->kind == EgressKind::source ? request.only_source : request.only_smarthost) = job.sticky->index;
  return request;
}

void SimulatedDelivery::dispatch(JobPtr job, Time now) {
  if (now >= job->expires) return failed(*job, now);
  const Snapshot& snapshot = reputation_.snapshot();
  // Greylisting wants the same source again, but not at the price of waiting for it to be delisted.
  if (job->sticky && !job->sticky_strict && job->sticky->kind == EgressKind::source &&
      !in_service(snapshot.sources[job->sticky->index].with(domain(*job).provider).standing))
    job->sticky.reset();
  Request request = request_for(*job);
  const std::uint64_t tie_break = random_();
  while (true) {
    const Route decision = route(setup_.topology, snapshot, request, now, tie_break);
    if (decision.hold) {
      // Something was tried in this round: the round is over. Else nothing can be tried: wait for better standings.
      if (job->tried.empty()) return hold(std::move(job), *decision.hold, now);
      const auto sticky = job->sticky;
      const bool strict = job->sticky_strict;
      return retry_later(std::move(job), sticky, strict, now);
    }
    job->egress = decision.candidates.front().egress;
    if (job->egress.kind == EgressKind::smarthost) {
      const auto most = static_cast<std::uint32_t>(setup_.smarthosts[job->egress.index].recipients);
      if (job->recipients > most) return split(std::move(job), most, now);
    }
    if (admitted(*job, request, now)) return enqueue(std::move(job), now);
  }
}

/// Whether the chosen egress takes this message now; if not, it is excluded and the route decided again.
bool SimulatedDelivery::admitted(Job& job, Request& request, Time now) {
  const std::uint32_t index = job.egress.index;
  if (job.egress.kind == EgressKind::source) {
    const std::string& provider = domain(job).provider;
    const Standing standing = reputation_.snapshot().sources[index].with(provider).standing;
    if (standing != Standing::trial || setup_.topology.observe) return true;
    job.holds_trial = trials_.emplace(index, provider).second;
    if (!job.holds_trial) request.excluded.push_back({job.egress, "trial: another message is on its way", {}});
    return job.holds_trial;
  }
  const SimulatedSmarthost& host = setup_.smarthosts[index];
  if (host.message_size && job.size > host.message_size) {
    request.excluded.push_back({job.egress, "the message is larger than it takes", {}});
    return false;
  }
  const Budget budget = budget_of(host);
  job.charged = charge(budgets_[index], budget, job.recipients, now);
  if (job.charged) return true;
  request.excluded.push_back({job.egress, "budget used up", budget_window(budget, now) + budget.per});
  budget_used_up(index, now);
  return false;
}

void SimulatedDelivery::budget_used_up(std::uint32_t smarthost, Time now) {
  const Budget budget = budget_of(setup_.smarthosts[smarthost]);
  const Time window = budget_window(budget, now);
  if (told_used_up_[smarthost] == window) return;
  told_used_up_[smarthost] = window;
  TimelineEntry entry;
  entry.time = now;
  entry.kind = "budget";
  entry.smarthost = setup_.topology.smarthosts[smarthost];
  entry.rule = "budget";
  entry.text = std::to_string(budgets_[smarthost].used) + " of " + std::to_string(budget.recipients) + " recipients in " +
               to_string(budget.per) + " used";
  entry.action = "renews at " + to_rfc3339(window + budget.per);
  reputation_.note(std::move(entry));
}

/// A smarthost takes fewer recipients in one transaction than the job has: each part is decided for itself.
void SimulatedDelivery::split(JobPtr job, std::uint32_t most, Time now) {
  for (std::uint32_t left = job->recipients; left > 0;) {
    auto part = std::make_unique<Job>(*job);
    part->recipients = std::min(left, most);
    left -= part->recipients;
    job->messages = 0;
    dispatch(std::move(part), now);
  }
}

void SimulatedDelivery::enqueue(JobPtr job, Time now) {
  if (job->held_since) {
    job->held_for += now - *job->held_since;
    job->held_since.reset();
  }
  const LaneKey key{job->egress, job->egress.kind == EgressKind::smarthost ? 0 : site_of_[job->domain]};
  Lane& lane = lanes_[key];
  lane.ready.push_back(std::move(job));
  kick(key, lane, now);
}

std::size_t SimulatedDelivery::limit(const LaneKey& key) const {
  if (key.first.kind == EgressKind::smarthost) return static_cast<std::size_t>(setup_.smarthosts[key.first.index].connections);
  const SimulatedDomain& site = scenario_.domains[domain_at_[key.second]];
  const StandingView& view = reputation_.snapshot().sources[key.first.index].with(site.provider);
  return std::max<std::size_t>(1, static_cast<std::size_t>(static_cast<double>(site.connections) * view.throttle));
}

void SimulatedDelivery::kick(const LaneKey& key, Lane& lane, Time now) {
  if (stopped_ || lane.ready.empty()) return;
  for (const std::size_t most = limit(key); lane.active < most && !lane.ready.empty(); ++lane.active) {
    in_flight_.push_back({now + scenario_.attempt_time, key, std::move(lane.ready.front())});
    lane.ready.pop_front();
  }
}

/// Mail that waits for a connection of an egress that is out of service by now takes another way.
void SimulatedDelivery::reroute_lanes(Time now) {
  if (setup_.topology.observe) return;
  std::vector<JobPtr> moved;
  for (auto& [key, lane] : lanes_) {
    if (key.first.kind != EgressKind::source || lane.ready.empty()) continue;
    const auto& view = reputation_.snapshot().sources[key.first.index].with(domain(*lane.ready.front()).provider);
    if (in_service(view.standing)) continue;
    for (auto& job : lane.ready) {
      release_trial(*job);
      moved.push_back(std::move(job));
    }
    lane.ready.clear();
  }
  for (auto& job : moved) dispatch(std::move(job), now);
}

void SimulatedDelivery::hold(JobPtr job, const Hold& why, Time now) {
  const SimulatedDomain& to = domain(*job);
  HeldKey key{job->pool, to.provider, -1, to.ipv4, to.ipv6};
  if (job->sticky) key.sticky = static_cast<int>(job->sticky->index) * 2 + (job->sticky->kind == EgressKind::smarthost);
  if (!job->held_since) job->held_since = now;
  if (!job->was_held) hour(*job, now).held += job->messages;
  job->was_held = true;
  HeldJobs& held = held_[key];
  held.until = why.until;
  held.first_expiry = std::min(held.first_expiry, job->expires);
  held.jobs.push_back(std::move(job));
  plan_held(now);
}

/// Offers held mail again: one job of each kind finds out for all of them.
void SimulatedDelivery::release_held(Time now) {
  auto held = std::move(held_);
  held_.clear();
  for (auto& [key, group] : held) {
    while (!group.jobs.empty()) {
      JobPtr job = std::move(group.jobs.front());
      group.jobs.pop_front();
      const Route decision = route(setup_.topology, reputation_.snapshot(), request_for(*job), now, random_());
      if (decision.hold && now < job->expires) {
        group.until = decision.hold->until;
        group.jobs.push_front(std::move(job));
        break;
      }
      const std::size_t before = held_[key].jobs.size();
      dispatch(std::move(job), now);
      // Held again, because the one place was taken (a trial): the others would be too.
      if (held_[key].jobs.size() > before) break;
    }
    HeldJobs& again = held_[key];
    if (!group.jobs.empty()) again.first_expiry = std::min(again.first_expiry, group.first_expiry);  // or earlier: looked at then
    if (!again.until) again.until = group.until;
    for (; !again.jobs.empty(); again.jobs.pop_back()) group.jobs.push_front(std::move(again.jobs.back()));
    again.jobs.swap(group.jobs);
    if (again.jobs.empty()) held_.erase(key);
  }
  plan_held(now);
}

void SimulatedDelivery::look_at_held(Time now) {
  looked_at_held_ = now;
  std::vector<JobPtr> expired;
  for (auto& [key, held] : held_) {
    if (held.first_expiry > now) continue;
    held.first_expiry = Time::max();
    std::erase_if(held.jobs, [&](JobPtr& job) {
      if (job->expires <= now) return expired.push_back(std::move(job)), true;
      held.first_expiry = std::min(held.first_expiry, job->expires);
      return false;
    });
  }
  for (const auto& job : expired) failed(*job, now);
  release_held(now);
}

void SimulatedDelivery::plan_held(Time now) {
  held_at_ = Time::max();
  for (const auto& [key, held] : held_) held_at_ = std::min({held_at_, held.first_expiry, held.until.value_or(Time::max())});
  if (held_at_ != Time::max()) held_at_ = std::max({held_at_, looked_at_held_ + look_again, now});
}

void SimulatedDelivery::release_trial(Job& job) {
  if (!job.holds_trial) return;
  job.holds_trial = false;
  trials_.erase({job.egress.index, domain(job).provider});
  offer_held_ = true;
}

void SimulatedDelivery::give_back(Job& job, Time now) {
  if (!std::exchange(job.charged, false)) return;
  refund(budgets_[job.egress.index], budget_of(setup_.smarthosts[job.egress.index]), job.recipients, now);
}

// ---- the world ---------------------------------------------------------------------------------------------------

/// What the peer says, if it is not a welcome.
std::optional<smtp::RecipientOutcome> SimulatedDelivery::refusal(const Job& job) {
  const std::uint32_t index = job.egress.index;
  if (job.egress.kind == EgressKind::smarthost) {
    const Incident* incident = reputation_.refuses(index);
    if (!incident) return std::nullopt;
    return outcome_of(incident->reply.empty() ? std::string(quota_reply) : incident->reply, smtp::Phase::mail);
  }
  const SimulatedDomain& to = domain(job);
  const auto say = [&](const std::string& own, std::string_view typical, smtp::Phase phase) {
    const std::string ip = setup_.topology.sources[index].reputation.to_string();
    return outcome_of(fill(own.empty() ? std::string(typical) : own, "{ip}", ip), phase);
  };
  if (const Incident* incident = reputation_.blocks(to.provider, index))
    return say(incident->reply, blocked_reply, smtp::Phase::rcpt);
  for (const auto& name : to.blocklists) {
    if (!reputation_.lists(name, index) || !reputation_.answers(name)) continue;
    const auto list = setup_.lists.find(name);
    const std::string zone = list == setup_.lists.end() ? name : list->second.public_zone;
    return say(fill(std::string(listed_reply), "{zone}", zone), "", smtp::Phase::rcpt);
  }
  const Incident* incident = reputation_.throttles(to.provider, index);
  if (incident && draw_share(random_) < incident->share) return say(incident->reply, throttled_reply, smtp::Phase::mail);
  return std::nullopt;
}

// ---- what follows an attempt (outcome) ---------------------------------------------------------------------------

void SimulatedDelivery::conclude(JobPtr job, Time now) {
  release_trial(*job);
  const bool source = job->egress.kind == EgressKind::source;
  if (source && !reputation_.works(job->egress.index)) {
    const std::string text = "address " + setup_.topology.sources[job->egress.index].address.to_string() + " does not work";
    reputation_.fold(job->egress.index, SourceFault{text}, now);
    return next_egress(std::move(job), text, now);
  }
  if (const auto outcome = refusal(*job)) return conclude_refused(std::move(job), *outcome, now);
  const Snapshot& snapshot = reputation_.snapshot();
  if (!source && snapshot.smarthosts[job->egress.index].resting_until) reputation_.smarthost_delivered(job->egress.index, now);
  if (source && snapshot.sources[job->egress.index].with(domain(*job).provider).wants_successes)
    reputation_.fold(job->egress.index, Delivered{domain(*job).provider}, now);
  delivered(std::move(job), now);
}

Verdict SimulatedDelivery::classify(const Job& job, const smtp::RecipientOutcome& outcome, const std::string& text) {
  const bool source = job.egress.kind == EgressKind::source;
  const std::string& provider = source ? domain(job).provider : setup_.smarthosts[job.egress.index].provider;
  const auto [it, fresh] =
      verdicts_.try_emplace((source ? "source " : "smarthost ") + std::to_string(job.egress.index) + provider + '\n' + text);
  if (!fresh) return it->second;
  ReplyContext context{outcome.phase, provider, {}};
  if (source) context.egress = setup_.topology.sources[job.egress.index].reputation;
  return it->second = setup_.replies.classify(smtp::reply_text(text), context);
}

void SimulatedDelivery::report_refused(const Job& job, const Verdict& verdict, AccountTrouble trouble, const std::string& text,
                                       Time now) {
  if (job.egress.kind == EgressKind::smarthost) return reputation_.smarthost_refused(job.egress.index, trouble, text, now);
  std::string blocklist(verdict.blocklist);
  if (blocklist.empty())
    if (const auto* list = named_in(text, setup_.lists)) blocklist = list->name;
  reputation_.fold(job.egress.index,
                   Refused{domain(job).provider, verdict.label, std::move(blocklist), std::string(verdict.rule), text}, now);
}

void SimulatedDelivery::conclude_refused(JobPtr job, const smtp::RecipientOutcome& outcome, Time now) {
  const bool source = job->egress.kind == EgressKind::source;
  const std::string text = outcome.reply.to_string();
  const Verdict verdict = classify(*job, outcome, text);
  const Blame blame =
      source ? blame_source(outcome, verdict, setup_.classes[job->message_class].spill) : blame_smarthost(outcome, verdict);
  give_back(*job, now);
  if (blame.egress_at_fault) report_refused(*job, verdict, blame.trouble, text, now);
  if (!source) ++report_.smarthosts[job->egress.index].refused;
  Action action = blame.action;
  // Observing changes nothing: the reply is taken as any other relay would take it.
  if (source && setup_.topology.observe && action == Action::next_egress)
    action = outcome.reply.permanent() ? Action::fail : Action::retry;
  const EgressRef egress = job->egress;
  switch (action) {
    case Action::delivered:
      return delivered(std::move(job), now);
    case Action::fail:
      return failed(*job, now);
    case Action::retry:
      return retry_later(std::move(job), {}, false, now);
    case Action::retry_same_egress:
      return retry_later(std::move(job), egress, verdict.label == Label::content, now);
    case Action::next_egress:
      return next_egress(std::move(job), text, now);
  }
}

void SimulatedDelivery::next_egress(JobPtr job, const std::string& reason, Time now) {
  if (job->sticky_strict && job->sticky == job->egress) {
    const auto keep = job->sticky;
    return retry_later(std::move(job), keep, true, now);
  }
  ++hour(*job, now).failovers;
  job->tried.push_back({job->egress, "refused it in this round: " + reason, {}});
  if (job->sticky == job->egress) job->sticky.reset();  // the egress it kept to is out of service
  dispatch(std::move(job), now);
}

void SimulatedDelivery::retry_later(JobPtr job, std::optional<EgressRef> sticky, bool strict, Time now) {
  ++hour(*job, now).deferred;
  ++job->attempts;
  job->sticky = sticky;
  job->sticky_strict = strict;
  job->tried.clear();
  job->next_at = std::min(next_attempt(setup_.retry, static_cast<int>(job->attempts), draw_share(random_), now), job->expires);
  scheduled_.push_back(std::move(job));
  std::ranges::push_heap(scheduled_, LaterFirst{});
}

// ---- counting ----------------------------------------------------------------------------------------------------

HourCount& SimulatedDelivery::hour(const Job& job, Time now) {
  auto& hours = class_of(job).hours;
  const auto index = static_cast<std::size_t>((now - report_.start) / std::chrono::hours(1));
  return hours[std::min(index, hours.size() - 1)];
}

void SimulatedDelivery::delivered(JobPtr job, Time now) {
  HourCount& count = hour(*job, now);
  if (job->egress.kind == EgressKind::source) {
    count.by_source[job->egress.index] += job->messages;
  } else {
    count.by_smarthost[job->egress.index] += job->messages;
    report_.smarthosts[job->egress.index].messages += job->messages;
    report_.smarthosts[job->egress.index].recipients += job->recipients;
  }
  if (job->messages > 0) class_of(*job).delay.add(now - job->accepted);
  ended(*job, now);
}

void SimulatedDelivery::failed(const Job& job, Time now) {
  hour(job, now).failed += job.messages;
  ended(job, now);
}

void SimulatedDelivery::ended(const Job& job, Time now) {
  const Duration held = job.held_for + (job.held_since ? now - *job.held_since : Duration{0});
  if (job.was_held && job.messages > 0) class_of(job).held.add(held);
  waiting_[class_report_[job.message_class]] -= job.messages;
}

}  // namespace egret::routing
