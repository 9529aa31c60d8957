#include "relay/reputation/prober.hpp"

#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "relay/runtime/log.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

constexpr routing::Duration health_interval_max = std::chrono::minutes(30);
constexpr routing::Duration first_round_gap = std::chrono::milliseconds(100);

}  // namespace

Prober::Prober(const boost::asio::any_io_executor& executor, std::shared_ptr<const config::Config> config, Reputation& owner)
    : executor_(executor),
      config_(std::move(config)),
      owner_(owner),
      resolver_(executor, config_->dns),
      random_(std::random_device{}()),
      tasks_(executor) {
  take_lists();
}

/// The lists of the configuration, with what is known of those that are asked under the same name already.
void Prober::take_lists() {
  const auto lists = std::exchange(lists_, {});
  const auto status = std::exchange(status_, {});
  for (const auto& [name, list] : config_->blocklists) {
    if (!list.enabled) {
      status_[name] = {ListStatus::State::disabled, list.disabled_reason, {}};
      continue;
    }
    const auto known = lists.find(name);
    if (known != lists.end() && known->second.zone == list.zone) {
      lists_[name] = known->second;
      status_[name] = status.at(name);
    } else {
      status_[name] = {};
    }
    lists_[name].definition = &list;
    lists_[name].zone = list.zone;
  }
}

boost::asio::awaitable<void> Prober::configure(std::shared_ptr<const config::Config> config) {
  co_await pause();
  config_ = std::move(config);
  resolver_.configure(config_->dns);
  take_lists();
  if (ended_) co_return;
  stopping_ = false;
  start();
}

Prober::~Prober() = default;

void Prober::start() {
  for (const auto& [name, list] : lists_) tasks_.spawn(run(name), "blocklist");
}

boost::asio::awaitable<void> Prober::stop() {
  ended_ = true;
  co_await pause();
}

boost::asio::awaitable<void> Prober::pause() {
  stopping_ = true;
  resolver_.cancel();
  for (auto* timer : sleeping_) timer->cancel();
  co_await tasks_.wait();
}

boost::asio::awaitable<bool> Prober::sleep(routing::Duration duration) {
  if (stopping_) co_return false;
  boost::asio::steady_timer timer(executor_, duration);
  sleeping_.insert(&timer);
  boost::system::error_code error;
  co_await timer.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, error));
  sleeping_.erase(&timer);
  co_return !stopping_;
}

routing::Duration Prober::interval(const routing::Blocklist& list) const {
  return std::max(config_->reputation.interval, list.interval.value_or(config_->reputation.interval));
}

bool Prober::concerns(const routing::Blocklist& list, std::uint32_t source) const {
  const routing::SourceInfo& info = config_->topology.sources[source];
  const bool v6 = info.reputation.unmapped().v6;
  if (info.removed) return false;
  return v6 ? list.ipv6 : list.ipv4;
}

/// The life of one list: its health, then its sources one after another, spread over the interval.
boost::asio::awaitable<void> Prober::run(std::string name) {
  List& list = lists_.at(name);
  std::vector<std::uint32_t> sources;
  for (std::uint32_t i = 0; i < config_->topology.sources.size(); ++i)
    if (concerns(*list.definition, i)) sources.push_back(i);
  const routing::Duration period = interval(*list.definition);
  // Lists do not all start in the same instant.
  const routing::Duration spread = std::min<routing::Duration>(period / 4, std::chrono::seconds(2));
  bool going =
      co_await sleep(routing::Duration(static_cast<std::int64_t>(static_cast<double>(spread.count()) * (jitter() - 0.8))));
  bool first = true;
  while (going) {
    const routing::Duration health_age = std::min(period * 6, health_interval_max);
    const bool good = co_await healthy(list, status_[name].state == ListStatus::State::in_service ? health_age : period / 2);
    withdraw_if_due(list);
    if (!good || sources.empty()) {
      going = co_await sleep(routing::Duration(static_cast<std::int64_t>(static_cast<double>(period.count()) * jitter())));
      continue;
    }
    const routing::Duration even = period / static_cast<std::int64_t>(sources.size());
    for (const std::uint32_t source : sources) {
      tasks_.spawn(check(name, source, routing::Duration{0}), "blocklist check");
      const routing::Duration gap = first ? std::min(even, first_round_gap) : even;
      going = co_await sleep(routing::Duration(static_cast<std::int64_t>(static_cast<double>(gap.count()) * jitter())));
      if (!going) break;
    }
    if (first && going)
      going =
          co_await sleep(std::max(routing::Duration{0}, period - first_round_gap * static_cast<std::int64_t>(sources.size())));
    first = false;
  }
}

boost::asio::awaitable<bool> Prober::healthy(List& list, routing::Duration max_age) {
  const auto checked = list.health_checked;
  if (!checked || now() - *checked >= max_age) co_await probe(list);
  co_return status_[list.definition->name].state == ListStatus::State::in_service;
}

boost::asio::awaitable<void> Prober::probe(List& list) {
  const routing::Blocklist& d = *list.definition;
  routing::HealthProbe result;
  // A label that is no address: only a wildcard can list it. It neither starts nor ends in '-' or '_'.
  std::string label = "egret";
  for (int i = 0; i < 12; ++i) label += static_cast<char>('a' + static_cast<int>(random_() % 26));
  const DnsReply random = co_await resolver_.query(label + "." + d.zone, DnsType::a);
  result.random = to_answer(random);
  if (d.test_clean) {
    const DnsReply clean = co_await resolver_.query(routing::query_name(*d.test_clean, d.zone), DnsType::a);
    result.clean = to_answer(clean);
  }
  if (d.test_listed) {
    const DnsReply listed = co_await resolver_.query(routing::query_name(*d.test_listed, d.zone), DnsType::a);
    result.listed = to_answer(listed);
  }
  if (!stopping_) apply(list, routing::judge_health(result, d));
}

