// What has to be fetched from Amazon SNS: signing certificates, and the page that confirms a subscription. Only from
// sns.REGION.amazonaws.com, over TLS that the system's certification authorities vouch for.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <map>
#include <memory>
#include <string>

#include "config/config.hpp"
#include "relay/dns/resolver.hpp"
#include "relay/net/deadlines.hpp"
#include "relay/net/tls.hpp"
#include "smtp/webhook_signature.hpp"

namespace egret::relay {

/// Used from one thread.
class SnsClient {
 public:
  SnsClient(const boost::asio::any_io_executor& executor, const config::Dns& dns);

  struct Key {
    std::shared_ptr<const smtp::VerifyingKey> key;  ///< null: `why`
    std::string why;
  };
  /// The key of the certificate at https://sns.REGION.amazonaws.com + `target`. Kept for a day; after a failure nothing is
  /// fetched for some seconds, so that forgers cannot make us ask without end.
  boost::asio::awaitable<Key> key(std::string region, std::string target);
  /// Empty when SNS answered the confirmation with success; else what went wrong.
  boost::asio::awaitable<std::string> confirm(std::string region, std::string target);

  void configure(const config::Dns& dns) { resolver_.configure(dns); }
  /// Ends what is under way; nothing is fetched any more.
  void break_off();

 private:
  struct Kept {
    std::string pem;
    std::shared_ptr<const smtp::VerifyingKey> key;
    Deadline until;
  };
  struct Page {
    std::string error;
    std::string body;
  };
  boost::asio::awaitable<Page> get(std::string host, std::string target);

  Deadlines deadlines_;
  Resolver resolver_;
  std::unique_ptr<TlsContext> tls_;
  std::map<std::string, Kept> kept_;  ///< by region and target
  Deadline not_before_ = Deadline::min();
  bool broken_off_ = false;
};

}  // namespace egret::relay
