#include "relay/reputation/prober.hpp"

#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "relay/runtime/log.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

constexpr routing::Duration health_interval_max = std::chrono::minutes(30);
constexpr routing::Duration sick_interval_max = std::chrono::minutes(5);
constexpr std::size_t text_max = 300;

routing::Duration ttl_of(const DnsReply& reply) {
  const bool positive = reply.status == DnsReply::Status::ok;
  return std::chrono::seconds(positive ? reply.ttl : reply.negative_ttl);
}

}  // namespace

Prober::Prober(const boost::asio::any_io_executor& executor, std::shared_ptr<const config::Config> config, Reputation& owner)
    : executor_(executor),
      config_(std::move(config)),
      owner_(owner),
      resolver_(executor, config_->dns),
      random_(std::random_device{}()),
      schedule_(plans(), config_->blocklist_queries, random_()),
      wake_(executor),
      source_checks_(executor, config_, owner.events()),
      tasks_(executor) {}

Prober::~Prober() = default;

/// Fills lists_ as well: what is asked about, address by address.
std::vector<routing::ProbePlan> Prober::plans() {
  std::vector<routing::ProbePlan> out;
  for (const auto& [name, definition] : config_->blocklists) {
    ListStatus& status = status_[name];
    if (!definition.enabled) {
      status.state = ListStatus::State::disabled;
      status.reason = definition.disabled_reason;
      continue;
    }
    std::vector<Target> targets;
    std::vector<routing::IpAddress> addresses;
    for (std::uint32_t i = 0; i < config_->topology.sources.size(); ++i) {
      const routing::IpAddress address = config_->topology.sources[i].reputation.unmapped();
      if (config_->topology.sources[i].removed) continue;
      if (!(address.v6 ? definition.ipv6 : definition.ipv4)) continue;
      targets.push_back({address, i});
      addresses.push_back(address);
    }
    if (targets.empty()) {
      status.state = ListStatus::State::disabled;
      status.reason = "no source has an address that it could list";
      continue;
    }
    index_[name] = lists_.size();
    List& list = lists_.emplace_back();
    list.definition = &definition;
    list.targets = std::move(targets);
    list.probed = std::make_unique<boost::asio::steady_timer>(executor_);
    const auto own = definition.interval.value_or(config_->reputation.interval);
    const routing::Duration interval = std::max(config_->reputation.interval, own);
    list.guard = routing::WildcardGuard(addresses, interval + interval / 4);
    out.push_back({addresses.size(), interval, std::min(interval * 6, health_interval_max), definition.queries});
  }
  return out;
}

void Prober::inherit(const Prober& former) {
  const routing::Instant passed = std::chrono::duration_cast<routing::Instant>(started_ - former.started_);
  const auto since = [&](const std::optional<routing::Instant>& time) {
    return time ? std::optional(*time - passed) : std::nullopt;
  };
  for (List& list : lists_) {
    const auto known = former.index_.find(list.definition->name);
    if (known == former.index_.end()) continue;
    const List& before = former.lists_[known->second];
    if (before.definition->zone != list.definition->zone) continue;
    list.quarantined = before.quarantined;
    list.health_checked = since(before.health_checked);
    list.out_since = since(before.out_since);
    list.answered = before.answered;
    list.heard = since(before.heard);
    // What the wildcard guard has seen belongs to its addresses.
    if (std::ranges::equal(list.targets, before.targets, {}, &Target::address, &Target::address)) {
      list.guard = before.guard;
      list.guard.rebase(passed);
    }
    list.withdrawn = before.withdrawn;
    status_[list.definition->name] = former.status_.at(list.definition->name);
  }
  all_down_ = former.all_down_;
  source_checks_.inherit(former.source_checks_);
}

void Prober::start() {
  tell_stretched();
  tasks_.spawn(run(), "blocklists");
  source_checks_.start();
}

boost::asio::awaitable<void> Prober::stop() {
  stopping_ = true;
  resolver_.cancel();
  wake_.cancel();
  for (auto& list : lists_) list.probed->cancel();
  co_await source_checks_.stop();
  co_await tasks_.wait();
}

routing::Instant Prober::instant() const {
  return std::chrono::duration_cast<routing::Instant>(std::chrono::steady_clock::now() - started_);
}

