// Intake, preparation, decision and time. Connections are in lanes.cpp, what follows an attempt in outcome.cpp.
#include "relay/delivery/dispatcher.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "relay/brakes/brakes.hpp"
#include "relay/dns/idn.hpp"
#include "relay/reputation/readiness.hpp"
#include "relay/runtime/log.hpp"
#include "routing/message_class.hpp"
#include "routing/schedule.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

constexpr std::size_t max_preparing = 64;       // of a class
constexpr std::size_t max_preparing_all = 512;  // with so many, a class has one
constexpr std::size_t max_ready = 50'000;       // of a class, with a connection to wait for; the rest rests on disk
constexpr std::size_t long_queue = 100;         // jobs
constexpr auto moving_within = std::chrono::seconds(1);
constexpr std::size_t max_kept = 20'000;
constexpr std::size_t most_resting_due = 1'000;  // of a class, made ready in memory; more than that rests though it is due
constexpr std::size_t refill_below = 128, refill_by = 128;  // of a class
constexpr auto kept_time = std::chrono::hours(4);
constexpr auto trial_pause = std::chrono::seconds(5);  // another message is on trial: until it is asked how that went
constexpr auto soon_after = std::chrono::milliseconds(100);
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
      weights_(*shared.config),
      expires_([this](std::uint32_t of, routing::Time accepted) { return accepted + shared_.config->classes[of].max_age; }),
      resting_(expires_),
      timer_(executor),
      slices_(executor),
      tasks_(executor) {}

Dispatcher::~Dispatcher() = default;

void Dispatcher::connect(std::vector<Dispatcher*> all) {
  all_ = std::move(all);
  slots_.set_limit(slots_.share(static_cast<std::size_t>(shared_.config->limits.connections_out), all_.size(), index_));
}

// ---- intake ------------------------------------------------------------------------------------------------------

void Dispatcher::push(JobQueue& queue, JobPtr job, bool front) const {
  const std::uint32_t its = job->message->message_class;
  if (front)
    queue.push_front(its, weights_.of(its), std::move(job));
  else
    queue.push_back(its, weights_.of(its), std::move(job));
}

Dispatcher::Load& Dispatcher::load_of(std::uint32_t message_class) {
  if (message_class >= loads_.size()) loads_.resize(message_class + 1);
  return loads_[message_class];
}

/// Whether the body stays in memory while the job waits. The last quarter of the cache is for those who go first.
bool Dispatcher::keeps_body(const Job& job) const {
  return job.message->pass || !shared_.common.cache.full(weights_.lesser(job.message->message_class));
}

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
  if (!weights_.lesser(job->message->message_class)) shared_.common.precedence.came(std::chrono::steady_clock::now());
  job->message->pass = std::move(pass);
  job->content = shared_.common.cache.count(std::move(message));
  if (!stopping_ && load_of(*job).ready < max_ready && try_cached(job)) return;
  // With the cache full the body is left on disk and read back when there is a connection for it.
  if (!keeps_body(*job)) job->content.reset();
  if (!job->message->pass && due_.size(job->message->message_class) >= most_resting_due) {
    job->content.reset();
    resting_.add(std::move(job));
    return arm_soon();
  }
  push(due_, std::move(job));
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
  Parts parts(new_job(rest));
  parts.whole().content = shared_.common.cache.count(rest);
  for (std::uint32_t i = 0; i < left.size(); ++i) {
    const Settled& result = results[left[i]];
    JobPtr job = parts.take({i});
    job->last_reply = result.reply.to_string();
    job->last_host = result.host;
    if (i < answer.deferred.size())
      retry_later(std::move(job), result.keep);
    else
      fail(std::move(job), {result.reply}, "The receiving server refused it.", result.host);
  }
  co_return spool::Trouble::none;
}

/// A hold is on disk before the suspension that it is for; one that was let go, or was never saved, holds nothing.
bool Dispatcher::hold_is_over(std::string_view reason) const {
  const std::size_t at = reason.find(" is suspended: ");
  return shared_.brakes && reason.starts_with("user ") && at != std::string_view::npos &&
         !shared_.brakes->suspended(reason.substr(5, at - 5));
}

