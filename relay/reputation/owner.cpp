#include "relay/reputation/owner.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>

#include "config/readiness.hpp"
#include "relay/net/bind_test.hpp"
#include "relay/reputation/readiness.hpp"
#include "relay/runtime/clock.hpp"
#include "routing/advice.hpp"

namespace egret::relay {
namespace {

constexpr auto tick_interval = std::chrono::milliseconds(100);

/// Empty when the address can be bound here, or is a proxy's and not ours; else why not. Routing knows the prefix "address ".
std::string address_fault(const config::Config& config, std::uint32_t source) {
  if (config.via[source]) return {};
  const routing::IpAddress& address = config.topology.sources[source].address;
  const std::string why = bind_fault(address);
  return why.empty() ? why : "address " + address.to_string() + " cannot be used on this host: " + why;
}

}  // namespace

Reputation::Reputation(const boost::asio::any_io_executor& executor, std::shared_ptr<const config::Config> config, Events& events,
                       Publish publish)
    : executor_(executor),
      timer_(executor),
      config_(std::move(config)),
      events_(events),
      publish_(std::move(publish)),
      states_(config_->topology.sources.size()),
      smarthosts_(config_->topology.smarthosts.size()),
      doors_(config_->topology.smarthosts.size()),
      random_(std::random_device{}()),
      readiness_(std::make_unique<ReadinessBook>(config_, events)) {}

Reputation::~Reputation() = default;

void Reputation::start() {
  for (std::uint32_t i = 0; i < states_.size(); ++i) test_address(i);
  forget_lists();
  publish();
  tick();
}

void Reputation::test_address(std::uint32_t source) {
  if (config_->topology.sources[source].removed) return;
  if (const auto fault = address_fault(*config_, source); !fault.empty()) fold(source, routing::SourceFault{fault});
}

/// What a list said counts no more once nobody asks it.
void Reputation::forget_lists() {
  for (std::uint32_t i = 0; i < states_.size(); ++i) {
    std::vector<std::string> gone;
    for (const auto& [name, listing] : states_[i].listings) {
      const auto list = config_->blocklists.find(name);
      if (list == config_->blocklists.end() || !list->second.enabled) gone.push_back(name);
    }
    for (const auto& name : gone) fold(i, routing::ListWithdrawn{name});
  }
}

void Reputation::configure(std::shared_ptr<const config::Config> config) {
  // What made a smarthost rest may be mended: it is asked again.
  for (std::size_t i = 0; i < smarthosts_.size(); ++i)
    if (!config->smarthosts[i].same_door(config_->smarthosts[i])) {
      smarthosts_[i] = {};
      doors_[i] = config->version;
    }
  config_ = std::move(config);
  const std::size_t before = states_.size();
  states_.resize(config_->topology.sources.size());
  smarthosts_.resize(config_->smarthosts.size());
  doors_.resize(config_->smarthosts.size());
  readiness_->configure(config_);
  publish();  // at once: what folds below speaks of sources that the workers must know
  for (std::size_t i = before; i < states_.size(); ++i) test_address(static_cast<std::uint32_t>(i));
  forget_lists();
  publish();
}

void Reputation::stop() {
  timer_.cancel();
}

void Reputation::report(std::uint32_t source, routing::Evidence evidence) {
  boost::asio::post(executor_, [this, source, evidence = std::move(evidence)]() mutable {
    // Sources that are blocked together must not return together.
    if (auto* refused = std::get_if<routing::Refused>(&evidence))
      refused->jitter = std::uniform_real_distribution<double>(0, 1)(random_);
    fold(source, evidence);
  });
}

void Reputation::report_withdrawn(std::uint64_t message, const std::vector<routing::Concerned>& concerned) {
  boost::asio::post(executor_, [this, message, concerned] {
    for (const auto& [name, provider] : concerned)
      if (const auto source = config_->topology.source_named(name)) fold(*source, routing::Withdrawn{provider, message});
  });
}

void Reputation::report_smarthost_refused(std::uint32_t smarthost, std::string reason, routing::AccountTrouble trouble,
                                          routing::Duration at_least, std::uint64_t version) {
  boost::asio::post(executor_, [this, smarthost, reason = std::move(reason), trouble, at_least, version] {
    if (version < doors_[smarthost]) return;
    routing::SmarthostState& state = smarthosts_[smarthost];
    if (!routing::smarthost_refused(state, reason, now(), trouble, config_->smarthosts[smarthost].quota, at_least)) return;
    Event event;
    event.kind = trouble == routing::AccountTrouble::authentication ? "smarthost-login" : "smarthost-rests";
    event.smarthost = config_->topology.smarthosts[smarthost];
    event.text = reason;
    event.action = routing::rest_action(state);
    events_.add(std::move(event));
    publish();
  });
}

void Reputation::report_sender_refused(std::uint32_t smarthost, std::string domain, std::string reason) {
  boost::asio::post(executor_, [this, smarthost, domain = std::move(domain), reason = std::move(reason)] {
    if (!routing::sender_refused(smarthosts_[smarthost], domain, reason, now())) return;
    Event event;
    event.kind = "smarthost-sender";
    event.smarthost = config_->topology.smarthosts[smarthost];
    event.sender = domain.empty() ? "<>" : domain;
    event.text = reason;
    event.action = "verify the domain there; until " + routing::to_rfc3339(now() + routing::sender_refused_for) +
                   " its mail takes other ways, and waits where there is none";
    events_.add(std::move(event));
    publish();
  });
}

void Reputation::report_smarthost_delivered(std::uint32_t smarthost) {
  boost::asio::post(executor_, [this, smarthost] {
    if (smarthosts_[smarthost].rests == 0) return;
    routing::smarthost_delivered(smarthosts_[smarthost], now());
    dirty_ = true;
  });
}

void Reputation::report_canary(std::uint32_t smarthost, bool worked, std::string text) {
  boost::asio::post(executor_, [this, smarthost, worked, text = std::move(text)] {
    readiness_->canary_returned(smarthost, worked, text, now());
  });
}

void Reputation::report_account_good(std::uint32_t smarthost) {
  boost::asio::post(executor_, [this, smarthost] {
    routing::SmarthostState& state = smarthosts_[smarthost];
    using routing::AccountTrouble;
    if (state.trouble != AccountTrouble::paused && state.trouble != AccountTrouble::quota) return;
    state.resting_until.reset();
    routing::smarthost_delivered(state, now());
    publish();
  });
}

void Reputation::fold(std::uint32_t source, const routing::Evidence& evidence) {
  const routing::Time at = now();
  if (std::holds_alternative<routing::Tick>(evidence) && !routing::due(states_[source], context(), at)) return;
  const auto transitions = routing::fold(states_[source], evidence, context(), at);
  for (const auto& transition : transitions) tell(source, transition);
  dirty_ = true;
  if (!transitions.empty()) publish();
  if (changed_) changed_(source);
  if (const auto* refused = std::get_if<routing::Refused>(&evidence))
    if (!refused->observe && !refused->blocklist.empty() && check_now_) check_now_(source, refused->blocklist);
}

routing::StandingView Reputation::view(std::uint32_t source, std::string_view provider) const {
  return routing::view(states_[source], provider, context());
}

double Reputation::score(std::uint32_t source) const {
  return routing::score(states_[source], "", context());
}

void Reputation::tick() {
  for (std::uint32_t i = 0; i < states_.size(); ++i) {
    if (config_->topology.sources[i].removed) continue;
    const auto until = states_[i].resting_until;
    if (until && now() >= *until) {
      const auto fault = address_fault(*config_, i);
      if (fault.empty())
        fold(i, routing::SourceWorks{});
      else
        fold(i, routing::SourceFault{fault});
    }
    fold(i, routing::Tick{});
  }
  publish_readiness();
  if (dirty_) publish();
  timer_.expires_after(tick_interval);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) tick();
  });
}

