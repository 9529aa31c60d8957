// Tells operators what happened: every event is offered to the fold, and what that lets through goes to the targets that
// want it. Nothing here is ever waited for by mail.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <memory>
#include <vector>

#include "config/config.hpp"
#include "relay/delivery/dispatcher.hpp"
#include "relay/metrics.hpp"
#include "relay/reputation/events.hpp"
#include "relay/runtime/clock.hpp"
#include "relay/spool/spool.hpp"

namespace egret::relay {

/// What it works with; all of it outlives it.
struct AlertsContext {
  std::shared_ptr<const config::Config> config;
  Events& events;
  spool::Spool& spool;
  Metrics& metrics;  ///< `alerts` is parallel to the configuration's
  std::vector<Dispatcher*> dispatchers;
};

/// Lives on the control thread, which is also the executor's.
class Alerts {
 public:
  /// Throws std::runtime_error when a target's certificates cannot be loaded.
  Alerts(const boost::asio::any_io_executor& executor, AlertsContext context);
  ~Alerts();

  /// Another configuration (config::succeed) with the same `alerts`.
  void configure(std::shared_ptr<const config::Config> config);
  /// From now on events are listened to.
  void start();
  /// What waits is tried once more, until `deadline`; mail is stored for the next start. Must be awaited before the end,
  /// while the workers still run.
  boost::asio::awaitable<void> stop(Deadline deadline);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace egret::relay