/// The egress that a record names; none when it is gone.
std::optional<routing::EgressRef> Dispatcher::egress_named(const std::string& name) const {
  if (name.empty()) return std::nullopt;
  if (const auto source = shared_.config->topology.source_named(name))
    return routing::EgressRef{routing::EgressKind::source, *source};
  if (const auto host = shared_.config->smarthost_named(name)) return routing::EgressRef{routing::EgressKind::smarthost, *host};
  return std::nullopt;
}

/// There may be a million of a class that is gone: start() says how many.
std::uint32_t Dispatcher::recovered_class(const spool::Recovered& message) {
  if (const auto known = shared_.config->class_named(message.class_name)) return *known;
  ++gone_classes_[message.class_name];
  return 0;
}

/// There may be a million of these: what is one group with all that is left, and not held, never becomes a job here.
bool Dispatcher::recover_resting(const spool::Recovered& message, std::uint32_t its) {
  if (message.groups.size() != 1 || message.body_size > UINT32_MAX) return false;
  const spool::Progress& group = message.groups.front();
  if (group.held || group.recipients.empty()) return false;
  const std::uint32_t first = group.recipients.front().first;
  for (std::size_t i = 1; i < group.recipients.size(); ++i)
    if (group.recipients[i].first != first + i) return false;
  resting_.load({.id = message.id,
                 .message_class = its,
                 .accepted = message.accepted,
                 .next_at = group.next_at,
                 .size = message.body_size,
                 .first = first,
                 .recipients = static_cast<std::uint32_t>(group.recipients.size()),
                 .attempts = group.attempts,
                 .sticky = egress_named(group.sticky),
                 .report = message.report,
                 .strict = group.strict,
                 .ambiguous = group.ambiguous,
                 .warned = group.warned,
                 .reply = group.reply,
                 .host = group.reply_host});
  return true;
}

void Dispatcher::recover(const spool::Recovered& message) {
  const std::uint32_t its = recovered_class(message);
  if (recover_resting(message, its)) return;
  auto ref = std::make_shared<MessageRef>();
  ref->id = message.id;
  ref->message_class = its;
  ref->accepted = message.accepted;
  ref->expires = message.accepted + shared_.config->classes[its].max_age;
  ref->size = message.body_size;
  ref->report = message.report;
  for (const auto& group : message.groups) ref->open += static_cast<std::uint32_t>(group.recipients.size());
  for (const auto& group : message.groups) {
    auto job = std::make_unique<Job>();
    job->message = message.groups.size() == 1 ? std::move(ref) : ref;
    for (const auto& [index, state] : group.recipients) job->recipients.push_back(index);
    job->attempts = group.attempts;
    job->next_at = group.next_at;
    job->ambiguous = group.ambiguous;
    job->sticky_strict = group.strict;
    job->warned = group.warned;
    job->last_reply = group.reply;
    job->last_host = group.reply_host;
    job->sticky = egress_named(group.sticky);
    if (group.held && !hold_is_over(group.hold_reason))
      withheld_.try_emplace(group.hold_reason.empty() ? std::string(held_by_operator) : group.hold_reason, expires_)
          .first->second.add(std::move(job), weights_.of(its));
    else
      resting_.load(std::move(job));
  }
}

void Dispatcher::start() {
  for (const auto& [name, messages] : std::exchange(gone_classes_, {}))
    log::warn("waiting messages are of a class that is gone; they take the first one",
              {{"class", name}, {"messages", std::to_string(messages)}});
  resting_.sort();
  started_ = true;
  look();
}

/// Before the next message of a lesser class is read or sent, while mail that goes first is about: with the loop busy,
/// each of the twenty or so turns that one of those needs would be behind a step of every connection with the other.
boost::asio::awaitable<void> Dispatcher::give_way(std::uint32_t message_class) {
  const auto begun = std::chrono::steady_clock::now();
  if (stopping_ || !weights_.lesser(message_class) || !shared_.common.precedence.lately(begun)) co_return;
  co_await boost::asio::post(executor_, boost::asio::use_awaitable);
  const auto pause = Precedence::pause(std::chrono::steady_clock::now() - begun);
  if (pause == pause.zero()) co_return;
  boost::asio::steady_timer timer(executor_, pause);
  boost::system::error_code ignored;
  co_await timer.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
}

