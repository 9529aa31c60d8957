#include "relay/brakes/brakes.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <charconv>
#include <cmath>

#include "relay/runtime/clock.hpp"
#include "relay/runtime/log.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

using namespace std::chrono_literals;
using routing::SenderKind;
using routing::UserState;

constexpr auto collect_interval = 250ms;
constexpr auto save_interval = 1min;         // of counts; states are saved within a second
constexpr auto usual_save_interval = 10min;  // a large text, and losing ten minutes of two weeks is nothing
constexpr std::size_t max_told = 10'000;
constexpr auto most_ahead = 1h;  // a turn is promised so far ahead, then it is asked again
constexpr std::string_view hour_row = "hour ";

std::size_t shard_of_thread(std::size_t shards) {
  static std::atomic<std::size_t> next{0};
  thread_local const std::size_t mine = next.fetch_add(1);
  return mine % shards;
}

std::string describe(SenderKind kind, const std::string& name) {
  switch (kind) {
    case SenderKind::user:
      return "user " + name;
    case SenderKind::network:
      return "client network " + name;
    case SenderKind::domain:
      return "sender domain " + name;
    case SenderKind::sender:
      break;
  }
  return "sender " + name;
}

std::string hour_name(routing::Time hour) {
  return std::string(hour_row) + std::to_string(hour.time_since_epoch().count());
}

}  // namespace

Brakes::Brakes(const boost::asio::any_io_executor& control, const config::Config& config, Events& events)
    : control_(control),
      events_(events),
      timer_(control),
      config_(config::brakes_of(config)),
      usual_(config_.usual),
      judge_(config_.judge),
      slow_rate_(config_.slow_rate) {}

std::string Brakes::hold_reason(std::string_view user) {
  return "user " + std::string(user) + " is suspended";
}

void Brakes::configure(const config::Config& config) {
  config_ = config::brakes_of(config);
  usual_ = routing::Usual(config_.usual, usual_.memory());
  judge_ = routing::Judge(config_.judge, judge_.users());
  enforce_all();
}

// ---- asking ------------------------------------------------------------------------------------------------------

std::optional<Brakes::Barrier> Brakes::barrier(std::string_view user) const {
  if (restrictions_.load(std::memory_order_relaxed) == 0 || user.empty()) return std::nullopt;
  const std::lock_guard lock(mutex_);
  const auto it = restricted_.find(user);
  if (it == restricted_.end()) return std::nullopt;
  return Barrier{it->second.state, it->second.reason};
}

std::optional<std::string> Brakes::suspended(std::string_view user) const {
  const auto barrier = this->barrier(user);
  if (!barrier || barrier->state != UserState::suspended) return std::nullopt;
  return hold_reason(user) + ": " + barrier->reason;
}

routing::Admission Brakes::admit(std::string_view user) {
  using Kind = routing::Admission::Kind;
  if (restrictions_.load(std::memory_order_relaxed) == 0 || user.empty()) return {};
  const std::lock_guard lock(mutex_);
  const auto it = restricted_.find(user);
  if (it == restricted_.end()) return {};
  Restricted& one = it->second;
  if (one.state == UserState::suspended) return {Kind::held, {}, hold_reason(user) + ": " + one.reason};
  const routing::Time time = now();
  const auto interval = std::max<routing::Duration>(
      1ms, slow_rate_.per / static_cast<std::int64_t>(std::max<std::uint64_t>(slow_rate_.recipients, 1)));
  // A clock set back must not make the wait longer than one interval.
  one.next = std::min(one.next, time + interval);
  if (time >= one.next) {
    one.next = time + interval;
    return {};
  }
  // Everybody who waits is given a time of his own, or all would ask again at each turn.
  one.queued = std::clamp(one.queued, one.next, time + most_ahead);
  const routing::Time turn = one.queued;
  one.queued += interval;
  return {Kind::wait, turn, "user " + std::string(user) + " is slowed: " + one.reason};
}

// ---- counting ----------------------------------------------------------------------------------------------------

template <typename Count>
void Brakes::count(std::string_view user, std::string_view sender, std::string_view domain, std::string_view client, Count add) {
  const std::string network = client.empty() ? std::string() : routing::network_of(client);
  Shard& shard = shards_[shard_of_thread(shards_.size())];
  const std::lock_guard lock(shard.mutex);
  add(shard.tally, routing::SenderOf{user, sender, domain, network});
}

