// Intake, preparation, decision and time. Connections are in lanes.cpp, what follows an attempt in outcome.cpp.
#include "relay/delivery/dispatcher.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>

#include "relay/dns/idn.hpp"
#include "relay/runtime/log.hpp"
#include "routing/message_class.hpp"
#include "routing/schedule.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

constexpr std::size_t max_preparing = 64;
constexpr std::size_t max_ready = 50'000;  // jobs with a connection to wait for; the rest rests on disk
constexpr std::size_t max_kept = 20'000;
constexpr std::size_t most_stuck = 8;  // held jobs that are offered again in vain before the rest of their kind waits on
constexpr auto unreadable_pause = std::chrono::minutes(5);
constexpr auto kept_time = std::chrono::hours(4);
constexpr std::size_t recipients_per_job = 100;  // what every server must take (RFC 5321 section 4.5.3.1.8)

}  // namespace

Dispatcher::Dispatcher(const boost::asio::any_io_executor& executor, std::uint32_t index, DeliveryShared& shared,
                       Deadlines& deadlines)
    : executor_(executor),
      index_(index),
      shared_(shared),
      deadlines_(deadlines),
      resolver_(executor, shared.config->dns),
      sites_(resolver_, shared.config, shared.sts, deadlines),
      random_(std::random_device{}()),
      timer_(executor),
      tasks_(executor) {}

Dispatcher::~Dispatcher() = default;

// ---- intake ------------------------------------------------------------------------------------------------------

/// A job for all recipients of a message that is new here.
JobPtr Dispatcher::new_job(const std::shared_ptr<const spool::Message>& message) {
  const auto index = shared_.config->class_named(message->class_name).value_or(shared_.config->first_class());
  const config::MessageClass& message_class = shared_.config->classes[index];
  auto ref = std::make_shared<MessageRef>();
  ref->id = message->id;
  ref->message_class = index;
  ref->accepted = message->accepted;
  ref->expires = message->accepted + message_class.max_age;
  ref->size = message->body_size;
  ref->report = message->report;
  ref->open = static_cast<std::uint32_t>(message->recipients.size());
  MessageHistory& history = history_.of(message->id);
  history.message_class = message_class.name;
  history.sender = message->sender.to_string();
  history.accepted = message->accepted;
  auto job = std::make_unique<Job>();
  job->message = std::move(ref);
  job->recipients.resize(message->recipients.size());
  for (std::uint32_t i = 0; i < job->recipients.size(); ++i) job->recipients[i] = i;
  job->next_at = message->accepted;
  return job;
}

void Dispatcher::submit(std::shared_ptr<const spool::Message> message, std::shared_ptr<PassThrough> pass) {
  JobPtr job = new_job(message);
  job->message->pass = std::move(pass);
  // With the cache full the body is left on disk and read back when there is a connection for it.
  if (job->message->pass || !shared_.common.cache.full()) job->content = shared_.common.cache.count(std::move(message));
  if (!stopping_ && ready_ < max_ready && job->content && try_cached(job)) return;
  due_.push_back(std::move(job));
  pump();
}

boost::asio::awaitable<spool::Trouble> Dispatcher::take_over(std::shared_ptr<const spool::Message> message,
                                                             std::vector<Settled> results, PassThroughAnswer answer) {
  auto rest = std::make_shared<spool::Message>(*message);
  rest->recipients.clear();
  rest->recipient_dsn.clear();
  std::vector<std::uint32_t> left = answer.deferred;
  left.insert(left.end(), answer.failed.begin(), answer.failed.end());
  for (const std::uint32_t index : left) {
    rest->recipients.push_back(message->recipients[index]);
    if (!message->recipient_dsn.empty()) rest->recipient_dsn.push_back(message->recipient_dsn[index]);
  }
  const spool::Trouble trouble = co_await shared_.spool.accept(rest);
  if (trouble != spool::Trouble::none) co_return trouble;
  JobPtr whole = new_job(rest);
  whole->content = shared_.common.cache.count(rest);
  for (std::uint32_t i = 0; i < left.size(); ++i) {
    const Settled& result = results[left[i]];
    JobPtr job = part(*whole, {i});
    job->last_reply = result.reply.to_string();
    job->last_host = result.host;
    if (i < answer.deferred.size())
      retry_later(std::move(job), result.keep);
    else
      fail(std::move(job), {result.reply}, "The receiving server refused it.", result.host);
  }
  co_return spool::Trouble::none;
}