/// Each class has its own places in preparation: names of one that are slow to look up are no matter of another.
void Dispatcher::pump() {
  const auto has_place = [this](std::uint32_t message_class) {
    const Load& load = load_of(message_class);
    return load.preparing < (preparing_ < max_preparing_all ? max_preparing : 1) && load.ready < max_ready;
  };
  // What is prepared at once comes back here: the loop goes on with it, where a call in a call would fill the stack.
  if (std::exchange(pumping_, true)) return;
  while (!stopping_) {
    refill();
    // By turns: neither waits for the other's slow names.
    called_turn_ = !called_turn_;
    auto job = (called_turn_ ? called_ : due_).pop(has_place);
    if (!job) job = (called_turn_ ? due_ : called_).pop(has_place);
    if (!job) break;
    ++preparing_;
    ++load_of(**job).preparing;
    tasks_.spawn(prepare(std::move(*job)), "prepare");
  }
  pumping_ = false;
  if (!due_.empty() || !called_.empty()) arm_soon();  // room comes from lanes, which may not tell
}

/// Reads the job back where it rested and finds the sites of its recipients.
boost::asio::awaitable<void> Dispatcher::prepare(JobPtr job) {
  active_.insert(job.get());
  const std::uint64_t version = shared_.config->version;
  co_await give_way(job->message->message_class);
  const bool loaded = co_await load(job.get());
  std::map<std::string, std::vector<std::uint32_t>> by_domain;
  std::map<std::string, SiteAnswer> sites;
  if (loaded) {
    for (const auto index : job->recipients) by_domain[smtp::lower(job->content->recipients[index].domain)].push_back(index);
    for (const auto& [domain, recipients] : by_domain) sites[domain] = co_await sites_.find(domain);
  }
  --preparing_;
  --load_of(*job).preparing;
  active_.erase(job.get());
  if (stopping_) {
    schedule(std::move(job));
  } else if (!loaded) {
    job->next_at = now() + unreadable_pause;
    schedule(std::move(job));
  } else if (version != shared_.config->version) {
    push(due_, std::move(job));  // what was found is of another configuration
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
  if (job->message->report) return true;
  if (!user_admitted(job)) return false;
  if (job->content->sender.null()) return true;
  return follow(job, shared_.guard.admit(job->content->sender));
}

/// What a guard or the brakes say of a job that is to be tried; false when it was held or put off.
bool Dispatcher::follow(JobPtr& job, const routing::Admission& admission) {
  switch (admission.kind) {
    case routing::Admission::Kind::go:
      return true;
    case routing::Admission::Kind::held:
      hold_job(std::move(job), admission.reason, true);
      return false;
    case routing::Admission::Kind::wait:
      if (job->called) return true;  // it had its turn when it was put away
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
  if (!job->message->report && !shared_.config->smarthosts.empty())
    shared_.reputation.readiness().seen.add(job->sender_domain, now());
  std::map<std::string, std::pair<std::shared_ptr<const Site>, std::vector<std::uint32_t>>> by_site;
  const Keep keep{job->sticky, job->sticky_strict, job->ambiguous};
  const std::shared_ptr<const spool::Message> content = job->content;
  Parts parts(std::move(job));
  for (auto& [domain, recipients] : by_domain) {
    const SiteAnswer& answer = sites.at(domain);
    if (answer.site) {
      auto& group = by_site[answer.site->key];
      group.first = answer.site;
      group.second.insert(group.second.end(), recipients.begin(), recipients.end());
      continue;
    }
    JobPtr refused = parts.take(recipients);
    refused->last_reply = answer.refusal.to_string();
    note(*refused, answer.refusal.permanent() ? "failed" : "deferred", "", refused->last_reply, "", "dns", recipients);
    if (answer.refusal.permanent()) count_bounced(*refused, true);
    if (answer.refusal.permanent())
      fail(std::move(refused), std::vector(recipients.size(), answer.refusal), "The address cannot be delivered to.", "");
    else
      retry_later(std::move(refused), keep);
  }
  for (auto& [key, group] : by_site) {
    auto& recipients = group.second;
    for (std::size_t at = 0; at < recipients.size(); at += recipients_per_job) {
      const auto end = std::min(recipients.size(), at + recipients_per_job);
      JobPtr piece = parts.take(
          {recipients.begin() + static_cast<std::ptrdiff_t>(at), recipients.begin() + static_cast<std::ptrdiff_t>(end)});
      piece->site = group.first;
      piece->version = shared_.config->version;
      piece->pool = pool_of(*piece, content->recipients[recipients[at]].domain);
      route_to_owner(std::move(piece));
    }
  }
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
  push(due_, std::move(job));
  pump();
}

void Dispatcher::configure() {
  resolver_.configure(shared_.config->dns);
  sites_.configure(shared_.config, shared_.sts);
  weights_ = ClassWeights(*shared_.config);
  closed_ = {};
  slots_.set_limit(slots_.share(static_cast<std::size_t>(shared_.config->limits.connections_out), all_.size(), index_));
  for (auto& [key, lane] : lanes_) {
    empty_lane(*lane, again_);
    for (auto* timer : lane->idle) timer->cancel();
  }
  holds_away_.clear();
  for (auto& [key, held] : std::exchange(held_, {})) {
    again_.splice(held.jobs);
    if (!held.away().empty()) strays_.push_back(held.take_away(expires_));
  }
  work();
  serve_waiting();
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
  // Held for long, or in a lane: its destination may have moved since.
  const bool stale = job->site->stale(std::chrono::steady_clock::now());
  if (stale || job->version != shared_.config->version) return prepare_again(std::move(job));
  if (job->message->poison.load(std::memory_order_relaxed)) return hold_job(std::move(job), "poison: blocked elsewhere", true);
  if (job->message->pass && job->tried.empty()) recall(*job);
  if (job->sticky && !reachable(*job, *job->sticky)) job->sticky.reset();
  // Greylisting wants the same source again, but not at the price of waiting for it to be delisted.
  if (job->sticky && !job->sticky_strict && job->sticky->kind == routing::EgressKind::source &&
      !routing::in_service(snapshot_->sources[job->sticky->index].with(job->site->provider).standing))
    job->sticky.reset();
  if (job->sticky && !job->sticky_strict && job->sticky->kind == routing::EgressKind::smarthost) {
    const routing::SmarthostSnapshot& host = snapshot_->smarthosts[job->sticky->index];
    if ((host.resting_until && now() < *host.resting_until) || routing::find_barred(host, job->sender_domain, now()))
      job->sticky.reset();
  }
  routing::Request request = request_for(*job);
  const std::uint64_t tie_break = random_();
  std::string unpaid;  // what budgets and rates have to do with a hold
  while (true) {
    routing::Route route = routing::route(shared_.config->topology, *snapshot_, request, now(), tie_break);
    if (route.hold) {
      job->route = routing::explain(route, shared_.config->topology);
      // Something was tried in this round: the round is over. Else nothing can be tried: wait for better standings.
      if (!job->tried.empty()) {
        const Keep keep{job->sticky, job->sticky_strict, job->ambiguous};
        return retry_later(std::move(job), keep);
      }
      route.hold->reason += unpaid;
      return hold(std::move(job), *route.hold);
    }
    const routing::EgressRef egress = route.candidates.front().egress;
    if (egress.kind == routing::EgressKind::source) {
      const auto& standing = snapshot_->sources[egress.index].with(job->site->provider).standing;
      const bool trial = standing == routing::Standing::trial && !shared_.config->topology.observe;
      if (trial && !shared_.common.trials.acquire(egress.index, job->site->provider)) {
        request.excluded.push_back({egress, "trial: another message is on its way", now() + trial_pause});
        continue;
      }
      if (const auto wait = shape(*job, egress.index)) {
        if (trial) shared_.common.trials.release(egress.index, job->site->provider);  // wakes nobody: it would be refused again
        // Throttled, and the class does not spill: it waits for its source, whatever else is free.
        const bool tried_source =
            std::ranges::any_of(job->tried, [](const auto& tried) { return tried.egress.kind == routing::EgressKind::source; });
        if (!wait->cap && !tried_source && !shared_.config->classes[job->message->message_class].spill) {
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
    } else if (const std::size_t most = most_recipients(*job, egress.index); job->recipients.size() > most) {
      return dispatch_split(std::move(job), most);
    } else if (auto refusal = shared_.budgets.charge(egress.index, job->message->message_class, job->recipients.size(), now(),
                                                     job->charged)) {
      unpaid += (unpaid.empty() ? ": " : "; ") + shared_.config->topology.name(egress) + " " + refusal->reason;
      request.excluded.push_back({egress, std::move(refusal->reason), refusal->until});
      continue;
    }
    job->egress = egress;
    job->canary = route.canary && egress.kind == routing::EgressKind::smarthost;
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
  const std::vector<std::uint32_t> all = job->recipients;
  Parts parts(std::move(job));
  for (std::size_t at = 0; at < all.size(); at += most) {
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(at);
    const auto last = all.begin() + static_cast<std::ptrdiff_t>(std::min(at + most, all.size()));
    dispatch(parts.take({first, last}));
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
  const AttemptResult* const closed =
      job->message->pass ? nullptr : closed_.find({job->egress, site}, std::chrono::steady_clock::now());
  if (closed) {
    const AttemptResult fate = *closed;
    return conclude(std::move(job), fate);
  }
  auto& lane = lanes_[{job->egress, site}];
  if (!lane) {
    lane = std::make_unique<Lane>();
    lane->key = {job->egress, site};
  }
  if (!smarthost && (!lane->site || lane->site->looked_up <= job->site->looked_up)) lane->site = job->site;
  // Bodies that find no room in memory are read back when their turn comes. For a lesser class there is none while others could
  // need the rest; its short queues are still let have some of that, for their turn is near.
  const bool long_wait = lane->ready.size(job->message->message_class) > long_queue;
  if ((long_wait || shared_.common.cache.full()) && !keeps_body(*job)) job->content.reset();
  // Where nothing is delivered the turn of most of them may be far off: the memory is better spent on other mail.
  const bool moving = std::chrono::steady_clock::now() - lane->moved < moving_within;
  if (!front && park(*lane, moving, job)) return kick(*lane);
  if (long_wait && !moving && !job->message->pass && !job->called) job->content.reset();
  ++load_of(*job).ready;
  push(lane->ready, std::move(job), front);
  kick(*lane);
}

void Dispatcher::hold(JobPtr job, const routing::Hold& reason) {
  if (settled(*job, {Settled::End::deferred, smtp::make_reply(451, "4.7.1 (local) " + job->route), "", {}})) return;
  HeldKey key{job->pool, job->site->provider, -1, job->site->ipv4, job->site->ipv6, {}, {}};
  if (job->sticky) key.sticky = static_cast<int>(job->sticky->index) * 2 + (job->sticky->kind == routing::EgressKind::smarthost);
  if (refused_somewhere(*job)) key.sender = job->sender_domain;
  if (shared_.config->classes[job->message->message_class].spending) key.message_class = job->message->message_class;
  HeldJobs& held = held_.try_emplace(key, expires_).first->second;
  if (held.empty() || held.reason != reason.reason)
    log::info("holding mail", {{"id", smtp::to_string(job->message->id)},
                               {"pool", shared_.config->topology.pools[key.pool].name},
                               {"provider", key.provider},
                               {"route", job->route}});
  held.reason = reason.reason;
  // The first of the times at which something may change for one of them.
  if (held.empty() || (reason.until && (!held.until || *reason.until < *held.until))) held.until = reason.until;
  job->content.reset();
  const int weight = weights_.of(job->message->message_class);
  const routing::Time next = std::min(held.until.value_or(routing::Time::max()), job->message->expires);
  held.add(std::move(job), weight);
  if (!held.away().empty()) holds_away_.insert(key);
  arm_at(next);
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
  const auto before = std::exchange(snapshot_, std::move(snapshot));
  reroute_lanes(before.get());
  release_held();
  look();
}

/// Whether a smarthost of the job's pool does not take its sender, or the sender is not ready there: it waits apart from mail
/// that may go there.
bool Dispatcher::refused_somewhere(const Job& job) const {
  return std::ranges::any_of(shared_.config->topology.pools[job.pool].fallback, [&](std::uint32_t host) {
    return routing::find_barred(snapshot_->smarthosts[host], job.sender_domain, now());
  });
}

// ---- time --------------------------------------------------------------------------------------------------------

/// Makes some of what rests and is due ready, of each class that has little there.
void Dispatcher::refill() {
  if (stopping_ || !started_ || shared_.spool.delivery_paused()) return;
  call_back();
  if (resting_.empty()) return;
  const auto wanted = [this](std::uint32_t message_class) { return due_.size(message_class) < refill_below; };
  for (auto& job : resting_.take_due(now(), refill_by, wanted)) push(due_, std::move(job));
}

void Dispatcher::rest_job(JobPtr job) {
  strip(*job);
  resting_.add(std::move(job));
}

/// Of many whose time has come, most wait for their turn as numbers. The caller pumps.
void Dispatcher::make_due(JobPtr job) {
  if (due_.size(job->message->message_class) < refill_below) return push(due_, std::move(job));
  rest_job(std::move(job));
  arm_soon();
}

/// Puts the job to rest until job->next_at: only its id stays in memory.
void Dispatcher::schedule(JobPtr job) {
  release_trial(*job);
  give_back(*job, 0);
  const Keep keep{job->sticky, job->sticky_strict, job->ambiguous};
  if (settled(*job, {Settled::End::deferred, smtp::make_reply(451, "4.3.2 (local) no delivery now, try again later"), "", keep}))
    return;
  const routing::Time next = job->next_at;
  rest_job(std::move(job));
  arm_at(std::max(next, now() + soon_after));
}

void Dispatcher::arm_soon() {
  arm_at(now() + soon_after);
}

/// Asks everybody when something is to be done: there may be many thousand holds, so it is for look() and rare events. Whoever
/// adds one thing says when its time comes (arm_at).
void Dispatcher::arm() {
  if (stopping_) return;
  routing::Time next = routing::Time::max();
  const routing::Time soon = now() + soon_after;
  // What is due waits for room, which nobody may tell of: lanes that live long take what they have.
  if (!due_.empty() || !called_.empty() || !parked_.empty() || !strays_.empty()) next = soon;
  if (!resting_.empty()) next = std::min(next, std::max(resting_.next(), soon));
  for (const auto& [key, held] : held_) {
    next = std::min(next, held.hungry() ? soon : std::max(held.next_expiry(), soon));
    if (held.until) next = std::min(next, *held.until);
  }
  for (const auto& [reason, held] : withheld_) next = std::min(next, std::max(held.next_expiry(), soon));
  if (next != routing::Time::max()) arm_at(next);
}

/// look() comes at `next`, or before.
void Dispatcher::arm_at(routing::Time next) {
  if (stopping_) return;
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
  if (stopping_ || !started_) return;
  const routing::Time time = now();
  end_held(time);
  end_withheld(time);
  pump();
  arm();
}

boost::asio::awaitable<void> Dispatcher::stop(Deadline deadline) {
  stopping_ = true;
  timer_.cancel();
  slices_.cancel();
  // What is still to be worked on rests; who waits for a verdict has it.
  while (auto job = next_released()) release_job(std::move(*job));
  while (auto job = again_.pop()) schedule(std::move(*job));
  for (auto& group : unreached_)
    while (auto job = group.jobs.pop()) schedule(std::move(*job));
  for (auto& [key, lane] : lanes_) {
    for (auto* timer : lane->idle) timer->cancel();
    if (lane->waiting) lane->waiting->cancel();
  }
  co_await tasks_.wait_or(deadline, [this] {
    resolver_.cancel();
    deadlines_.expire_all();
  });
  resolver_.cancel();  // who only asks (explain) is not waited for
}

// ---- for the API -------------------------------------------------------------------------------------------------

/// What is kept as numbers, and by whom.
struct Dispatcher::ListedAs {
  const char* state = nullptr;  ///< none: by its time
  std::string site{}, egress{};
  const std::string* reason = nullptr;  ///< none: what the last server said
};

/// A million of them at most: no strings but those of the rows that are asked for.
void Dispatcher::list_resting(const Resting& resting, const ListedAs& as, const QueueFilter& filter, QueueSummary& out) const {
  if (resting.empty()) return;
  const routing::Time time = now();
  if (!as.site.empty()) out.by_site[as.site] += resting.size();
  if (!as.egress.empty()) out.by_egress[as.egress] += resting.size();
  if (as.state && std::string_view(as.state) == "held") out.held += resting.size();
  resting.each([&](const Resting::Row& row) {
    ++out.total;
    ++out.by_class[row.message_class];
    if (!out.oldest || row.accepted < *out.oldest) out.oldest = row.accepted;
    if (out.rows.size() >= filter.limit || (filter.message_class && *filter.message_class != row.message_class)) return;
    const char* const state = as.state ? as.state : row.next_at <= time ? "ready" : "scheduled";
    if (!filter.state.empty() && filter.state != state) return;
    const MessageHistory* known = history_.head(row.id);
    out.rows.push_back({row.id, row.message_class, as.site, as.egress, state, row.accepted, row.next_at, row.attempts,
                        row.recipients, known ? known->sender : "", as.reason ? *as.reason : row.last_reply});
  });
}

QueueSummary Dispatcher::queue(const QueueFilter& filter) const {
  QueueSummary out;
  // Neighbours mostly have the same site: one look-up for all of them.
  std::shared_ptr<const Site> last_site;
  std::uint64_t* at_site = nullptr;
  const auto add = [&](const Job& job, const char* state, const std::string& egress, const std::string& reason) {
    ++out.total;
    ++out.by_class[job.message->message_class];
    if (job.site && job.site != last_site) {
      last_site = job.site;
      at_site = &out.by_site[job.site->key];
    }
    if (job.site) ++*at_site;
    if (!egress.empty()) ++out.by_egress[egress];
    if (std::string_view(state) == "held") ++out.held;
    if (!out.oldest || job.message->accepted < *out.oldest) out.oldest = job.message->accepted;
    if (out.rows.size() >= filter.limit || (filter.message_class && *filter.message_class != job.message->message_class) ||
        (!filter.state.empty() && filter.state != state))
      return;
    const MessageHistory* known = history_.head(job.message->id);
    out.rows.push_back({job.message->id, job.message->message_class, job.site ? job.site->key : "", egress, state,
                        job.message->accepted, job.next_at, job.attempts, static_cast<std::uint32_t>(job.recipients.size()),
                        known ? known->sender : "", reason});
  };
  const auto name = [&](const Job& job) { return shared_.config->topology.name(job.egress); };
  for (const JobQueue* queue : {&due_, &called_, &again_, &released_})
    queue->for_each([&](const JobPtr& job) { add(*job, "ready", "", job->last_reply); });
  for (const auto& group : unreached_) group.jobs.for_each([&](const JobPtr& job) { add(*job, "ready", "", job->last_reply); });
  list_resting(resting_, {}, filter, out);
  for (const auto& [key, parked] : parked_) {
    const bool source = key.egress.kind == routing::EgressKind::source;
    list_resting(parked, {"ready", source ? key.site : "", shared_.config->topology.name(key.egress)}, filter, out);
  }
  for (const auto* over : {&strays_, &releasing_})
    for (const Resting& some : *over) list_resting(some, {"ready"}, filter, out);
  const auto add_held = [&](const HeldJobs& held, const std::string& reason) {
    held.jobs.for_each([&](const JobPtr& job) { add(*job, "held", "", reason); });
    list_resting(held.away(), {"held", {}, {}, &reason}, filter, out);
  };
  for (const auto& [key, held] : held_) add_held(held, held.reason);
  for (const auto& [reason, held] : withheld_) add_held(held, reason);
  for (const Picked& picked : changing_) {
    for (const auto& job : picked.jobs) add(*job, "active", "", "");
    list_resting(picked.resting, {"active"}, filter, out);
  }
  for (const auto& [key, lane] : lanes_) lane->ready.for_each([&](const JobPtr& job) { add(*job, "ready", name(*job), ""); });
  for (const Job* job : active_) add(*job, "active", job->route.empty() ? "" : name(*job), "");
  return out;
}

}  // namespace egret::relay