boost::asio::awaitable<void> Prober::pause(routing::Instant until) {
  if (until == routing::Instant::max())
    wake_.expires_at(boost::asio::steady_timer::time_point::max());
  else
    wake_.expires_after(std::max(until - instant(), routing::Instant(1000)));
  boost::system::error_code error;
  co_await wake_.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, error));
}

/// Takes turns from the schedule until the end.
boost::asio::awaitable<void> Prober::run() {
  while (!stopping_) {
    while (const auto turn = schedule_.take(instant())) {
      if (turn->target)
        tasks_.spawn(check(turn->list, *turn->target), "blocklist check");
      else
        tasks_.spawn(check_health(turn->list), "blocklist health");
    }
    co_await pause(schedule_.next());
  }
}

boost::asio::awaitable<DnsReply> Prober::ask(std::size_t index, std::string name, DnsType type) {
  if (stopping_) co_return DnsReply{};
  ++status_[lists_[index].definition->name].queries;
  DnsReply reply = co_await resolver_.query(std::move(name), type);
  if (reply.status != DnsReply::Status::failed) lists_[index].heard = instant();
  co_return reply;
}

// ---- health ------------------------------------------------------------------------------------------------------

routing::Duration Prober::health_interval(const List& list) const {
  const auto own = list.definition->interval.value_or(config_->reputation.interval);
  const routing::Duration interval = std::max(config_->reputation.interval, own);
  const bool good = status_.at(list.definition->name).state == ListStatus::State::in_service;
  return good ? std::min(interval * 6, health_interval_max) : std::min(interval / 2, sick_interval_max);
}

boost::asio::awaitable<void> Prober::check_health(std::size_t index) {
  co_await probe(index);
  withdraw_if_due(index);
  schedule_.health_done(index, instant(), health_interval(lists_[index]));
  wake_.cancel();
}

/// Whether the list may be believed now; asks it when that was last seen longer ago than `max_age`.
boost::asio::awaitable<bool> Prober::healthy(std::size_t index, routing::Duration max_age) {
  List& list = lists_[index];
  const auto checked = list.health_checked;
  if (list.probing || !checked || instant() - *checked >= max_age) {
    if (!list.probing) schedule_.spend(index, instant(), routing::ProbeSchedule::health_queries);
    co_await probe(index);
  }
  co_return status_[list.definition->name].state == ListStatus::State::in_service;
}

/// Asks for the three signs of health; whoever comes while that is under way waits for its end.
boost::asio::awaitable<void> Prober::probe(std::size_t index) {
  List& list = lists_[index];
  if (list.probing) {
    boost::system::error_code error;
    co_await list.probed->async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, error));
    co_return;
  }
  list.probing = true;
  list.probed->expires_at(boost::asio::steady_timer::time_point::max());
  const routing::Blocklist& d = *list.definition;
  routing::HealthProbe result;
  // A label that is no address: only a wildcard can list it. It neither starts nor ends in '-' or '_'.
  std::string label = "egret";
  for (int i = 0; i < 12; ++i) label += static_cast<char>('a' + static_cast<int>(random_() % 26));
  const DnsReply random = co_await ask(index, label + "." + d.zone, DnsType::a);
  result.random = to_answer(random);
  if (d.test_clean) {
    const DnsReply clean = co_await ask(index, routing::query_name(*d.test_clean, d.zone), DnsType::a);
    result.clean = to_answer(clean);
  }
  if (d.test_listed) {
    const DnsReply listed = co_await ask(index, routing::query_name(*d.test_listed, d.zone), DnsType::a);
    result.listed = to_answer(listed);
  }
  list.probing = false;
  if (!stopping_) apply(index, routing::judge_health(result, d));
  list.probed->cancel();
}

void Prober::apply(std::size_t index, const routing::Health& health) {
  List& list = lists_[index];
  ListStatus& status = status_[list.definition->name];
  const auto before = status.state;
  list.health_checked = instant();
  list.answered = health.answered;
  status.last_checked = now();
  status.reason = health.reason;
  // In quarantine the addresses are still asked about: that is how the share is seen to fall.
  schedule_.open(index, health.in_service);
  if (health.in_service && list.quarantined) {
    list.quarantined = list.guard.high();
    if (list.quarantined) status.reason = "quarantine: it lists " + list.guard.share() + " all at once";
  }
  const bool good = health.in_service && !list.quarantined;
  status.state = good ? ListStatus::State::in_service : ListStatus::State::out_of_service;
  if (good) {
    list.out_since.reset();
    list.withdrawn = false;
    list.suspected = false;
  } else if (!list.out_since) {
    list.out_since = instant();
  }
  tell_health(list, before);
  tell_all_down(before);
}

