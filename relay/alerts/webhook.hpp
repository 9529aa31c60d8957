// One webhook: alerts are posted one after the other, in order, each until it is taken, refused for good or too old.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <random>
#include <string>

#include "config/alerts.hpp"
#include "relay/alerts/render.hpp"
#include "relay/alerts/webhook_post.hpp"
#include "relay/metrics.hpp"
#include "relay/runtime/clock.hpp"

namespace egret::relay {

/// Lives on the control thread. Never waits for anybody but in run().
class WebhookTarget {
 public:
  static constexpr std::size_t max_queue = 256;  ///< beyond, the oldest that waits is dropped: the newest say how it is now

  /// Throws std::runtime_error when the certificates cannot be loaded.
  WebhookTarget(const boost::asio::any_io_executor& executor, const config::Config& config, const config::Webhook& webhook,
                AlertCounters& counters);

  void add(const Notice& notice);
  /// Posts until stop() was called and nothing is left.
  boost::asio::awaitable<void> run();
  /// What waits is tried once more, without pauses.
  void stop();
  /// Ends what is under way, and drops the rest.
  void break_off();

 private:
  struct Item {
    std::string name;  ///< for logs: kind and id
    std::string body;
    Deadline dropped_at;
    std::uint32_t attempts = 0;
  };

  boost::asio::awaitable<void> post(Item* item);
  boost::asio::awaitable<void> sleep_until(Deadline when);
  void drop(const Item& item, const std::string& reason);

  const config::Config& config_;
  const config::Webhook& webhook_;
  AlertCounters& counters_;
  WebhookPost post_;
  boost::asio::steady_timer wake_;
  std::deque<Item> queue_;
  std::mt19937_64 random_;
  bool stopping_ = false;
  bool broken_off_ = false;
};

}  // namespace egret::relay
