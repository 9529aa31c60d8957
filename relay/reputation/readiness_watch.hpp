// Looks once a day whether the smarthosts could take over: is each sender domain prepared there (DNS), and does the login work?
// One look at a time, jittered; what is found goes to the ReadinessBook. A refused login is what it is in delivery: an event,
// and the same rest. No message is sent.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "relay/dns/resolver.hpp"
#include "relay/net/deadlines.hpp"
#include "relay/reputation/owner.hpp"
#include "relay/reputation/readiness.hpp"
#include "relay/runtime/task_group.hpp"

namespace egret::relay {

/// Lives on the control thread.
class ReadinessWatch {
 public:
  ReadinessWatch(const boost::asio::any_io_executor& executor, std::shared_ptr<const config::Config> config, Reputation& owner);

  void start();
  /// Another configuration (config::succeed), which the owner has already.
  void configure(std::shared_ptr<const config::Config> config);
  /// Breaks off what is under way; returns when nothing runs any more.
  boost::asio::awaitable<void> stop();

 private:
  boost::asio::awaitable<void> run();
  boost::asio::awaitable<void> look(std::uint32_t smarthost);
  boost::asio::awaitable<void> check(std::uint32_t smarthost, std::string domain);
  boost::asio::awaitable<void> log_in(std::uint32_t smarthost);
  void plan_logins();
  routing::Duration poll() const;
  routing::Duration jittered(routing::Duration duration);

  std::shared_ptr<const config::Config> config_;
  Reputation& owner_;
  ReadinessBook& book_;
  Resolver resolver_;
  Deadlines deadlines_;
  boost::asio::steady_timer timer_;
  std::mt19937_64 random_;
  std::vector<routing::Time> login_due_;  ///< by smarthost
  routing::Time started_{};
  bool stopping_ = false;
  TaskGroup tasks_;
};

}  // namespace egret::relay