void Reputation::publish_readiness() {
  if (readiness_->take_republish()) publish();
}

void Reputation::publish() {
  auto next = std::make_shared<routing::Snapshot>();
  next->version = ++version_;
  for (const auto& state : states_) next->sources.push_back(routing::snapshot_of(state, context()));
  for (std::uint32_t i = 0; i < smarthosts_.size(); ++i) {
    const routing::SmarthostState& state = smarthosts_[i];
    next->smarthosts.push_back({state.resting_until, state.reason, state.senders, readiness_->unready(i),
                                config::readiness_of(config_->smarthosts[i]).allow_unready});
  }
  snapshot_ = next;
  dirty_ = false;
  publish_(std::move(next));
}

void Reputation::tell(std::uint32_t source, const routing::Transition& t) {
  // The first conclusive check of a source that was never in trouble is no news.
  if (t.from == routing::Standing::unknown && t.to == routing::Standing::clean) return;
  Event event;
  event.kind = routing::event_kind(t);
  event.source = config_->topology.sources[source].name;
  event.provider = t.provider;
  event.blocklist = t.blocklist;
  event.rule = t.rule;
  event.from = to_string(t.from);
  event.to = to_string(t.to);
  event.text = t.text;
  event.action = routing::advice(t, config_->blocklists, config_->providers);
  if (observed_only(t)) {
    event.action = event.action.empty() ? "observed only, not enforced" : "observed only, not enforced. " + event.action;
    if (!routing::in_service(t.to)) ++would_have_[t.rule == "blocklist-check" ? "blocklist:" + t.blocklist : t.rule];
  }
  events_.add(std::move(event));
  if (!routing::in_service(t.to) && !t.observed) tell_exhausted(t);
}

bool Reputation::observed_only(const routing::Transition& t) const {
  if (t.observed) return true;
  if (!config_->reputation.observe || routing::in_service(t.to)) return false;
  // Routing enforces these in any mode: the operator's own word, and an address that cannot work.
  return t.to != routing::Standing::drained && t.rule != "source-fault";
}

void Reputation::tell_exhausted(const routing::Transition& t) {
  for (const auto& pool : config_->topology.pools) {
    if (pool.sources.empty()) continue;
    const auto out = [&](std::uint32_t s) { return !routing::in_service(view(s, t.provider).standing); };
    if (!std::ranges::all_of(pool.sources, out)) continue;
    Event event;
    event.kind = "pool-exhausted";
    event.pool = pool.name;
    event.provider = t.provider;
    event.rule = t.rule;
    event.text = "every source of pool " + pool.name + " is out of service";
    event.action = routing::exhausted_action(pool.when_exhausted);
    events_.add(std::move(event));
  }
}

}  // namespace egret::relay