void Prober::tell_health(const List& list, ListStatus::State before) {
  const ListStatus& status = status_.at(list.definition->name);
  const bool good = status.state == ListStatus::State::in_service;
  if (before == status.state || (before == ListStatus::State::unknown && good)) return;
  Event event;
  event.kind = good ? "list-up" : "list-down";
  event.blocklist = list.definition->name;
  event.rule = list.quarantined ? "blocklist-wildcard" : "blocklist-health";
  event.text = good ? "passes its test points again" : status.reason;
  if (list.quarantined)
    event.action = "its new listings do not count until the share falls and it passes its test points; receivers' refusals do";
  else if (!good)
    event.action = "its answers do not count until it passes its test points (RFC 5782)";
  owner_.events().add(std::move(event));
}

/// With no list left, standings go by what receivers say: that deserves a word of its own.
void Prober::tell_all_down(ListStatus::State before) {
  const auto down = [&](const List& list) {
    return status_.at(list.definition->name).state == ListStatus::State::out_of_service;
  };
  const bool all = std::ranges::all_of(lists_, down);
  if (all == all_down_) return;
  all_down_ = all;
  if (!all && before == ListStatus::State::unknown) return;
  Event event;
  event.kind = all ? "blocklists-down" : "blocklists-up";
  event.rule = "blocklist-health";
  event.text = all ? "no blocklist is in service" : "a blocklist is in service again";
  if (all)
    event.action = "standings change by receivers' replies only. Check dns.servers, and egret blocklists for each list's reason";
  owner_.events().add(std::move(event));
}

/// Whether another list has answered since this one went out: else it may be DNS that is down.
bool Prober::any_list_answers(const List& except) const {
  return std::ranges::any_of(
      lists_, [&](const List& other) { return &other != &except && other.heard && *other.heard >= *except.out_since; });
}

/// A list that has been out of service for an interval does not keep a source listed, unless it is DNS that is down.
void Prober::withdraw_if_due(std::size_t index) {
  List& list = lists_[index];
  if (!list.out_since || list.withdrawn || instant() - *list.out_since < schedule_.interval(index)) return;
  if (!list.answered && !any_list_answers(list)) return;
  list.withdrawn = true;
  for (std::uint32_t i = 0; i < config_->topology.sources.size(); ++i)
    owner_.fold(i, routing::ListWithdrawn{list.definition->name});
}

// ---- one address -------------------------------------------------------------------------------------------------

const routing::Listing* Prober::listing(const Target& target, const std::string& list) const {
  const auto& listings = owner_.state(target.source).listings;
  const auto it = listings.find(list);
  return it == listings.end() ? nullptr : &it->second;
}

boost::asio::awaitable<void> Prober::check(std::size_t index, std::size_t number) {
  List& list = lists_[index];
  const Target& target = list.targets[number];
  const std::string& name = list.definition->name;
  const std::string query = routing::query_name(target.address, list.definition->zone);
  const DnsReply reply = co_await ask(index, query, DnsType::a);
  routing::Judgement judgement = routing::judge(to_answer(reply), *list.definition);
  const bool listed = judgement.result == routing::Judgement::Result::listed;
  guard(index, number, judgement);
  std::string text;
  const routing::Listing* known = listing(target, name);
  if (listed && !(known && known->confirmed)) {
    const bool first = !known;
    // Before a list may take a source out of service it must show that it is not a wildcard by now.
    const bool good = co_await healthy(index, config_->reputation.confirm_interval / 2);
    if (!good) judgement = {};
    if (good && first) text = co_await reason_text(index, query);
  }
  if (stopping_) co_return;
  const bool believed = status_[name].state == ListStatus::State::in_service;
  if (believed) {
    if (log::enabled(log::Level::debug))
      log::debug("blocklist check", {{"blocklist", name},
                                     {"source", config_->topology.sources[target.source].name},
                                     {"result", listed                     ? "listed"
                                                : judgement.reason.empty() ? "clean"
                                                                           : judgement.reason}});
    owner_.fold(target.source, routing::ListChecked{name, judgement, text});
  }
  auto again = believed ? soon(list, target, judgement.result) : std::nullopt;
  // A receiver knows more than this answer, which a cache may have given: asked again when the TTL is over.
  if (vouched_.erase({index, number}) && !listed)
    again = judgement.result == routing::Judgement::Result::clean ? routing::Duration{0} : config_->reputation.confirm_interval;
  schedule_.answered(index, number, instant(), ttl_of(reply), again);
  wake_.cancel();
}

