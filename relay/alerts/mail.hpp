// Alerts by mail: a message of Egret's own in the spool, which then takes the route that any message of its class takes.
// Alerts that come together go in one message, and there is one message a minute at most.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <set>
#include <vector>

#include "config/config.hpp"
#include "relay/alerts/render.hpp"
#include "relay/delivery/dispatcher.hpp"
#include "relay/metrics.hpp"
#include "relay/runtime/clock.hpp"
#include "relay/spool/spool.hpp"

namespace egret::relay {

/// Lives on the control thread.
class MailTarget {
 public:
  static constexpr std::size_t max_alerts = 50;  ///< in one message; it says how many more there were

  MailTarget(const boost::asio::any_io_executor& executor, const config::Config& config, const config::AlertMail& mail,
             spool::Spool& spool, std::vector<Dispatcher*> dispatchers, AlertCounters& counters);

  /// False for what is about mail of this very target: an alert must not lead to the next.
  bool wants(const Event& event) const;
  void add(Notice notice);
  /// Until stop() was called; then what waits is stored at once, for the next start to deliver.
  boost::asio::awaitable<void> run();
  void stop();

 private:
  void send();

  const config::Config& config_;
  const config::AlertMail& mail_;
  spool::Spool& spool_;
  std::vector<Dispatcher*> dispatchers_;
  AlertCounters& counters_;
  boost::asio::steady_timer wake_;
  std::vector<Notice> waiting_;
  std::uint64_t left_out_ = 0;
  Deadline due_ = Deadline::max();
  Deadline not_before_ = Deadline::min();
  std::deque<std::string> ids_;  ///< of the last messages
  bool stopping_ = false;
};

}  // namespace egret::relay
