// Asks the blocklists about every source's address, on schedule, and watches whether each list can be believed.
//
// What is asked when is routing::ProbeSchedule; what an answer means is routing::judge(). Here is what happens between
// them: a list's health comes before its answers, what is about to change is looked at again soon, a receiver's word is
// followed at once, and a list that lists unrelated addresses all at once is put in quarantine.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "relay/dns/resolver.hpp"
#include "relay/reputation/owner.hpp"
#include "relay/reputation/source_check.hpp"
#include "relay/runtime/clock.hpp"
#include "relay/runtime/task_group.hpp"
#include "routing/probe_schedule.hpp"
#include "routing/wildcard_guard.hpp"

namespace egret::relay {

/// Health of one list as the API shows it.
struct ListStatus {
  enum class State { unknown, in_service, out_of_service, disabled };
  State state = State::unknown;
  std::string reason;
  std::optional<routing::Time> last_checked;
  std::uint64_t queries = 0;               ///< sent since the start
  std::optional<routing::Duration> every;  ///< between two checks of one address, as kept
};

/// Lives on the control thread.
class Prober {
 public:
  Prober(const boost::asio::any_io_executor& executor, std::shared_ptr<const config::Config> config, Reputation& owner);
  ~Prober();

  /// Takes over what the prober of the configuration before (config::succeed) knows of lists and sources that stay. Before
  /// start().
  void inherit(const Prober& former);
  void start();
  /// Cancels everything; returns when nothing runs any more.
  boost::asio::awaitable<void> stop();

  /// A receiver named the list: checks the pair now, unless that was done within a minute.
  void check_now(std::uint32_t source, const std::string& blocklist);
  /// Checks all pairs of `source`, or of all sources, as soon as the pace allows.
  void recheck(std::optional<std::uint32_t> source);
  const std::map<std::string, ListStatus>& status() const { return status_; }
  /// What DNS says of each source: PTR, forward and EHLO name.
  const SourceChecks& source_checks() const { return source_checks_; }

 private:
  /// One source and the address that lists know it by.
  struct Target {
    routing::IpAddress address;
    std::uint32_t source = 0;
  };
  struct List {
    const routing::Blocklist* definition = nullptr;
    std::vector<Target> targets;
    routing::WildcardGuard guard;
    bool quarantined = false;
    bool suspected = false;  ///< all targets were hurried for this suspicion
    std::optional<routing::Instant> health_checked;
    std::optional<routing::Instant> out_since;  ///< when it went out of service
    bool answered = true;                       ///< at its last probe: the list, not DNS, is to blame
    std::optional<routing::Instant> heard;      ///< its last answer, whatever it said
    bool withdrawn = false;                     ///< its listings were taken back
    bool probing = false;
    std::unique_ptr<boost::asio::steady_timer> probed;  ///< cancelled when a probe ends
  };

  std::vector<routing::ProbePlan> plans();
  boost::asio::awaitable<void> run();
  boost::asio::awaitable<void> check_health(std::size_t list);
  boost::asio::awaitable<void> check(std::size_t list, std::size_t target);
  boost::asio::awaitable<bool> healthy(std::size_t list, routing::Duration max_age);
  boost::asio::awaitable<void> probe(std::size_t list);
  boost::asio::awaitable<DnsReply> ask(std::size_t list, std::string name, DnsType type);
  boost::asio::awaitable<std::string> reason_text(std::size_t list, std::string name);
  boost::asio::awaitable<void> pause(routing::Instant until);
  void apply(std::size_t list, const routing::Health& health);
  void tell_health(const List& list, ListStatus::State before);
  void tell_all_down(ListStatus::State before);
  void tell_stretched();
  void guard(std::size_t list, std::size_t target, const routing::Judgement& judgement);
  void quarantine(std::size_t list, const std::vector<std::size_t>& targets);
  std::optional<routing::Duration> soon(const List& list, const Target& target, routing::Judgement::Result result) const;
  void withdraw_if_due(std::size_t list);
  bool any_list_answers(const List& except) const;
  const routing::Listing* listing(const Target& target, const std::string& list) const;
  routing::Instant instant() const;
  routing::Duration health_interval(const List& list) const;

  boost::asio::any_io_executor executor_;
  std::shared_ptr<const config::Config> config_;
  Reputation& owner_;
  Resolver resolver_;
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  std::mt19937_64 random_;
  std::vector<List> lists_;
  std::map<std::string, std::size_t> index_;
  std::map<std::string, ListStatus> status_;
  routing::ProbeSchedule schedule_;
  std::set<std::pair<std::size_t, std::size_t>> vouched_;  ///< pairs that a receiver asked for, until they are answered
  boost::asio::steady_timer wake_;
  bool all_down_ = false;
  bool stopping_ = false;
  SourceChecks source_checks_;
  TaskGroup tasks_;
};

}  // namespace egret::relay