/// What is about to change is looked at again soon, not after a whole interval. The schedule waits for the TTL all the same:
/// the same answer from a cache would confirm nothing.
std::optional<routing::Duration> Prober::soon(const List& list, const Target& target, routing::Judgement::Result result) const {
  const routing::Listing* known = listing(target, list.definition->name);
  if (!known || result == routing::Judgement::Result::unknown) return std::nullopt;
  const bool leaving = known->clean_in_a_row > 0 && known->clean_in_a_row < config_->reputation.confirm;
  if (known->confirmed && !leaving) return std::nullopt;
  return config_->reputation.confirm_interval;
}

/// Lets the wildcard guard see an answer, and acts on what it thinks.
void Prober::guard(std::size_t index, std::size_t number, const routing::Judgement& judgement) {
  List& list = lists_[index];
  const bool listed = judgement.result == routing::Judgement::Result::listed;
  if (judgement.result == routing::Judgement::Result::unknown || (listed && judgement.policy)) return;
  const routing::Instant at = instant();
  const routing::Listing* known = listing(list.targets[number], list.definition->name);
  list.guard.saw(number, listed, known && known->confirmed, at);
  if (list.quarantined || !listed) return;
  if (const auto in_question = list.guard.trip(at)) return quarantine(index, *in_question);
  if (!list.suspected && list.guard.suspicious(at)) {
    list.suspected = true;
    schedule_.hurry(index, at);  // to know before the first of them is confirmed
    wake_.cancel();
  }
}

void Prober::quarantine(std::size_t index, const std::vector<std::size_t>& targets) {
  List& list = lists_[index];
  ListStatus& status = status_[list.definition->name];
  const auto before = status.state;
  list.quarantined = true;
  if (!list.out_since) list.out_since = instant();
  status.state = ListStatus::State::out_of_service;
  status.reason = "quarantine: it lists " + list.guard.share() + " all at once";
  tell_health(list, before);
  tell_all_down(before);
  for (const std::size_t target : targets)
    owner_.fold(list.targets[target].source, routing::ListWithdrawn{list.definition->name});
}

/// The list's own reason, as cleaned text. Left out where the budget has better uses.
boost::asio::awaitable<std::string> Prober::reason_text(std::size_t index, std::string name) {
  if (!schedule_.may_spend(index, instant())) co_return std::string();
  schedule_.spend(index, instant(), 1);
  const DnsReply reply = co_await ask(index, std::move(name), DnsType::txt);
  if (reply.texts.empty()) co_return std::string();
  co_return std::string(smtp::cut_text(routing::without_key(reply.texts.front(), *lists_[index].definition), text_max));
}

// ---- from outside ------------------------------------------------------------------------------------------------

void Prober::check_now(std::uint32_t source, const std::string& blocklist) {
  const auto it = index_.find(blocklist);
  if (it == index_.end() || stopping_) return;
  const auto& targets = lists_[it->second].targets;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (targets[i].source != source) continue;
    if (!schedule_.urgent(it->second, i, instant())) return;
    vouched_.insert({it->second, i});
    wake_.cancel();
  }
}

void Prober::recheck(std::optional<std::uint32_t> source) {
  for (std::size_t i = 0; i < lists_.size(); ++i)
    for (std::size_t t = 0; t < lists_[i].targets.size(); ++t)
      if (!source || lists_[i].targets[t].source == *source) schedule_.hurry(i, t, instant());
  wake_.cancel();
}

/// One event for each list whose interval its budget or the common pace makes longer.
void Prober::tell_stretched() {
  for (std::size_t i = 0; i < lists_.size(); ++i) {
    const std::string& name = lists_[i].definition->name;
    status_[name].every = schedule_.interval(i);
    if (!schedule_.stretched(i)) continue;
    Event event;
    event.kind = "list-budget";
    event.blocklist = name;
    event.rule = "query-budget";
    event.text = std::to_string(lists_[i].targets.size()) + " addresses are more than its queries allow: each is checked every " +
                 routing::to_string(schedule_.interval(i));
    event.action = "raise reputation.queries or the list's queries, if the list allows more, or its interval";
    owner_.events().add(std::move(event));
  }
}

}  // namespace egret::relay