void Dispatcher::recover(const spool::Recovered& message) {
  const auto known = shared_.config->class_named(message.class_name);
  if (!known)
    log::warn("a waiting message is of a class that is gone; it takes the first one",
              {{"id", smtp::to_string(message.id)}, {"class", message.class_name}});
  auto ref = std::make_shared<MessageRef>();
  ref->id = message.id;
  ref->message_class = known.value_or(0);
  ref->accepted = message.accepted;
  ref->expires = message.accepted + shared_.config->classes[ref->message_class].max_age;
  ref->size = message.body_size;
  ref->report = message.report;
  for (const auto& group : message.groups) ref->open += static_cast<std::uint32_t>(group.recipients.size());
  for (const auto& group : message.groups) {
    auto job = std::make_unique<Job>();
    job->message = ref;
    for (const auto& [index, state] : group.recipients) job->recipients.push_back(index);
    job->attempts = group.attempts;
    job->next_at = group.next_at;
    job->ambiguous = group.ambiguous;
    job->sticky_strict = group.strict;
    job->warned = group.warned;
    job->last_reply = group.reply;
    job->last_host = group.reply_host;
    if (const auto source = shared_.config->topology.source_named(group.sticky))
      job->sticky = {routing::EgressKind::source, *source};
    else if (const auto host = shared_.config->smarthost_named(group.sticky))
      job->sticky = {routing::EgressKind::smarthost, *host};
    if (group.held)
      withheld_[group.hold_reason.empty() ? std::string(held_by_operator) : group.hold_reason].add(std::move(job));
    else
      scheduled_.push_back(std::move(job));
  }
}

void Dispatcher::start() {
  std::ranges::make_heap(scheduled_, LaterFirst{});
  look();
}

void Dispatcher::pump() {
  while (!stopping_ && preparing_ < max_preparing && ready_ < max_ready && !due_.empty()) {
    JobPtr job = std::move(due_.front());
    due_.pop_front();
    ++preparing_;
    tasks_.spawn(prepare(std::move(job)), "prepare");
  }
}

/// Reads the job back where it rested and finds the sites of its recipients.
boost::asio::awaitable<void> Dispatcher::prepare(JobPtr job) {
  active_.insert(job.get());
  const std::uint64_t version = shared_.config->version;
  const bool loaded = co_await load(job.get());
  std::map<std::string, std::vector<std::uint32_t>> by_domain;
  std::map<std::string, SiteAnswer> sites;
  if (loaded) {
    for (const auto index : job->recipients) by_domain[smtp::lower(job->content->recipients[index].domain)].push_back(index);
    for (const auto& [domain, recipients] : by_domain) sites[domain] = co_await sites_.find(domain);
  }
  --preparing_;
  active_.erase(job.get());
  if (stopping_) {
    schedule(std::move(job));
  } else if (!loaded) {
    job->next_at = now() + unreadable_pause;
    schedule(std::move(job));
  } else if (version != shared_.config->version) {
    due_.push_back(std::move(job));  // what was found is of another configuration
  } else {
    prepared(std::move(job), std::move(by_domain), std::move(sites));
  }
  pump();
}

/// The fast way for a fresh message: every site is known already.
bool Dispatcher::try_cached(JobPtr& job) {
  std::map<std::string, std::vector<std::uint32_t>> by_domain;
  for (const auto index : job->recipients) by_domain[smtp::lower(job->content->recipients[index].domain)].push_back(index);
  std::map<std::string, SiteAnswer> sites;
  for (const auto& [domain, recipients] : by_domain) {
    auto answer = sites_.cached(domain);
    if (!answer) return false;
    sites.emplace(domain, std::move(*answer));
  }
  prepared(std::move(job), std::move(by_domain), std::move(sites));
  return true;
}

