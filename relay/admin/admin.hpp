// The admin side: HTTP with JSON under /api/v1, health, metrics. Lives on the control thread.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <functional>
#include <memory>
#include <vector>

#include "config/config.hpp"
#include "relay/budgets.hpp"
#include "relay/delivery/dispatcher.hpp"
#include "relay/metrics.hpp"
#include "relay/net/inherited.hpp"
#include "relay/reputation/account_watch.hpp"
#include "relay/reputation/events.hpp"
#include "relay/reputation/guard.hpp"
#include "relay/reputation/owner.hpp"
#include "relay/reputation/prober.hpp"
#include "relay/reputation/unknown_replies.hpp"
#include "relay/spool/spool.hpp"
#include "relay/upgrade.hpp"

namespace egret::relay {

class EspFeedback;  // relay/esp/esp_feedback.hpp

/// What came of reading the configuration again.
struct ReloadResult {
  bool ok = false;
  config::Problems problems;         ///< why the old one stays
  std::vector<std::string> restart;  ///< keys whose change shows only after a restart
};

/// What the admin side may look at and act on.
struct AdminContext {
  std::shared_ptr<const config::Config> config;
  spool::Spool& spool;
  Reputation& reputation;
  std::unique_ptr<Prober>& prober;  ///< another one after each reload
  Events& events;
  Metrics& metrics;
  Budgets& budgets;
  Guard& guard;
  const Handovers& handovers;
  const UnknownReplies& unknown_replies;
  std::vector<Dispatcher*> dispatchers;
  std::function<bool()> ready;
  std::function<boost::asio::awaitable<ReloadResult>()> reload;
  std::function<boost::asio::awaitable<UpgradeResult>()> upgrade;
  const AccountWatch* accounts = nullptr;  ///< null: nobody asks ESPs about accounts
  EspFeedback* esp_feedback = nullptr;
  Brakes* brakes = nullptr;  ///< never null in a running program
};

class AdminServer {
 public:
  AdminServer(const boost::asio::any_io_executor& executor, AdminContext context);
  ~AdminServer();

  /// Takes the inherited socket or binds; throws std::runtime_error that names the address.
  void open(InheritedSockets& inherited);
  void start();
  /// Another configuration (config::succeed); the address it listens on stays.
  void configure(std::shared_ptr<const config::Config> config);
  boost::asio::awaitable<void> stop();
  /// In place of stop(): answers what has arrived, and keeps the listening sockets: their descriptors, now the caller's.
  boost::asio::awaitable<std::vector<int>> stop_and_release();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace egret::relay
