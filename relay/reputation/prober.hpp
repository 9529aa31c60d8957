// Asks the blocklists about every source, on schedule, and watches whether each list can be believed.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>

#include "config/config.hpp"
#include "relay/dns/resolver.hpp"
#include "relay/reputation/owner.hpp"
#include "relay/runtime/clock.hpp"
#include "relay/runtime/task_group.hpp"

namespace egret::relay {

/// Health of one list as the API shows it.
struct ListStatus {
  enum class State { unknown, in_service, out_of_service, disabled };
  State state = State::unknown;
  std::string reason;
  std::optional<routing::Time> last_checked;
};

/// Lives on the control thread.
class Prober {
 public:
  Prober(const boost::asio::any_io_executor& executor, std::shared_ptr<const config::Config> config, Reputation& owner);
  ~Prober();

  void start();
  /// Another configuration (config::succeed): what is known of lists that stay is kept.
  boost::asio::awaitable<void> configure(std::shared_ptr<const config::Config> config);
  /// Cancels everything; returns when nothing runs any more.
  boost::asio::awaitable<void> stop();

  /// Checks one pair now, unless that was done within the confirm interval.
  void check_now(std::uint32_t source, const std::string& blocklist);
  /// Checks all pairs of `source`, or of all sources.
  void recheck(std::optional<std::uint32_t> source);
  const std::map<std::string, ListStatus>& status() const { return status_; }

 private:
  struct List {
    const routing::Blocklist* definition = nullptr;  ///< of the present configuration
    std::string zone;                                ///< what is known is known of this zone
    std::optional<routing::Time> health_checked;
    std::optional<routing::Time> out_since;  ///< when it went out of service
    bool answered = true;                    ///< at its last probe: the list, not DNS, is to blame
    bool withdrawn = false;                  ///< its listings were taken back
    std::size_t next_source = 0;
  };

  void take_lists();
  boost::asio::awaitable<void> pause();
  boost::asio::awaitable<void> run(std::string name);
  boost::asio::awaitable<void> check(std::string name, std::uint32_t source, routing::Duration delay);
  boost::asio::awaitable<bool> healthy(List& list, routing::Duration max_age);
  boost::asio::awaitable<void> probe(List& list);
  boost::asio::awaitable<std::string> reason_text(std::string name);
  boost::asio::awaitable<bool> sleep(routing::Duration duration);
  void apply(List& list, const routing::Health& health);
  void withdraw_if_due(List& list);
  bool any_list_answers(const List& except) const;
  bool concerns(const routing::Blocklist& list, std::uint32_t source) const;
  routing::Duration interval(const routing::Blocklist& list) const;
  double jitter() { return std::uniform_real_distribution<double>(0.8, 1.2)(random_); }

  boost::asio::any_io_executor executor_;
  std::shared_ptr<const config::Config> config_;
  Reputation& owner_;
  Resolver resolver_;
  std::map<std::string, List> lists_;
  std::map<std::string, ListStatus> status_;
  std::set<std::pair<std::string, std::uint32_t>> in_flight_;
  std::map<std::pair<std::string, std::uint32_t>, routing::Time> urgent_;
  std::set<boost::asio::steady_timer*> sleeping_;
  std::mt19937_64 random_;
  bool stopping_ = false;  ///< nothing new begins
  bool ended_ = false;     ///< for good
  TaskGroup tasks_;
};

}  // namespace egret::relay