void Prober::apply(List& list, const routing::Health& health) {
  const std::string& name = list.definition->name;
  ListStatus& status = status_[name];
  const auto before = status.state;
  list.health_checked = now();
  list.answered = health.answered;
  status.last_checked = now();
  status.reason = health.reason;
  status.state = health.in_service ? ListStatus::State::in_service : ListStatus::State::out_of_service;
  if (health.in_service) {
    list.out_since.reset();
    list.withdrawn = false;
  } else if (!list.out_since) {
    list.out_since = now();
  }
  if (before == status.state || (before == ListStatus::State::unknown && health.in_service)) return;
  Event event;
  event.kind = health.in_service ? "list-up" : "list-down";
  event.blocklist = name;
  event.rule = "blocklist-health";
  event.text = health.in_service ? "passes its test points again" : health.reason;
  if (!health.in_service) event.action = "its answers do not count until it passes its test points (RFC 5782)";
  owner_.events().add(std::move(event));
}

bool Prober::any_list_answers(const List& except) const {
  return std::ranges::any_of(lists_, [&](const auto& entry) {
    const List& other = entry.second;
    return &other != &except && other.health_checked && other.answered;
  });
}

/// A list that has been out of service for an interval does not keep a source listed, unless it is DNS that is down.
void Prober::withdraw_if_due(List& list) {
  if (!list.out_since || list.withdrawn || now() - *list.out_since < interval(*list.definition)) return;
  if (!list.answered && !any_list_answers(list)) return;
  list.withdrawn = true;
  for (std::uint32_t i = 0; i < config_->topology.sources.size(); ++i)
    owner_.fold(i, routing::ListWithdrawn{list.definition->name});
}

boost::asio::awaitable<void> Prober::check(std::string name, std::uint32_t source, routing::Duration delay) {
  const auto key = std::make_pair(name, source);
  if (delay.count() > 0) {
    const bool going = co_await sleep(delay);
    if (!going) co_return;
  }
  List& list = lists_.at(name);
  if (stopping_ || !in_flight_.insert(key).second) co_return;
  const auto& address = config_->topology.sources[source].reputation;
  const std::string query = routing::query_name(address, list.definition->zone);
  const DnsReply reply = co_await resolver_.query(query, DnsType::a);
  routing::ListChecked evidence{name, routing::judge(to_answer(reply), *list.definition), {}};
  const bool listed = evidence.judgement.result == routing::Judgement::Result::listed;
  const auto& listings = owner_.state(source).listings;
  const auto known = listings.find(name);
  const bool confirmed = known != listings.end() && known->second.confirmed;
  if (listed && !confirmed) {
    // Before a list may take a source out of service it must show that it is not a wildcard by now.
    const bool good = co_await healthy(list, config_->reputation.confirm_interval / 2);
    if (!good) evidence.judgement = {};
  }
  if (listed && known == listings.end()) evidence.text = co_await reason_text(query);
  in_flight_.erase(key);
  if (stopping_ || status_[name].state != ListStatus::State::in_service) co_return;
  if (log::enabled(log::Level::debug))
    log::debug("blocklist check", {{"blocklist", name},
                                   {"source", config_->topology.sources[source].name},
                                   {"result", listed                              ? "listed"
                                              : evidence.judgement.reason.empty() ? "clean"
                                                                                  : evidence.judgement.reason}});
  owner_.fold(source, evidence);
  // What is about to change is looked at again soon, not after a whole interval.
  const auto after = owner_.state(source).listings.find(name);
  if (after == owner_.state(source).listings.end()) co_return;
  const bool undecided = after->second.confirmed ? after->second.clean_in_a_row > 0 : after->second.listed_in_a_row > 0;
  const bool again = undecided && evidence.judgement.result != routing::Judgement::Result::unknown &&
                     config_->reputation.confirm_interval < interval(*list.definition);
  if (again) tasks_.spawn(check(name, source, config_->reputation.confirm_interval), "blocklist confirmation");
}

boost::asio::awaitable<std::string> Prober::reason_text(std::string name) {
  const DnsReply reply = co_await resolver_.query(std::move(name), DnsType::txt);
  if (reply.texts.empty()) co_return std::string();
  co_return std::string(smtp::cut_text(reply.texts.front(), 300));
}

void Prober::check_now(std::uint32_t source, const std::string& blocklist) {
  const auto it = lists_.find(blocklist);
  if (it == lists_.end() || stopping_ || !concerns(*it->second.definition, source)) return;
  routing::Time& last = urgent_[{blocklist, source}];
  if (now() - last < config_->reputation.confirm_interval) return;
  last = now();
  tasks_.spawn(check(blocklist, source, routing::Duration{0}), "blocklist check");
}

void Prober::recheck(std::optional<std::uint32_t> source) {
  for (const auto& [name, list] : lists_)
    for (std::uint32_t i = 0; i < config_->topology.sources.size(); ++i)
      if ((!source || *source == i) && concerns(*list.definition, i) && !stopping_)
        tasks_.spawn(check(name, i, routing::Duration{0}), "blocklist check");
}

}  // namespace egret::relay