/// A sender whose mail is held or slowed (relay/reputation/guard) waits; false when that was dealt with.
bool Dispatcher::admitted(JobPtr& job) {
  if (job->message->report || job->content->sender.null()) return true;
  const routing::Admission admission = shared_.guard.admit(job->content->sender);
  switch (admission.kind) {
    case routing::Admission::Kind::go:
      return true;
    case routing::Admission::Kind::held:
      hold_job(std::move(job), admission.reason, true);
      return false;
    case routing::Admission::Kind::wait:
      break;
  }
  if (settled(*job, {Settled::End::deferred, smtp::make_reply(451, "4.7.1 (local) " + admission.reason), "", {}})) return false;
  job->next_at = admission.until.value_or(now());
  schedule(std::move(job));
  return false;
}

void Dispatcher::prepared(JobPtr job, std::map<std::string, std::vector<std::uint32_t>> by_domain,
                          std::map<std::string, SiteAnswer> sites) {
  if (now() >= job->message->expires) return fail(std::move(job), {}, "", "");
  job->sender_domain = smtp::lower(job->content->sender.domain);
  if (!admitted(job)) return;
  std::map<std::string, std::pair<std::shared_ptr<const Site>, std::vector<std::uint32_t>>> by_site;
  for (auto& [domain, recipients] : by_domain) {
    const SiteAnswer& answer = sites.at(domain);
    if (answer.site) {
      auto& group = by_site[answer.site->key];
      group.first = answer.site;
      group.second.insert(group.second.end(), recipients.begin(), recipients.end());
      continue;
    }
    JobPtr refused = part(*job, recipients);
    refused->last_reply = answer.refusal.to_string();
    note(*refused, answer.refusal.permanent() ? "failed" : "deferred", "", refused->last_reply, "", "dns", recipients);
    if (answer.refusal.permanent())
      fail(std::move(refused), std::vector(recipients.size(), answer.refusal), "The address cannot be delivered to.", "");
    else
      retry_later(std::move(refused), Keep{job->sticky, job->sticky_strict, job->ambiguous});
  }
  for (auto& [key, group] : by_site) {
    auto& recipients = group.second;
    for (std::size_t at = 0; at < recipients.size(); at += recipients_per_job) {
      const auto end = std::min(recipients.size(), at + recipients_per_job);
      JobPtr piece = part(
          *job, {recipients.begin() + static_cast<std::ptrdiff_t>(at), recipients.begin() + static_cast<std::ptrdiff_t>(end)});
      piece->site = group.first;
      piece->version = shared_.config->version;
      piece->pool = pool_of(*piece, job->content->recipients[recipients[at]].domain);
      route_to_owner(std::move(piece));
    }
  }
}

JobPtr Dispatcher::part(const Job& job, std::vector<std::uint32_t> recipients) const {
  auto out = std::make_unique<Job>(job);
  out->recipients = std::move(recipients);
  out->holds_trial = false;
  out->charged = false;
  out->shaped.reset();
  return out;
}

Dispatcher& Dispatcher::owner_of(const std::string& key) const {
  return *all_[std::hash<std::string>{}(key) % all_.size()];
}

/// Continues with a job on another worker.
template <typename Continue>
void Dispatcher::hand_over(Dispatcher& owner, JobPtr job, Continue then) {
  shared_.common.handovers.sent.fetch_add(1);
  boost::asio::post(owner.executor_, [&owner, then, job = std::make_shared<JobPtr>(std::move(job))] {
    // From a worker that has a newer configuration: this one's is posted already.
    if ((*job)->version > owner.shared_.config->version)
      owner.hand_over(owner, std::move(*job), then);
    else
      then(owner, std::move(*job));
    owner.shared_.common.handovers.arrived.fetch_add(1);
  });
}

