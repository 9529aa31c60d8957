// What follows a request of an ESP's webhook: it is judged, what it says is stored once, and the sender, the operator and
// whoever counts complaints are told.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "relay/esp/esp_mail.hpp"
#include "relay/esp/event_check.hpp"
#include "relay/esp/sns_client.hpp"
#include "relay/metrics.hpp"
#include "relay/reputation/events.hpp"
#include "relay/runtime/task_group.hpp"
#include "relay/spool/spool.hpp"

namespace egret::relay {

struct EventAnswer {
  unsigned status = 200;
  std::string body;
};

/// What it works with; all of it outlives it.
struct EventDeskContext {
  std::shared_ptr<const config::Config> config;
  EspMail& mail;
  Events& events;
  spool::Spool& spool;
  Metrics& metrics;
  /// Called on the control thread for every new event, once; `handover` names sender and user where they are known.
  std::function<void(const EspRecord&)> hook;
  /// Something waits to be sent on.
  std::function<void()> forward;
  /// A DSN is durable and may be delivered.
  std::function<void(std::shared_ptr<const spool::Message>)> submit;
};

/// Lives on the control thread.
class EventDesk {
 public:
  EventDesk(const boost::asio::any_io_executor& executor, EventDeskContext context);

  void start();
  void configure(std::shared_ptr<const config::Config> config);
  /// Nothing is fetched any more: whoever waits for that is answered.
  void break_off() { sns_.break_off(); }
  boost::asio::awaitable<void> stop();

  /// `target` is the request's: "/events/NAME".
  boost::asio::awaitable<EventAnswer> handle(std::string target, EventRequest request);
  /// A request that was refused before it was read.
  EventAnswer refuse(const std::string& target, EventRefusal refusal, const routing::IpAddress& client);

 private:
  const config::Smarthost* smarthost(std::string_view target) const;
  EventAnswer refused(const std::string& smarthost, EventRefusal refusal, const routing::IpAddress& client);
  boost::asio::awaitable<EventAnswer> handle_sns(const config::Smarthost* host, const EventRequest* request);
  boost::asio::awaitable<EventAnswer> take(const config::Smarthost* host, std::string_view body, std::string token,
                                           routing::IpAddress client);
  boost::asio::awaitable<void> confirm(std::string smarthost, std::string topic, std::string target);
  boost::asio::awaitable<void> tell_complaint(EspRecord record);
  void told(const EspTaken& taken);
  boost::asio::awaitable<void> report_bounces();
  boost::asio::awaitable<bool> report(const EspRecord* record);
  boost::asio::awaitable<void> sleep_until(Deadline when);

  struct Limited {
    Deadline quiet_until = Deadline::min();
    std::uint64_t since = 0;  ///< requests refused since the last event
  };

  EventDeskContext context_;
  SnsClient sns_;
  std::map<std::pair<std::string, EventRefusal>, Limited> refusals_;
  std::map<std::string, Deadline> complaints_told_;  ///< by sender, until when no more is told
  std::set<std::int64_t> reported_;                  ///< DSNs made of events whose row could not be marked
  boost::asio::steady_timer wake_;
  bool due_ = true;  ///< DSNs may wait
  bool stopping_ = false;
  TaskGroup tasks_;
};

}  // namespace egret::relay
