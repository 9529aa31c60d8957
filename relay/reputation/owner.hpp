// The owner of all standings. It lives on the control thread, folds evidence, publishes an immutable snapshot to
// every worker, and turns every change into an event. Nobody else changes a standing.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "relay/reputation/events.hpp"
#include "routing/poison.hpp"
#include "routing/route.hpp"
#include "routing/standing.hpp"

namespace egret::relay {

class ReadinessBook;

class Reputation {
 public:
  using Publish = std::function<void(std::shared_ptr<const routing::Snapshot>)>;
  /// Asked to check a (source, blocklist) pair now, because a receiver named the list.
  using CheckNow = std::function<void(std::uint32_t source, const std::string& blocklist)>;

  Reputation(const boost::asio::any_io_executor& executor, std::shared_ptr<const config::Config> config, Events& events,
             Publish publish);
  ~Reputation();

  /// Another configuration (config::succeed): new sources begin, removed ones are left alone. Publishes.
  void configure(std::shared_ptr<const config::Config> config);
  void on_check_now(CheckNow check) { check_now_ = std::move(check); }
  /// Tests the sources' addresses, publishes the first snapshot and starts the clock.
  void start();
  void stop();

  /// Any thread.
  void report(std::uint32_t source, routing::Evidence evidence);
  /// A message was found to be poison: takes back what it did to every source concerned. Names that are no source of this
  /// configuration are passed over.
  void report_withdrawn(std::uint64_t message, const std::vector<routing::Concerned>& concerned);
  /// `at_least`: how long the smarthost itself wants to be left alone. `version`: of the configuration that was followed; what
  /// a login with a former password met says nothing of the one that replaced it.
  void report_smarthost_refused(std::uint32_t smarthost, std::string reason, routing::AccountTrouble trouble,
                                routing::Duration at_least = routing::Duration{0}, std::uint64_t version = UINT64_MAX);
  /// The smarthost does not take mail of this sender's domain ("" is the null sender).
  void report_sender_refused(std::uint32_t smarthost, std::string domain, std::string reason);
  void report_smarthost_delivered(std::uint32_t smarthost);
  /// A message that went by the smarthost only to see whether that works was taken, or was not.
  void report_canary(std::uint32_t smarthost, bool worked, std::string text);
  /// The ESP says itself that the account may send and has quota: a rest for either ends.
  void report_account_good(std::uint32_t smarthost);

  /// Control thread only.
  void fold(std::uint32_t source, const routing::Evidence& evidence);
  const routing::SourceState& state(std::uint32_t source) const { return states_[source]; }
  const routing::SmarthostState& smarthost(std::uint32_t index) const { return smarthosts_[index]; }
  routing::StandingView view(std::uint32_t source, std::string_view provider) const;
  double score(std::uint32_t source) const;
  std::shared_ptr<const routing::Snapshot> snapshot() const { return snapshot_; }
  /// Ejections that were observed only, by rule: a reply rule's name, or "blocklist:NAME".
  const std::map<std::string, std::uint64_t>& would_have() const { return would_have_; }
  Events& events() { return events_; }
  /// What was found out beforehand of smarthosts; its `seen` is for any thread.
  ReadinessBook& readiness() const { return *readiness_; }
  /// Publishes at once what the book says now, if that is something else than before.
  void publish_readiness();
  /// Puts back what was saved before the program ended.
  void restore(std::uint32_t source, routing::SourceState state) { states_[source] = std::move(state); }
  void restore_smarthost(std::uint32_t index, routing::SmarthostState state) { smarthosts_[index] = std::move(state); }
  /// Called after every change, with the source it was about.
  void on_changed(std::function<void(std::uint32_t source)> changed) { changed_ = std::move(changed); }

 private:
  routing::StandingContext context() const { return {config_->reputation, config_->blocklists}; }
  void tick();
  void test_address(std::uint32_t source);
  void forget_lists();
  void publish();
  void tell(std::uint32_t source, const routing::Transition& transition);
  /// Whether nothing follows from the transition: its rule observes, or everything does.
  bool observed_only(const routing::Transition& transition) const;
  void tell_exhausted(const routing::Transition& transition);

  boost::asio::any_io_executor executor_;
  boost::asio::steady_timer timer_;
  std::shared_ptr<const config::Config> config_;
  Events& events_;
  Publish publish_;
  CheckNow check_now_;
  std::function<void(std::uint32_t)> changed_;
  std::vector<routing::SourceState> states_;
  std::vector<routing::SmarthostState> smarthosts_;
  std::vector<std::uint64_t> doors_;  ///< by smarthost: the configuration that changed how it is reached
  std::shared_ptr<const routing::Snapshot> snapshot_;
  std::map<std::string, std::uint64_t> would_have_;
  std::mt19937_64 random_;
  std::uint64_t version_ = 0;
  bool dirty_ = true;
  std::unique_ptr<ReadinessBook> readiness_;
};

}  // namespace egret::relay