void Dispatcher::route_to_owner(JobPtr job) {
  Dispatcher& owner = owner_of(job->site->key);
  if (&owner == this) return dispatch(std::move(job));
  hand_over(owner, std::move(job), [](Dispatcher& d, JobPtr j) { d.dispatch(std::move(j)); });
}

// ---- decision ----------------------------------------------------------------------------------------------------

std::uint32_t Dispatcher::pool_of(const Job& job, const std::string& domain) const {
  if (shared_.config->routes.empty()) return shared_.config->classes[job.message->message_class].pool;
  const std::string ascii = to_a_labels(domain);
  for (const auto& route : shared_.config->routes)
    if (route.pool && routing::domain_matches(route.domain, ascii.empty() ? domain : ascii)) return *route.pool;
  return shared_.config->classes[job.message->message_class].pool;
}

/// Whether the egress is still one of the job's pool: a reload may have taken it away or moved it to another.
bool Dispatcher::reachable(const Job& job, routing::EgressRef egress) const {
  if (!shared_.config->has(egress)) return false;
  const routing::PoolInfo& pool = shared_.config->topology.pools[job.pool];
  return std::ranges::find(egress.kind == routing::EgressKind::source ? pool.sources : pool.fallback, egress.index) !=
         (egress.kind == routing::EgressKind::source ? pool.sources : pool.fallback).end();
}

/// The configuration is another than the one under which its site and pool were found.
void Dispatcher::prepare_again(JobPtr job) {
  release_trial(*job);
  give_back(*job, 0);
  job->site.reset();
  due_.push_back(std::move(job));
  pump();
}

void Dispatcher::configure() {
  resolver_.configure(shared_.config->dns);
  sites_.configure(shared_.config, shared_.sts);
  std::vector<JobPtr> moved;
  for (auto& [key, lane] : lanes_) {
    for (auto& job : lane->ready) moved.push_back(std::move(job));
    ready_ -= lane->ready.size();
    lane->ready.clear();
    for (auto* timer : lane->idle) timer->cancel();
  }
  for (auto& [key, held] : std::exchange(held_, {})) std::ranges::move(held.jobs, std::back_inserter(moved));
  for (auto& job : moved) prepare_again(std::move(job));
  look();
}

routing::Request Dispatcher::request_for(const Job& job) const {
  routing::Request request;
  request.pool = job.pool;
  request.site = job.site->key;
  request.provider = job.site->provider;
  request.ipv4 = job.site->ipv4;
  request.ipv6 = job.site->ipv6;
  request.sender = job.sender_domain;
  request.excluded = job.tried;
  if (job.sticky) {
    const bool source = job.sticky->kind == routing::EgressKind::source;
    (source ? request.only_source : request.only_smarthost) = job.sticky->index;
  }
  return request;
}