void Brakes::accepted(const spool::Message& m) {
  const std::string sender = routing::PoisonGuard::key_of(m.sender.to_string());
  count(m.user, sender, smtp::lower(m.sender.domain), m.client,
        [&](routing::Tally& tally, const routing::SenderOf& who) { tally.accepted(who, m.recipients.size()); });
}

void Brakes::outcome(const spool::Message& m, const routing::SenderCounts& counts, const routing::UserOutcomes& outcomes) {
  if (m.report) return;
  const std::string sender = routing::PoisonGuard::key_of(m.sender.to_string());
  count(m.user, sender, smtp::lower(m.sender.domain), m.client,
        [&](routing::Tally& tally, const routing::SenderOf& who) { tally.outcome(who, counts, outcomes); });
}

void Brakes::complained(std::string_view user, std::string_view sender, std::uint64_t recipients) {
  routing::SenderCounts counts;
  counts.complaints = recipients;
  routing::UserOutcomes outcomes;
  outcomes.complaints = recipients;
  heard_of(user, sender, counts, outcomes);
}

void Brakes::bounced_later(std::string_view user, std::string_view sender, std::uint64_t recipients) {
  routing::SenderCounts counts;
  counts.bounced = recipients;
  routing::UserOutcomes outcomes;
  outcomes.unknown = recipients;
  heard_of(user, sender, counts, outcomes);
}

/// What became of a message that is gone.
void Brakes::heard_of(std::string_view user, std::string_view sender, const routing::SenderCounts& counts,
                      const routing::UserOutcomes& outcomes) {
  const std::string key = routing::PoisonGuard::key_of(sender);
  const std::size_t at = key.rfind('@');
  const std::string_view domain = at == std::string::npos ? std::string_view{} : std::string_view(key).substr(at + 1);
  count(user, key, domain, "",
        [&](routing::Tally& tally, const routing::SenderOf& who) { tally.outcome(who, counts, outcomes); });
}

void Brakes::over_rate(std::string_view rule, std::string_view name, const std::string& what, routing::Time until,
                       bool enforced) {
  {
    const std::lock_guard lock(mutex_);
    const routing::Time time = now();
    if (told_.size() >= max_told) std::erase_if(told_, [time](const auto& entry) { return entry.second <= time; });
    if (told_.size() >= max_told) return;  // a flood of names: those that were told say enough
    routing::Time& told = told_[what];
    if (told > time) return;
    told = until;
  }
  Event event;
  event.kind = "rate-exceeded";
  event.sender = smtp::printable(smtp::cut_text(name, 300));
  event.rule = rule;
  event.text = what;
  event.action = enforced ? "what is more than that gets 450 until " + routing::to_rfc3339(until) +
                                "; see who it is: egret senders; a larger rate takes effect with egret reload"
                          : "observed only, not enforced";
  tell(std::move(event));
}

/// Events are the control thread's.
void Brakes::tell(Event event) {
  boost::asio::post(control_, [this, event = std::move(event)] { events_.add(event); });
}

// ---- deciding ----------------------------------------------------------------------------------------------------

void Brakes::start() {
  look();
}

void Brakes::stop() {
  timer_.cancel();
  collect();
  last_ = true;
}

void Brakes::look() {
  collect();
  for (const auto& change : judge_.age(now())) changed(change, "no-further-reason");
  timer_.expires_after(collect_interval);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) look();
  });
}

void Brakes::collect() {
  const routing::Time time = now();
  for (Shard& shard : shards_) {
    routing::Tally tally;
    {
      const std::lock_guard lock(shard.mutex);
      if (shard.tally.empty()) continue;
      std::swap(tally, shard.tally);
    }
    counted_ = true;
    stats_.add(tally, time);
    hours_changed_.insert(std::chrono::floor<std::chrono::hours>(time));
    for (const auto& [user, counts] : tally.by_kind[static_cast<std::size_t>(SenderKind::user)])
      if (!user.empty())
        if (const auto risen = usual_.count(SenderKind::user, user, counts.recipients, time))
          rise(SenderKind::user, user, *risen);
    for (const auto& [key, recipients] : tally.strangers)
      if (const auto risen = usual_.count(key.first, key.second, recipients, time)) rise(key.first, key.second, *risen);
    for (const auto& [user, outcomes] : tally.outcomes_of)
      if (const auto change = judge_.count(user, outcomes, time)) changed(*change, "user-outcomes");
  }
}

