// One webhook: alerts are posted one after the other, in order, each until it is taken, refused for good or too old.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <memory>
#include <random>
#include <string>

#include "config/alerts.hpp"
#include "relay/alerts/render.hpp"
#include "relay/dns/resolver.hpp"
#include "relay/metrics.hpp"
#include "relay/net/deadlines.hpp"
#include "relay/net/tls.hpp"

namespace egret::relay {

/// What the answer of a receiver means. Redirects are refusals: an alert goes where the configuration says.
enum class WebhookVerdict { taken, again, refused };
WebhookVerdict judge_webhook(unsigned status);

/// The pause before the next try: 1 s, doubled each time, 5 minutes at most, a quarter more or less by `draw` (0 to 1).
std::chrono::milliseconds webhook_pause(std::uint32_t attempts, double draw);

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
  boost::asio::awaitable<std::string> attempt(const Item* item, WebhookVerdict* verdict);
  boost::asio::awaitable<std::vector<routing::IpAddress>> addresses(std::string* error);
  std::string request(const std::string& body) const;
  boost::asio::awaitable<void> sleep_until(Deadline when);
  void drop(const Item& item, const std::string& reason);

  const config::Config& config_;
  const config::Webhook& webhook_;
  AlertCounters& counters_;
  Deadlines deadlines_;
  Resolver resolver_;
  std::unique_ptr<TlsContext> tls_;
  boost::asio::steady_timer wake_;
  std::deque<Item> queue_;
  std::mt19937_64 random_;
  bool stopping_ = false;
  bool broken_off_ = false;
};

}  // namespace egret::relay