void Dispatcher::dispatch(JobPtr job) {
  if (stopping_ || !snapshot_) return schedule(std::move(job));
  if (shared_.spool.delivery_paused()) {
    job->next_at = now() + std::chrono::seconds(1);
    return schedule(std::move(job));
  }
  if (now() >= job->message->expires) return fail(std::move(job), {}, "", "");
  if (job->version != shared_.config->version) return prepare_again(std::move(job));
  if (job->message->poison.load(std::memory_order_relaxed)) return hold_job(std::move(job), "poison: blocked elsewhere", true);
  if (job->message->pass && job->tried.empty()) recall(*job);
  if (job->sticky && !reachable(*job, *job->sticky)) job->sticky.reset();
  // Greylisting wants the same source again, but not at the price of waiting for it to be delisted.
  if (job->sticky && !job->sticky_strict && job->sticky->kind == routing::EgressKind::source &&
      !routing::in_service(snapshot_->sources[job->sticky->index].with(job->site->provider).standing))
    job->sticky.reset();
  routing::Request request = request_for(*job);
  const std::uint64_t tie_break = random_();
  while (true) {
    routing::Route route = routing::route(shared_.config->topology, *snapshot_, request, now(), tie_break);
    if (route.hold) {
      job->route = routing::explain(route, shared_.config->topology);
      // Something was tried in this round: the round is over. Else nothing can be tried: wait for better standings.
      if (!job->tried.empty()) {
        const Keep keep{job->sticky, job->sticky_strict, job->ambiguous};
        return retry_later(std::move(job), keep);
      }
      return hold(std::move(job), *route.hold);
    }
    const routing::EgressRef egress = route.candidates.front().egress;
    if (egress.kind == routing::EgressKind::source) {
      const auto& standing = snapshot_->sources[egress.index].with(job->site->provider).standing;
      const bool trial = standing == routing::Standing::trial && !shared_.config->topology.observe;
      if (trial && !shared_.common.trials.acquire(egress.index, job->site->provider)) {
        request.excluded.push_back({egress, "trial: another message is on its way", {}});
        continue;
      }
      if (const auto wait = shape(*job, egress.index)) {
        if (trial) shared_.common.trials.release(egress.index, job->site->provider);
        // Throttled, and the class does not spill: it waits for its source, whatever else is free.
        if (!wait->cap && job->tried.empty() && !shared_.config->classes[job->message->message_class].spill) {
          job->route = "hold: " + shared_.config->topology.name(egress) + " is " + wait->reason;
          return hold(std::move(job), {wait->reason, wait->until});
        }
        request.excluded.push_back({egress, wait->reason, wait->until});
        continue;
      }
      job->holds_trial = trial;
      job->shaped = now();
    } else if (const auto& host = shared_.config->smarthosts[egress.index];
               host.message_size && job->message->size > host.message_size) {
      request.excluded.push_back({egress, "the message is larger than it takes", {}});
      continue;
    } else if (job->recipients.size() > static_cast<std::size_t>(host.recipients)) {
      return dispatch_split(std::move(job), static_cast<std::size_t>(host.recipients));
    } else if (!shared_.budgets.charge(egress.index, job->recipients.size(), now())) {
      request.excluded.push_back({egress, "budget used up", shared_.budgets.renews(egress.index, now())});
      continue;
    } else {
      job->charged = true;
    }
    job->egress = egress;
    job->route = routing::explain(route, shared_.config->topology);
    return enqueue(std::move(job));
  }
}

/// Whether the source may have one more message for the job's provider; observing, always.
std::optional<routing::ShapingRefusal> Dispatcher::shape(const Job& job, std::uint32_t source) const {
  if (shared_.config->topology.observe) return std::nullopt;
  const std::string& provider = job.site->provider;
  return shared_.budgets.shaping.admit(source, provider, snapshot_->sources[source].with(provider), job.recipients.size(), now());
}

namespace {

std::string kept_key(const Job& job, std::uint32_t recipient) {
  return job.site->key + '\n' + job.content->sender.to_string() + '\n' + job.content->recipients[recipient].to_string();
}

}  // namespace

/// The client of a message that passes through sends it again as a new one: what its next attempt must keep to is known
/// by its envelope. Greylisting wants the same source, an unknown outcome no other.
void Dispatcher::remember(const Job& job, const Keep& keep) {
  if (!keep.sticky || !job.site || !job.content) return;
  if (kept_.size() > max_kept)
    std::erase_if(kept_, [](const auto& k) { return k.second.second < std::chrono::steady_clock::now(); });
  if (kept_.size() > max_kept) kept_.clear();
  for (const auto recipient : job.recipients) kept_[kept_key(job, recipient)] = {keep, in(kept_time)};
}

void Dispatcher::recall(Job& job) {
  if (kept_.empty()) return;
  for (const auto recipient : job.recipients) {
    const auto it = kept_.find(kept_key(job, recipient));
    if (it == kept_.end()) continue;
    if (it->second.second > std::chrono::steady_clock::now()) {
      job.sticky = it->second.first.sticky;
      job.sticky_strict = it->second.first.strict;
      job.ambiguous = it->second.first.ambiguous;
    }
    kept_.erase(it);  // the next attempt says what holds then
  }
}