void Brakes::rise(SenderKind kind, const std::string& name, const routing::Rise& risen) {
  using Action = routing::UsualPolicy::Action;
  const auto whole = [](double n) { return std::to_string(std::llround(n)); };
  const bool act = kind == SenderKind::user && config_.usual.action != Action::alert;
  Event event;
  event.kind = "unusual-sender";
  event.sender = name;
  event.rule = "baseline";
  event.text = describe(kind, name) + " sends to " + std::to_string(risen.recipients) +
               " recipients in this hour; the usual peak hour is " + whole(risen.peak) + ", the mean " + whole(risen.mean);
  event.action = act && config_.observe ? "observed only, not enforced"
                                        : "see what it is: egret senders --by " + std::string(to_string(kind));
  if (kind == SenderKind::user && !act) event.action += "; then, if need be: egret user suspend " + name;
  events_.add(std::move(event));
  if (!act) return;
  const auto state = config_.usual.action == Action::slow ? UserState::slowed : UserState::suspended;
  const std::string reason =
      whole(static_cast<double>(risen.recipients)) + " recipients in an hour are unusual, the peak is " + whole(risen.peak);
  if (const auto change = judge_.restrict(name, state, reason, false, now())) changed(*change, "baseline");
}

/// A user's state is another: it is enforced and told.
void Brakes::changed(const routing::UserChange& change, std::string rule) {
  users_changed_ = true;
  const auto it = judge_.users().find(change.user);
  const bool bite = change.to == UserState::free || (it != judge_.users().end() && bites(it->second));
  enforce(change.user, it == judge_.users().end() ? nullptr : &it->second);
  Event event;
  event.kind = change.to == UserState::free ? "user-resumed" : change.to == UserState::slowed ? "user-slowed" : "user-suspended";
  event.sender = change.user;
  event.rule = std::move(rule);
  event.from = to_string(change.from);
  event.to = to_string(change.to);
  event.text = describe(SenderKind::user, change.user) + ": " + change.reason;
  if (!bite)
    event.action = "observed only, not enforced";
  else if (change.to == UserState::slowed)
    event.action = "his messages go at " + std::to_string(config_.slow_rate.recipients) + " in " +
                   routing::to_string(config_.slow_rate.per) + ", the rest gets 450. To end it: egret user resume " + change.user;
  else if (change.to == UserState::suspended)
    event.action =
        "new mail of his gets 450 and what waits is held. Change his password, look at the queue; then: egret user resume " +
        change.user;
  events_.add(std::move(event));
}

/// What workers see of a user.
void Brakes::enforce(const std::string& user, const routing::JudgedUser* judged) {
  UserState state = UserState::free;
  std::string reason;
  {
    const std::lock_guard lock(mutex_);
    const auto before = restricted_.find(user);
    const UserState was = before == restricted_.end() ? UserState::free : before->second.state;
    if (judged && bites(*judged)) {
      Restricted& one = restricted_[user];
      one.state = state = judged->state;
      one.reason = reason = judged->reason;
    } else if (before != restricted_.end()) {
      restricted_.erase(before);
    }
    restrictions_ = restricted_.size();
    if (was == state) return;
  }
  if (listener_) listener_(user, state, reason);
}

/// After what was saved was put back, or another configuration.
void Brakes::enforce_all() {
  std::vector<std::string> gone;
  {
    const std::lock_guard lock(mutex_);
    slow_rate_ = config_.slow_rate;
    for (const auto& [name, one] : restricted_) {
      const auto it = judge_.users().find(name);
      if (it == judge_.users().end() || !bites(it->second)) gone.push_back(name);
    }
  }
  for (const auto& name : gone) enforce(name, nullptr);
  for (const auto& [name, judged] : judge_.users())
    if (bites(judged)) enforce(name, &judged);
}

