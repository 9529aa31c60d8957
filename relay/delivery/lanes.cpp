// Lanes: the connections of one egress to one site, and the jobs that wait for them.
#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "relay/auth/nonce.hpp"
#include "relay/brakes/brakes.hpp"
#include "relay/delivery/dispatcher.hpp"
#include "relay/delivery/http_connection.hpp"
#include "relay/esp/esp_tag.hpp"
#include "relay/net/via.hpp"
#include "relay/runtime/log.hpp"
#include "routing/blame.hpp"

namespace egret::relay {
namespace {

using namespace std::chrono_literals;

constexpr auto connect_timeout = 30s;  // per address
constexpr auto idle_time = 5s;         // a connection without work is kept this long
constexpr int max_addresses = 6;       // tried for one message
constexpr auto broken_time = 1h;       // a host whose TLS failed is spoken to in clear, where policy allows it
constexpr std::size_t max_broken = 10'000;
constexpr auto limit_pause = 1min;  // between two log lines that say that limits.connections_out is reached
constexpr auto closed_for = 1s;  // a destination that put off a connection is left alone; less where mail is tried again sooner

/// 421 in answer to MAIL: the server ends this connection (RFC 5321 section 3.8), most often because it took enough messages.
bool worn_out(const AttemptResult& result) {
  const auto ended = [](const smtp::RecipientOutcome& o) { return o.phase == smtp::Phase::mail && o.reply.code == 421; };
  return result.kind == AttemptResult::Kind::answered && !result.outcomes.empty() && std::ranges::all_of(result.outcomes, ended);
}

}  // namespace

/// What came of opening a connection.
struct Dispatcher::Established {
  std::unique_ptr<Carrier> connection;
  AttemptResult result;   ///< why there is none: unreachable, local_fault, or answered for every recipient
  bool try_next = false;  ///< another address may do better
  bool tls_failed = false;
};

std::size_t Dispatcher::lane_limit(const Lane& lane) const {
  // The first login shows whether the password is right: accounts are locked by a burst of wrong ones.
  if (lane.key.egress.kind == routing::EgressKind::smarthost && !lane.opened) return 1;
  if (lane.key.egress.kind == routing::EgressKind::smarthost)
    return static_cast<std::size_t>(shared_.config->smarthosts[lane.key.egress.index].connections);
  const auto& view = snapshot_->sources[lane.key.egress.index].with(lane.site->provider);
  const double limit = static_cast<double>(lane.site->connections) * view.throttle;
  return std::max<std::size_t>(1, static_cast<std::size_t>(limit));
}

/// Whether a connection, which has mail of a `lesser` class now or not, may take the next message of this class. Where
/// classes meet, one connection is left for those of greater weight: else each of them could be with a long message. While
/// such mail is about, half of them are: with one, the second of two messages would wait for the first.
bool Dispatcher::may_serve(const Lane& lane, std::uint32_t message_class, bool lesser) const {
  if (!weights_.lesser_at(lane.key.egress, message_class)) return true;
  const std::size_t limit = lane_limit(lane);
  const bool about = shared_.common.precedence.lately(std::chrono::steady_clock::now());
  return lane.lesser - lesser < std::max<std::size_t>(1, about ? limit / 2 : limit - 1);
}

bool Dispatcher::work_for(const Lane& lane, bool lesser) const {
  return lane.ready.next([&](std::uint32_t its) { return may_serve(lane, its, lesser); }).has_value();
}

/// Notes what a connection is busy with: nothing, when there is no job.
void Dispatcher::serve(Lane& lane, bool& lesser, const Job* job) const {
  lane.lesser -= lesser;
  lesser = job && weights_.lesser_at(lane.key.egress, job->message->message_class);
  lane.lesser += lesser;
}

void Dispatcher::kick(Lane& lane) {
  if (stopping_ || !work_for(lane, false)) return;
  if (!lane.idle.empty()) {
    boost::asio::steady_timer* timer = lane.idle.back();
    lane.idle.pop_back();
    timer->cancel();
    // It was perhaps to end, for a lane that has none: then another does.
    if (idle_.erase(timer) == 0 && slots_.wanted()) end_idle();
    return;
  }
  if (lane.waiting) return want_slot(lane);  // perhaps for something more urgent now
  // One new connection for what waits behind the others, not one for each message of a burst.
  if (lane.connections >= lane_limit(lane)) return;
  ++lane.connections;
  tasks_.spawn(run_lane(&lane), "connection");
}

/// Until the lane may have one more connection open; false when it needs none any more, or another waits for that already.
boost::asio::awaitable<bool> Dispatcher::await_slot(Lane* lane) {
  if (stopping_ || lane->waiting || lane->ready.empty()) co_return false;
  if (slots_.begin()) {
    ++lane->slots;
  } else {
    boost::asio::steady_timer timer(executor_, Deadline::max());
    lane->waiting = &timer;
    want_slot(*lane);
    boost::system::error_code ignored;
    co_await timer.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
    if (lane->waiting == &timer) {  // nobody gave it one: there is nothing to send any more
      lane->waiting = nullptr;
      slots_.forget(lane->key);
      count_connections();
      co_return false;
    }
  }
  count_connections();
  co_return true;
}

/// As many connections are open as may be. For a lane that has none one that rests is ended, else it has the next that ends.
void Dispatcher::want_slot(const Lane& lane) {
  using Want = ConnectionSlots<LaneKey>::Want;
  bool lesser = true;
  lane.ready.for_each_class([&](std::uint32_t its, std::size_t jobs) { lesser = lesser && (jobs == 0 || weights_.lesser(its)); });
  const bool news = slots_.wait(lane.key, lane.slots > 0 ? Want::more : lesser ? Want::lesser : Want::first);
  count_connections();
  if (!news) return;
  end_idle();
  const auto time = std::chrono::steady_clock::now();
  if (slots_logged_.time_since_epoch().count() != 0 && time - slots_logged_ < limit_pause) return;
  slots_logged_ = time;
  log::warn("destinations wait for a connection: as many are open as may be",
            {{"open", std::to_string(slots_.open())}, {"worker", std::to_string(index_)}, {"rule", "limits.connections_out"}});
}

/// A connection of the lane was closed, or is not to be opened after all.
void Dispatcher::leave_slot(Lane& lane, bool& slot) {
  if (!std::exchange(slot, false)) return;
  --lane.slots;
  slots_.end();
  if (lane.waiting && lane.ready.empty())
    lane.waiting->cancel();
  else if (lane.waiting)
    want_slot(lane);
  serve_waiting();
}

/// A connection that rests, of any lane, is closed.
void Dispatcher::end_idle() {
  if (!idle_.empty()) idle_.extract(idle_.begin()).value()->cancel();
}

/// Connections that ended are for the lanes that wait.
void Dispatcher::serve_waiting() {
  while (const auto key = slots_.next()) {
    const auto it = lanes_.find(*key);
    if (it == lanes_.end() || !it->second->waiting) {
      slots_.end();
      continue;
    }
    ++it->second->slots;
    std::exchange(it->second->waiting, nullptr)->cancel();
  }
  count_connections();
}

/// The metrics are of all workers.
void Dispatcher::count_connections() {
  const auto tell = [](std::atomic<std::int64_t>& of, std::size_t& told, std::size_t now) {
    of.fetch_add(static_cast<std::int64_t>(now) - static_cast<std::int64_t>(told), std::memory_order_relaxed);
    told = now;
  };
  tell(shared_.metrics.out_open, open_told_, slots_.open());
  tell(shared_.metrics.out_waiting, wait_told_, slots_.waiting());
}

boost::asio::awaitable<bool> Dispatcher::load(Job* job) {
  if (job->content) co_return true;
  auto content = co_await shared_.spool.read(job->message->id);
  if (!content) co_return false;  // the spool has said so in the log; the message stays on disk
  job->content = shared_.common.cache.count(std::move(content));
  co_return true;
}

/// The next job of the lane for a connection, its body at hand; null when nothing waits that it may take.
boost::asio::awaitable<JobPtr> Dispatcher::take(Lane* lane, bool* lesser) {
  while (!stopping_ && !waits_for_spool(*lane)) {
    auto next = lane->ready.pop([&](std::uint32_t its) { return may_serve(*lane, its, *lesser); });
    if (!next) break;
    serve(*lane, *lesser, next->get());
    if ((*next)->charged) shared_.budgets.take_turn(*(*next)->charged, std::chrono::steady_clock::now());
    JobPtr job = co_await loaded(std::move(*next));
    if (job || paced(*lane)) co_return job;  // at a rate, the next one has a turn of its own
  }
  serve(*lane, *lesser, nullptr);
  co_return nullptr;
}

/// While the ends of deliveries cannot be recorded none begins: after a restart it would be made again. What waits in the lane
/// is decided anew, which puts it off.
bool Dispatcher::waits_for_spool(Lane& lane) {
  if (!shared_.spool.delivery_paused()) return false;
  empty_lane(lane, again_);
  work();
  return true;
}

/// A job that left its lane, with its body; null when that cannot be read, or its user is suspended by now.
boost::asio::awaitable<JobPtr> Dispatcher::loaded(JobPtr job) {
  --load_of(*job).ready;
  active_.insert(job.get());
  if (!parked_.empty()) pump();
  bool good = job->content != nullptr;
  if (!good) good = co_await load(job.get());
  const auto suspended = good && shared_.brakes ? shared_.brakes->suspended(job->content->user) : std::nullopt;
  if (good && !suspended) co_return job;
  active_.erase(job.get());
  if (suspended) {
    hold_job(std::move(job), *suspended, true);
    co_return nullptr;
  }
  job->next_at = now() + unreadable_pause;  // perhaps later
  schedule(std::move(job));
  co_return nullptr;
}

void Dispatcher::put_back(Lane& lane, JobPtr job) {
  active_.erase(job.get());
  ++load_of(*job).ready;
  push(lane.ready, std::move(job), true);
}

int Dispatcher::messages_per_connection(const Lane& lane) const {
  if (lane.key.egress.kind == routing::EgressKind::smarthost)
    return shared_.config->smarthosts[lane.key.egress.index].messages_per_connection;
  return lane.site->messages_per_connection;
}

/// The job to announce behind the final dot of the present one: with more waiting than the connections can take, and
/// on a connection that may carry it. `lesser`: what the connection has now is of a class that leaves room for another;
/// with a single connection nothing of such a class is announced, for others would have to wait for that too.
boost::asio::awaitable<JobPtr> Dispatcher::take_following(Lane* lane, const Job* present, const Carrier* connection,
                                                          bool lesser) {
  const std::size_t limit = lane_limit(*lane);
  if (present->holds_trial || stopping_ || shared_.spool.delivery_paused() || paced(*lane) ||
      connection->messages() + 1 >= messages_per_connection(*lane) || !connection->chains())
    co_return nullptr;
  const bool another = lane->connections < limit && slots_.room();
  if ((another || !lane->idle.empty()) && work_for(*lane, false)) co_return nullptr;
  // Whose turn it is decides; when that may not be announced, the connection takes it when it is done.
  const auto turn = [&] { return lane->ready.next([&](std::uint32_t its) { return may_serve(*lane, its, lesser); }); };
  const auto may_follow = [&](std::uint32_t its) { return !weights_.lesser_at(lane->key.egress, its) || (lesser && limit > 1); };
  if (const auto its = turn(); its && may_follow(*its)) co_await give_way(*its);
  const auto its = turn();
  if (!its || !may_follow(*its)) co_return nullptr;
  auto next = lane->ready.pop([&](std::uint32_t one) { return one == *its; });
  if (!next) co_return nullptr;
  co_return co_await loaded(std::move(*next));
}

/// Sends one job, and perhaps announces the next, which `following` then holds; null: it does not.
boost::asio::awaitable<AttemptResult> Dispatcher::send_job(Lane* lane, Carrier* connection, Prepared* present,
                                                           Prepared* following, bool lesser) {
  if (!present->transaction) {
    const OutgoingOptions options = outgoing_options(lane->key.egress, present->job->message->id);
    present->transaction = co_await connection->prepare(present->job->content, present->job->recipients, options, shared_.spool);
  }
  if (following) following->job = co_await take_following(lane, present->job.get(), connection, lesser);
  if (following && following->job) {
    const OutgoingOptions options = outgoing_options(lane->key.egress, following->job->message->id);
    following->transaction =
        co_await connection->prepare(following->job->content, following->job->recipients, options, shared_.spool);
  }
  co_return co_await connection->send(&*present->transaction, following && following->job ? &*following->transaction : nullptr,
                                      shared_.spool);
}

/// A connection waits for work. Whoever is woken and finds that another was quicker waits on.
boost::asio::awaitable<void> Dispatcher::rest(Lane* lane) {
  const Deadline until = in(idle_time);
  const std::uint64_t version = shared_.config->version;
  boost::asio::steady_timer timer(executor_);
  while (!work_for(*lane, false) && !stopping_ && version == shared_.config->version && !slots_.wanted() &&
         std::chrono::steady_clock::now() < until) {
    timer.expires_at(until);
    lane->idle.push_back(&timer);
    idle_.insert(&timer);
    boost::system::error_code ignored;
    co_await timer.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
    std::erase(lane->idle, &timer);
    idle_.erase(&timer);
  }
}

boost::asio::awaitable<void> Dispatcher::run_lane(Lane* lane) {
  std::unique_ptr<Carrier> connection;
  std::uint64_t version = 0;  // of the configuration that the connection was opened under
  const LaneKey key = lane->key;
  Prepared present;
  bool lesser = false;   // what it is busy with is of a class that leaves room for another
  bool refused = false;  // no connection could be had
  bool slot = false;     // a connection of it is counted
  int served = 0;        // messages, over one connection or several
  while (true) {
    if (!present.job) {
      const bool due = co_await wait_for_rate(lane, slot);
      if (!due) {  // its turn is later, and others want the connection
        if (connection) co_await connection->quit();
        connection.reset();
        serve(*lane, lesser, nullptr);
        leave_slot(*lane, slot);
        continue;
      }
      if (!slot) {
        slot = co_await await_slot(lane);
        if (!slot) break;
        continue;  // that may have taken its time
      }
      present.job = co_await take(lane, &lesser);
    }
    if (!present.job) break;
    // More waits than this connection can take at once: bring up another beside it.
    if (!lane->ready.empty()) kick(*lane);
    if (connection && !present.transaction && version != shared_.config->version) {
      co_await connection->quit();
      connection.reset();
    }
    if (!connection && !shared_.config->has(key.egress)) {
      active_.erase(present.job.get());
      prepare_again(std::move(present.job));
      break;
    }
    if (!connection) {
      Established opened = co_await establish(lane, present.job.get());
      if (!opened.connection) {
        active_.erase(present.job.get());
        refused = true;
        // Others that are under way may do better; the last of them to fail decides for all.
        if (lane->slots == 1 && closed_to_all(*lane, opened.result)) close_lane(*lane, opened.result);
        conclude(std::move(present.job), opened.result);
        break;
      }
      connection = std::move(opened.connection);
      version = shared_.config->version;
      lane->opened = lane->opened || connection->proven();
      if (!lane->ready.empty()) kick(*lane);
    }
    if (!present.transaction && shared_.spool.delivery_paused()) {  // since the job was taken
      active_.erase(present.job.get());
      release_trial(*present.job);
      give_back(*present.job, 0);
      dispatch(std::move(present.job));  // which puts it off
      continue;
    }
    if (!pays(*present.job)) {
      // It waited into another period or for a reload, and the budget does not take it now. What was announced of it is taken
      // back with the connection.
      if (present.transaction) {
        connection->drop();
        connection.reset();
      }
      active_.erase(present.job.get());
      dispatch(std::move(present.job));
      present = {};
      continue;
    }
    const bool reused = connection->messages() > 0;
    Prepared following;
    const bool others_turn = slots_.wanted() && ++served >= slots_.messages_each;
    const AttemptResult result = co_await send_job(lane, connection.get(), &present, others_turn ? nullptr : &following, lesser);
    if (!lane->opened && connection->proven()) {
      lane->opened = true;
      kick(*lane);
    }
    // What was announced goes on only behind a message that was taken: else its egress is perhaps not the right one
    // any more, and nothing of it was sent.
    const bool chained = following.job && connection->usable() && connection->chained();
    const bool go_on = chained && result.kind == AttemptResult::Kind::answered &&
                       std::ranges::all_of(result.outcomes, &smtp::RecipientOutcome::delivered);
    if (chained && !go_on) connection->drop();
    if (following.job && !go_on) {
      put_back(*lane, std::move(following.job));
      following = {};
    }
    const bool stale = reused && (worn_out(result) || (result.kind == AttemptResult::Kind::lost && result.before_any_reply));
    if (stale && present.job->reconnects++ < 2 && !stopping_) {
      // The peer ended a connection that had served: nobody's fault, and nothing was said about this message.
      if (connection->usable()) connection->drop();
      put_back(*lane, std::move(present.job));
    } else {
      active_.erase(present.job.get());
      if (std::ranges::any_of(result.outcomes, &smtp::RecipientOutcome::delivered))
        lane->moved = std::chrono::steady_clock::now();
      conclude(std::move(present.job), result);
    }
    present = std::move(following);
    if (present.job) {
      serve(*lane, lesser, present.job.get());
    } else if (const auto next = lane->ready.next([&](std::uint32_t its) { return may_serve(*lane, its, lesser); });
               next && (lane_limit(*lane) > 1 || !weights_.lesser_at(lane->key.egress, *next))) {
      // With a single connection others than the next one would wait too: there its turn decides alone.
      co_await give_way(*next);
    }
    if (!present.job && slots_.wanted() && served >= slots_.messages_each) break;
    const bool worn = connection->messages() >= messages_per_connection(*lane) || version != shared_.config->version;
    if (!connection->usable() || (!present.job && worn)) {
      co_await connection->quit();
      connection.reset();
    } else if (!present.job && !work_for(*lane, lesser) && !stopping_) {
      serve(*lane, lesser, nullptr);
      co_await rest(lane);
      if (version == shared_.config->version) continue;
      co_await connection->quit();
      connection.reset();
    }
  }
  if (connection) co_await connection->quit();
  connection.reset();  // before another takes its place
  serve(*lane, lesser, nullptr);
  --lane->connections;
  leave_slot(*lane, slot);
  if (refused && lane->connections == 0 && !lane->ready.empty()) {
    // A source whose address has gone refuses at once: the next connection must not be tried from within this one.
    co_await boost::asio::post(executor_, boost::asio::use_awaitable);
    const auto left = lanes_.find(key);
    if (left == lanes_.end()) co_return pump();
    lane = left->second.get();
  }
  if (stopping_ && lane->connections == 0) {
    JobQueue left;
    empty_lane(*lane, left);
    while (auto job = left.pop()) schedule(std::move(*job));
  }
  if (!lane->ready.empty()) {
    if (!refused || lane->connections == 0) kick(*lane);
  } else if (lane->connections == 0) {
    lanes_.erase(key);
  }
  pump();
}

/// Whether what a connection met before any envelope would meet every other one, and blames nobody: a host that cannot be
/// reached, or puts off whoever connects.
bool Dispatcher::closed_to_all(const Lane& lane, const AttemptResult& result) const {
  if (stopping_) return false;
  if (result.kind == AttemptResult::Kind::unreachable) return true;
  if (result.kind != AttemptResult::Kind::answered || result.outcomes.empty() ||
      lane.key.egress.kind != routing::EgressKind::source)
    return false;
  const smtp::RecipientOutcome& said = result.outcomes.front();
  routing::ReplyContext context{said.phase, lane.site->provider, {}};
  context.egress = shared_.config->topology.sources[lane.key.egress.index].reputation;
  const auto verdict = shared_.config->replies->classify(smtp::reply_text(said.reply.to_string()), context);
  const routing::Blame blame = routing::blame_source(said, verdict, false);
  return blame.action == routing::Action::retry && !blame.egress_at_fault && verdict.observe.empty();
}

/// The whole lane shares the fate, and so does what joins it in the next moment: the others would only find out the same one
/// after another, each with a connection that nobody wants.
void Dispatcher::close_lane(Lane& lane, const AttemptResult& result) {
  AttemptResult fate;  // of those who were not tried, and most of whom are not in memory: there is no reply to judge
  fate.host = result.host;
  fate.others = true;
  fate.ours = result.ours;
  fate.text = result.outcomes.empty() ? result.text : "connections are put off: " + result.outcomes.front().reply.to_string();
  const auto time = std::chrono::steady_clock::now();
  const auto pause = std::min<std::chrono::steady_clock::duration>(closed_for, shared_.config->delivery.retry.front());
  if (lane.key.egress.kind == routing::EgressKind::source) closed_.note(lane.key, fate, time, time + pause);
  if (lane.ready.empty()) return;
  Unreached& group = unreached_.emplace_back();
  empty_lane(lane, group.jobs);
  // Who waits for the verdict is told what the receiver says to him.
  if (!result.outcomes.empty())
    group.jobs.erase_if([&](JobPtr& job) {
      if (!job->message->pass) return false;
      ++load_of(*job).ready;
      push(lane.ready, std::move(job));
      return true;
    });
  group.result = std::move(fate);
  work();
}

boost::asio::awaitable<std::shared_ptr<const Site>> Dispatcher::smarthost_site(std::uint32_t index) {
  const config::Smarthost& host = shared_.config->smarthosts[index];
  auto site = std::make_shared<Site>();
  site->key = "smarthost:" + host.name;
  site->provider = host.provider;
  site->tls = host.tls;
  std::vector<routing::IpAddress> addresses;
  if (const auto literal = routing::IpAddress::parse(host.host)) {
    addresses.push_back(*literal);
  } else {
    const DnsReply v4 = co_await resolver_.query(host.host, DnsType::a);
    addresses = v4.addresses;
    if (addresses.empty()) {
      const DnsReply v6 = co_await resolver_.query(host.host, DnsType::aaaa);
      addresses = v6.addresses;
    }
  }
  for (std::size_t i = 0; i < host.ports.size(); ++i)
    site->targets.push_back({static_cast<std::uint16_t>(i), host.host, host.ports[i], addresses, false, {}, {}});
  co_return site;
}

/// Tries the site's hosts by preference, equal ones in random order, until one takes the session.
boost::asio::awaitable<Dispatcher::Established> Dispatcher::establish(Lane* lane, const Job* job) {
  const bool smarthost = lane->key.egress.kind == routing::EgressKind::smarthost;
  if (smarthost) lane->site = co_await smarthost_site(lane->key.egress.index);
  const std::shared_ptr<const Site> site = lane->site;
  std::vector<Target> targets = site->targets;
  std::ranges::shuffle(targets, random_);
  std::ranges::stable_sort(targets, {}, &Target::preference);
  Established last;
  last.result.text = "no address of " + site->key + " could be tried";
  int tried = 0;
  for (Target& target : targets) {
    if (!target.dane_trouble.empty()) {
      // Without its TLSA records nobody can say that this is the host it seems to be.
      if (last.result.outcomes.empty()) last.result.text = target.host + ": " + target.dane_trouble;
      continue;
    }
    std::ranges::shuffle(target.addresses, random_);
    for (const auto& address : target.addresses) {
      if (!smarthost && address.v6 != shared_.config->topology.sources[lane->key.egress.index].address.v6) continue;
      if (++tried > max_addresses || stopping_) co_return last;
      TlsPlan plan = tls_plan(*site, target);
      const auto broken = broken_tls_.find(target.host);
      if (plan.mode == smtp::TlsMode::opportunistic && broken != broken_tls_.end() &&
          broken->second > std::chrono::steady_clock::now())
        plan.mode = smtp::TlsMode::none;
      last = co_await establish_at(lane, &target, address, plan);
      // A broken TLS must not stop mail where TLS is only a bonus: the same host again, in clear.
      if (last.tls_failed && plan.mode == smtp::TlsMode::opportunistic) {
        log::info("TLS failed, sending in clear", {{"host", target.host}, {"reason", last.result.text}});
        if (broken_tls_.size() > max_broken) broken_tls_.clear();
        broken_tls_[target.host] = in(broken_time);
        plan.mode = smtp::TlsMode::none;
        last = co_await establish_at(lane, &target, address, plan);
      }
      if (last.connection || !last.try_next) {
        // What was refused before any envelope is said about every recipient.
        if (last.result.outcomes.size() == 1) last.result.outcomes.resize(job->recipients.size(), last.result.outcomes.front());
        co_return last;
      }
    }
  }
  if (last.result.outcomes.size() == 1) last.result.outcomes.resize(job->recipients.size(), last.result.outcomes.front());
  co_return last;
}

OutgoingOptions Dispatcher::outgoing_options(routing::EgressRef egress, smtp::MessageId id) const {
  OutgoingOptions out;
  out.signers = &shared_.config->dkim;
  if (egress.kind == routing::EgressKind::smarthost) {
    out.dkim = shared_.config->smarthosts[egress.index].dkim;
    out.rewrites = shared_.config->smarthosts[egress.index].rewrites;
    out.add = shared_.config->smarthosts[egress.index].add_headers;
    out.keep = shared_.config->smarthosts[egress.index].keep_headers;
    if (auto tag = esp_tag(shared_.config->smarthosts[egress.index], shared_.config->strip, id))
      out.add.push_back(std::move(*tag));
  }
  return out;
}

Security Dispatcher::security_for(const Lane& lane, const Target& target, const TlsPlan& plan) const {
  Security out;
  out.policy = plan.name();
  if (lane.key.egress.kind == routing::EgressKind::smarthost) {
    const config::Smarthost& host = shared_.config->smarthosts[lane.key.egress.index];
    out.context = shared_.tls->smarthosts[lane.key.egress.index];
    out.implicit_tls = std::ranges::find(host.implicit_tls, target.port) != host.implicit_tls.end();
    if (plan.mode == smtp::TlsMode::required) out.policy = "verified";
    return out;
  }
  switch (plan.check) {
    case TlsPlan::Check::none:
      out.context = shared_.tls->opportunistic;
      break;
    case TlsPlan::Check::name:
      out.context = shared_.tls->verified;
      break;
    case TlsPlan::Check::dane:
      out.context = shared_.tls->dane;
      out.dane = std::make_shared<const Dane>(*target.dane);
      break;
  }
  return out;
}

smtp::ClientOptions Dispatcher::client_options(routing::EgressRef egress, const TlsPlan& plan, bool implicit_tls) const {
  smtp::ClientOptions out;
  out.tls = plan.mode;
  if (egress.kind == routing::EgressKind::source) {
    out.helo = shared_.config->topology.sources[egress.index].ehlo;
    return out;
  }
  out.helo = shared_.config->hostname;
  out.credentials = shared_.config->smarthosts[egress.index].credentials;
  out.tls_active = implicit_tls;
  if (out.credentials) out.nonce = random_nonce();
  return out;
}

boost::asio::awaitable<ConnectResult> Dispatcher::connect_from(routing::EgressRef egress, const Target* target,
                                                               routing::IpAddress address) {
  ConnectOptions options{address, target->port, {}, in(connect_timeout)};
  shared_.metrics.connections_out.add();
  if (egress.kind == routing::EgressKind::smarthost) co_return co_await relay::connect(options, deadlines_);
  const routing::IpAddress from = shared_.config->topology.sources[egress.index].address;
  ConnectResult out;
  if (const auto& via = shared_.config->via[egress.index]) {
    out = co_await connect_via(*via, from, options, deadlines_);
  } else {
    options.from = from;
    out = co_await relay::connect(options, deadlines_);
    if (out.local_fault) out.text = "on this host: " + out.error.message();
  }
  co_return out;
}

boost::asio::awaitable<Dispatcher::Established> Dispatcher::establish_at(Lane* lane, const Target* target,
                                                                         routing::IpAddress address, TlsPlan plan) {
  Established out;
  const routing::EgressRef egress = lane->key.egress;
  const bool smarthost = egress.kind == routing::EgressKind::smarthost;
  const auto& config = *shared_.config;
  out.result.host = target->host;
  out.try_next = true;
  Security security = security_for(*lane, *target, plan);
  if (!security.context) {  // a smarthost that a reload took away meanwhile
    out.result.text = target->host + ": no longer in the configuration";
    out.try_next = false;
    co_return out;
  }
  smtp::ClientOptions client = client_options(egress, plan, security.implicit_tls);
  ConnectResult connected = co_await connect_from(egress, target, address);
  if (!connected.stream) {
    const std::string why = connected.text.empty() ? connected.error.message() : connected.text;
    out.result.text = target->host + " [" + address.to_string() + "]:" + std::to_string(target->port) + ": " + why;
    out.result.ours = connected.shortage;
    if (connected.local_fault) {
      out.result.kind = AttemptResult::Kind::local_fault;
      out.result.text = "address " + config.topology.sources[egress.index].address.to_string() + " cannot be used: " + why;
      out.try_next = false;
    }
    co_return out;
  }
  if (smarthost && config.smarthosts[egress.index].api && config.smarthosts[egress.index].api->delivers) {
    const config::Smarthost& host = config.smarthosts[egress.index];
    auto http = std::make_unique<HttpConnection>(std::move(connected.stream), host.api, host.provider, host.add_headers,
                                                 std::move(security));
    const bool secured = co_await http->open();
    if (!secured) out.result.text = target->host + " [" + address.to_string() + "]: " + http->error();
    if (secured) out.connection = std::move(http);
    co_return out;
  }
  auto connection = std::make_unique<Connection>(std::move(connected.stream), std::move(client), target->host,
                                                 std::move(security), std::move(connected.received));
  const Connection::Opened opened = co_await connection->open();
  switch (opened) {
    case Connection::Opened::ready:
      out.connection = std::move(connection);
      break;
    case Connection::Opened::refused: {
      out.result.kind = AttemptResult::Kind::answered;
      out.result.outcomes = {connection->session().failure()};
      // The word on our address counts at once; anything else may be this host's own trouble.
      const auto reply = smtp::reply_text(out.result.outcomes[0].reply.to_string());
      routing::ReplyContext reply_context{out.result.outcomes[0].phase, lane->site->provider, {}};
      if (!smarthost) reply_context.egress = config.topology.sources[egress.index].reputation;
      const auto label = config.replies->classify(reply, reply_context).label;
      out.try_next = !smarthost && !routing::blames_egress(label);
      co_await connection->quit();
      break;
    }
    case Connection::Opened::tls_failed:
      out.tls_failed = true;
      [[fallthrough]];
    case Connection::Opened::lost:
      out.result.text = target->host + " [" + address.to_string() + "]: " + connection->error();
      break;
  }
  co_return out;
}

}  // namespace egret::relay