/// A smarthost takes fewer recipients in one transaction than the job has: each part is decided for itself.
void Dispatcher::dispatch_split(JobPtr job, std::size_t most) {
  for (std::size_t at = 0; at < job->recipients.size(); at += most) {
    const auto first = job->recipients.begin() + static_cast<std::ptrdiff_t>(at);
    const auto last = job->recipients.begin() + static_cast<std::ptrdiff_t>(std::min(at + most, job->recipients.size()));
    dispatch(part(*job, {first, last}));
  }
}

void Dispatcher::enqueue(JobPtr job, bool front) {
  if (job->version != shared_.config->version) return prepare_again(std::move(job));
  const bool smarthost = job->egress.kind == routing::EgressKind::smarthost;
  const std::string site = smarthost ? "smarthost:" + shared_.config->topology.smarthosts[job->egress.index] : job->site->key;
  Dispatcher& owner = owner_of(site);
  if (&owner != this)
    return hand_over(owner, std::move(job), [front](Dispatcher& d, JobPtr j) { d.enqueue(std::move(j), front); });
  if (stopping_) return schedule(std::move(job));
  auto& lane = lanes_[{job->egress, site}];
  if (!lane) {
    lane = std::make_unique<Lane>();
    lane->key = {job->egress, site};
  }
  if (!smarthost) lane->site = job->site;
  // A long queue does not keep bodies in memory: they are read back when their turn comes.
  if (shared_.common.cache.full() && lane->ready.size() > 100 && !job->message->pass) job->content.reset();
  ++ready_;
  if (front)
    lane->ready.push_front(std::move(job));
  else
    lane->ready.push_back(std::move(job));
  kick(*lane);
}

void Dispatcher::hold(JobPtr job, const routing::Hold& reason) {
  if (settled(*job, {Settled::End::deferred, smtp::make_reply(451, "4.7.1 (local) " + job->route), "", {}})) return;
  HeldKey key{job->pool, job->site->provider, -1, job->site->ipv4, job->site->ipv6, {}};
  if (job->sticky) key.sticky = static_cast<int>(job->sticky->index) * 2 + (job->sticky->kind == routing::EgressKind::smarthost);
  if (refused_somewhere(*job)) key.sender = job->sender_domain;
  HeldJobs& held = held_[key];
  if (held.jobs.empty() || held.reason != reason.reason)
    log::info("holding mail", {{"id", smtp::to_string(job->message->id)},
                               {"pool", shared_.config->topology.pools[key.pool].name},
                               {"provider", key.provider},
                               {"route", job->route}});
  held.reason = reason.reason;
  // The first of the times at which something may change for one of them.
  if (held.jobs.empty() || (reason.until && (!held.until || *reason.until < *held.until))) held.until = reason.until;
  job->content.reset();
  held.add(std::move(job));
  arm();
}

/// Offers held mail again: one job of each kind finds out for all of them.
void Dispatcher::release_held() {
  if (stopping_) return;
  auto held = std::move(held_);
  held_.clear();
  for (auto& [key, group] : held) {
    std::size_t stuck = 0;
    if (group.until && *group.until <= now()) group.until.reset();
    while (!group.jobs.empty()) {
      JobPtr job = std::move(group.jobs.front());
      group.jobs.pop_front();
      routing::Request request;
      request.pool = key.pool;
      request.provider = key.provider;
      request.site = job->site->key;
      request.ipv4 = key.ipv4;
      request.ipv6 = key.ipv6;
      if (key.sender) request.sender = *key.sender;
      if (key.sticky >= 0)
        (key.sticky % 2 ? request.only_smarthost : request.only_source) = static_cast<std::uint32_t>(key.sticky / 2);
      const routing::Route route = routing::route(shared_.config->topology, *snapshot_, request, now(), random_());
      const bool expired = now() >= job->message->expires;
      if (route.hold && !expired) {
        group.reason = route.hold->reason;
        group.until = route.hold->until;
        group.jobs.push_front(std::move(job));
        break;
      }
      const std::size_t before = held_[key].jobs.size();
      dispatch(std::move(job));
      // Held again, because the one place was taken (a trial): the others would be too. Or for a reason of its own (its
      // size): a few may stand in the way of the rest, and they go to the end.
      if (held_[key].jobs.size() > before && ++stuck >= most_stuck) break;
    }
    HeldJobs& now_held = held_[key];
    now_held.first_expiry = std::min(now_held.first_expiry, group.first_expiry);
    if (now_held.reason.empty()) now_held.reason = group.reason;
    if (group.until && (!now_held.until || *group.until < *now_held.until)) now_held.until = group.until;
    std::ranges::move(now_held.jobs, std::back_inserter(group.jobs));
    now_held.jobs = std::move(group.jobs);
    if (now_held.jobs.empty()) held_.erase(key);
  }
  arm();
}