bool Brakes::suspend(const std::string& user) {
  const auto change = judge_.restrict(user, UserState::suspended, "suspended by the operator", true, now());
  users_changed_ = true;
  if (!change) {
    const auto it = judge_.users().find(user);
    enforce(user, &it->second);  // what was only observed is an order now
    return false;
  }
  changed(*change, "operator");
  return true;
}

bool Brakes::resume(const std::string& user) {
  auto change = judge_.resume(user, now());
  if (!change) return false;
  change->reason = "let go by the operator";
  changed(*change, "operator");
  return true;
}

// ---- showing -----------------------------------------------------------------------------------------------------

std::vector<BrakesUser> Brakes::users(std::size_t limit) const {
  const routing::Time time = now();
  std::vector<BrakesUser> out;
  for (const auto& [name, judged] : judge_.users()) {
    BrakesUser one;
    one.name = name;
    one.state = judged.state;
    one.observed = judged.state != UserState::free && !bites(judged);
    one.manual = judged.manual;
    one.reason = judged.reason;
    if (judged.state != UserState::free) one.since = judged.since;
    one.hour = judged.hour.within(1h, time);
    one.day = judged.day.within(24h, time);
    out.push_back(std::move(one));
  }
  for (const auto& [key, entry] : usual_.memory().entries)
    if (key.first == SenderKind::user && !judge_.users().contains(key.second)) out.emplace_back().name = key.second;
  std::ranges::stable_sort(out, [](const BrakesUser& a, const BrakesUser& b) {
    return std::pair(b.state, std::string_view(a.name)) < std::pair(a.state, std::string_view(b.name));
  });
  if (out.size() > limit) out.resize(limit);
  for (BrakesUser& one : out) {
    const auto* usual = usual_.find(SenderKind::user, one.name);
    if (!usual) continue;
    if (usual->hour == std::chrono::floor<std::chrono::hours>(time)) one.recipients = usual->recipients;
    one.usual_peak = usual->peak;
    one.usual_mean = usual->mean;
  }
  return out;
}

routing::SenderReport Brakes::report(SenderKind kind, std::size_t hours, std::size_t limit) const {
  return stats_.report(kind, hours, limit, now());
}

// ---- the state file ----------------------------------------------------------------------------------------------

void Brakes::restore(const std::string& name, const std::string& value) {
  if (name == "users") {
    if (auto users = routing::decode_users(value, now())) judge_ = routing::Judge(config_.judge, std::move(*users));
    enforce_all();  // before any worker runs
  } else if (name == "usual") {
    if (auto memory = routing::decode_usual(value, now())) usual_ = routing::Usual(config_.usual, std::move(*memory));
  } else if (name.starts_with(hour_row)) {
    std::int64_t count = 0;
    const char* end = name.data() + name.size();
    const routing::Time time = now();
    hours_saved_.insert(name);
    if (std::from_chars(name.data() + hour_row.size(), end, count).ptr != end) return;
    const routing::Time hour{routing::Duration(count)};
    if (hour > time || time - hour > std::chrono::hours(routing::SenderStats::hours_kept)) return;
    if (auto data = routing::decode_hour(value)) stats_.restore(hour, std::move(*data));
  }
}

std::vector<KeptRow> Brakes::take_changed(bool all) {
  std::vector<KeptRow> out;
  const routing::Time time = now();
  const bool counts = (counted_ && (time - saved_ >= save_interval || time < saved_)) || last_ || all;
  if (users_changed_ || counts) out.push_back({"users", routing::encode_users(judge_.users())});
  users_changed_ = false;
  if (!counts) return out;
  saved_ = time;
  counted_ = false;
  if (time - usual_saved_ >= usual_save_interval || time < usual_saved_ || last_ || all) {
    usual_saved_ = time;
    out.push_back({"usual", routing::encode_usual(usual_.memory())});
  }
  std::set<std::string> present;
  for (const auto& [hour, data] : stats_.hours()) {
    const std::string name = hour_name(hour);
    present.insert(name);
    if (hours_changed_.contains(hour) || all) out.push_back({name, routing::encode_hour(data)});
  }
  hours_changed_.clear();
  for (const auto& name : hours_saved_)
    if (!present.contains(name)) out.push_back({name, ""});
  hours_saved_ = std::move(present);
  return out;
}

}  // namespace egret::relay
