// One try to post a signed body to a webhook of the operator's, and what its answer means.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "config/alerts.hpp"
#include "config/config.hpp"
#include "relay/dns/resolver.hpp"
#include "relay/net/deadlines.hpp"
#include "relay/net/tls.hpp"

namespace egret::relay {

/// What the answer of a receiver means. Redirects are refusals: an alert goes where the configuration says.
enum class WebhookVerdict { taken, again, refused };
WebhookVerdict judge_webhook(unsigned status);

/// The pause before the next try: 1 s, doubled each time, 5 minutes at most, a quarter more or less by `draw` (0 to 1).
std::chrono::milliseconds webhook_pause(std::uint32_t attempts, double draw);

/// Used from one thread; `webhook` outlives it. One attempt at a time.
class WebhookPost {
 public:
  /// Throws std::runtime_error when the certificates cannot be loaded.
  WebhookPost(const boost::asio::any_io_executor& executor, const config::Dns& dns, const config::Webhook& webhook);

  /// Empty where the receiver took it; else what went wrong, fit for logs. What the arguments point to must outlive it.
  boost::asio::awaitable<std::string> attempt(const std::string* body, WebhookVerdict* verdict);
  /// Ends what is under way; nothing is tried any more.
  void break_off();

 private:
  boost::asio::awaitable<std::vector<routing::IpAddress>> addresses(std::string* error);
  std::string request(const std::string& body) const;

  const config::Webhook& webhook_;
  Deadlines deadlines_;
  Resolver resolver_;
  std::unique_ptr<TlsContext> tls_;
  bool broken_off_ = false;
};

}  // namespace egret::relay