void Dispatcher::release_trial(Job& job) {
  if (!job.holds_trial) return;
  job.holds_trial = false;
  shared_.common.trials.release(job.egress.index, job.site->provider);
  for (Dispatcher* dispatcher : all_)
    boost::asio::post(dispatcher->executor_, [dispatcher] {
      if (!dispatcher->held_.empty()) dispatcher->release_held();
    });
}

void Dispatcher::set_snapshot(std::shared_ptr<const routing::Snapshot> snapshot) {
  snapshot_ = std::move(snapshot);
  reroute_lanes();
  release_held();
  look();
}

/// Mail that waits for a connection of an egress that is out of service by now takes another way.
void Dispatcher::reroute_lanes() {
  std::vector<JobPtr> moved;
  for (auto& [key, lane] : lanes_) {
    if (lane->ready.empty()) continue;
    const bool source = key.egress.kind == routing::EgressKind::source;
    if (source && (shared_.config->topology.observe ||
                   routing::in_service(snapshot_->sources[key.egress.index].with(lane->site->provider).standing)))
      continue;
    const routing::SmarthostSnapshot* host = source ? nullptr : &snapshot_->smarthosts[key.egress.index];
    const bool all = source || (host->resting_until && now() < *host->resting_until);
    if (!all && !host->senders) continue;
    std::deque<JobPtr> stay;
    for (auto& job : lane->ready) {
      if (!all && !routing::find_refused(host->senders, job->sender_domain, now())) {
        stay.push_back(std::move(job));
        continue;
      }
      release_trial(*job);
      give_back(*job, 0);
      moved.push_back(std::move(job));
    }
    ready_ -= lane->ready.size() - stay.size();
    lane->ready = std::move(stay);
  }
  for (auto& job : moved) dispatch(std::move(job));
}

/// Whether a smarthost of the job's pool does not take its sender: it waits apart from mail that may go there.
bool Dispatcher::refused_somewhere(const Job& job) const {
  return std::ranges::any_of(shared_.config->topology.pools[job.pool].fallback, [&](std::uint32_t host) {
    return routing::find_refused(snapshot_->smarthosts[host].senders, job.sender_domain, now());
  });
}

// ---- time --------------------------------------------------------------------------------------------------------

/// Puts the job to rest until job->next_at: only its id stays in memory.
void Dispatcher::schedule(JobPtr job) {
  release_trial(*job);
  give_back(*job, 0);
  const Keep keep{job->sticky, job->sticky_strict, job->ambiguous};
  if (settled(*job, {Settled::End::deferred, smtp::make_reply(451, "4.3.2 (local) no delivery now, try again later"), "", keep}))
    return;
  job->content.reset();
  job->site.reset();
  // It rests beside perhaps a hundred thousand others: what this round took is given back, not only emptied.
  std::vector<routing::Excluded>().swap(job->tried);
  std::string().swap(job->route);
  std::string().swap(job->tls);
  scheduled_.push_back(std::move(job));
  std::ranges::push_heap(scheduled_, LaterFirst{});
  arm();
}

