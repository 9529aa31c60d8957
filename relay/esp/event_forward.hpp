// Events on their way to the operator's webhook: in batches, in order, signed as alerts are, each until it is taken, refused
// for good or too old. What waits is in esp.db, so a restart loses nothing.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <random>
#include <set>
#include <string>

#include "config/config.hpp"
#include "relay/alerts/webhook_post.hpp"
#include "relay/esp/esp_mail.hpp"
#include "relay/runtime/task_group.hpp"

namespace egret::relay {

/// The body of a request; its form is documented in docs/esp-events.md, and `version` changes when it does.
std::string forwarded_events(const std::vector<EspRecord>& records, const std::string& hostname);

/// Lives on the control thread.
class EventForwarder {
 public:
  /// `config` has a forward target. Throws std::runtime_error when its certificates cannot be loaded.
  EventForwarder(const boost::asio::any_io_executor& executor, std::shared_ptr<const config::Config> config, EspMail& mail);

  void start();
  /// Something new waits.
  void wake();
  boost::asio::awaitable<void> stop();

 private:
  boost::asio::awaitable<void> run();
  boost::asio::awaitable<bool> post(const std::vector<EspRecord>* records);
  boost::asio::awaitable<void> sleep_until(Deadline when);
  const config::EventForward& target() const { return *config_->event_listener->forward; }

  std::shared_ptr<const config::Config> config_;
  EspMail& mail_;
  WebhookPost post_;
  std::set<std::int64_t> posted_;  ///< taken, but their rows could not be marked
  std::uint32_t attempts_ = 0;     ///< without success
  std::mt19937_64 random_;
  boost::asio::steady_timer timer_;
  bool due_ = true;
  bool stopping_ = false;
  TaskGroup tasks_;
};

}  // namespace egret::relay