void Dispatcher::arm() {
  if (stopping_) return;
  routing::Time next = scheduled_.empty() ? routing::Time::max() : scheduled_.front()->next_at;
  for (const auto& [key, held] : held_) {
    next = std::min(next, held.first_expiry);
    if (held.until) next = std::min(next, *held.until);
  }
  for (const auto& [reason, held] : withheld_) next = std::min(next, held.first_expiry);
  if (next == routing::Time::max()) return;
  // Never longer than a second: wall-clock time may be set.
  const auto delay = std::clamp<routing::Duration>(next - now(), std::chrono::milliseconds(1), std::chrono::seconds(1));
  const Deadline when = in(delay);
  if (timer_.expiry() > std::chrono::steady_clock::now() && timer_.expiry() <= when) return;
  timer_.expires_at(when);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) look();
  });
}

void Dispatcher::look() {
  if (stopping_) return;
  const routing::Time time = now();
  while (!scheduled_.empty() && scheduled_.front()->next_at <= time) {
    std::ranges::pop_heap(scheduled_, LaterFirst{});
    due_.push_back(std::move(scheduled_.back()));
    scheduled_.pop_back();
  }
  const bool held_due = std::ranges::any_of(held_, [&](const auto& entry) {
    return entry.second.first_expiry <= time || (entry.second.until && *entry.second.until <= time);
  });
  if (held_due) {
    std::vector<JobPtr> expired;
    for (auto& [key, held] : held_) {
      if (held.until && *held.until <= time) held.until.reset();
      std::ranges::move(held.take_expired(time), std::back_inserter(expired));
    }
    for (auto& job : expired) fail(std::move(job), {}, "", "");
    if (snapshot_) release_held();
  }
  end_withheld(time);
  pump();
  arm();
}

boost::asio::awaitable<void> Dispatcher::stop(Deadline deadline) {
  stopping_ = true;
  timer_.cancel();
  for (auto& [key, lane] : lanes_)
    for (auto* timer : lane->idle) timer->cancel();
  co_await tasks_.wait_or(deadline, [this] {
    resolver_.cancel();
    deadlines_.expire_all();
  });
}

// ---- for the API -------------------------------------------------------------------------------------------------

QueueSummary Dispatcher::queue(const QueueFilter& filter) const {
  QueueSummary out;
  const auto add = [&](const Job& job, const char* state, const std::string& egress, const std::string& reason) {
    ++out.total;
    ++out.by_class[job.message->message_class];
    if (job.site) ++out.by_site[job.site->key];
    if (!egress.empty()) ++out.by_egress[egress];
    if (std::string_view(state) == "held") ++out.held;
    if (!out.oldest || job.message->accepted < *out.oldest) out.oldest = job.message->accepted;
    if (out.rows.size() >= filter.limit || (filter.message_class && *filter.message_class != job.message->message_class) ||
        (!filter.state.empty() && filter.state != state))
      return;
    const MessageHistory* known = history_.find(job.message->id);
    out.rows.push_back({job.message->id, job.message->message_class, job.site ? job.site->key : "", egress, state,
                        job.message->accepted, job.next_at, job.attempts, static_cast<std::uint32_t>(job.recipients.size()),
                        known ? known->sender : "", reason});
  };
  const auto name = [&](const Job& job) { return shared_.config->topology.name(job.egress); };
  for (const auto& job : due_) add(*job, "ready", "", job->last_reply);
  for (const auto& job : scheduled_) add(*job, "scheduled", "", job->last_reply);
  for (const auto& [key, held] : held_)
    for (const auto& job : held.jobs) add(*job, "held", "", held.reason);
  for (const auto& [reason, held] : withheld_)
    for (const auto& job : held.jobs) add(*job, "held", "", reason);
  for (const auto& jobs : changing_)
    for (const auto& job : jobs) add(*job, "active", "", "");
  for (const auto& [key, lane] : lanes_)
    for (const auto& job : lane->ready) add(*job, "ready", name(*job), "");
  for (const Job* job : active_) add(*job, "active", job->route.empty() ? "" : name(*job), "");
  return out;
}

}  // namespace egret::relay
