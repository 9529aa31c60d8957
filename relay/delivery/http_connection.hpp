// A connection to an ESP's HTTP API: one message in each request, one request after the other (RFC 9112, keep-alive).
#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "config/http_api.hpp"
#include "relay/delivery/connection.hpp"
#include "relay/delivery/http_request.hpp"

namespace egret::relay {

class HttpConnection : public Carrier {
 public:
  /// `preset` is the smarthost's provider, `orders` its `headers.add`.
  HttpConnection(std::unique_ptr<Stream> stream, std::shared_ptr<const config::HttpApi> api, std::string preset,
                 std::vector<std::pair<std::string, std::string>> orders, Security security);

  /// The handshake, where there is TLS. False when it failed: error() says why.
  boost::asio::awaitable<bool> open();

  boost::asio::awaitable<Transaction> prepare(std::shared_ptr<const spool::Message> message,
                                              std::vector<std::uint32_t> recipients, OutgoingOptions options,
                                              spool::Spool& spool) override;
  /// `next` is not looked at. Lost before the whole request was sent is `lost`, and afterwards, without a complete answer,
  /// `ambiguous`.
  boost::asio::awaitable<AttemptResult> send(const Transaction* transaction, const Transaction* next,
                                             spool::Spool& spool) override;
  bool chained() const override { return false; }
  bool chains() const override { return false; }
  bool proven() const override { return proven_; }
  void drop() override { fail("dropped"); }
  bool usable() const override { return usable_; }
  int messages() const override { return messages_; }
  const std::string& error() const { return error_; }
  boost::asio::awaitable<void> quit() override;

 private:
  struct Measure {
    std::uint64_t length = 0;
    std::string sha256;
  };

  std::string tls_summary() const;
  boost::asio::awaitable<bool> measure(HttpBody* body, Measure* out);
  boost::asio::awaitable<bool> write(std::string head, HttpBody* body);
  AttemptResult broken(AttemptResult::Kind kind);
  void fail(std::string what);

  std::unique_ptr<Stream> stream_;
  std::shared_ptr<const config::HttpApi> api_;
  std::string preset_;
  std::vector<std::pair<std::string, std::string>> orders_;
  Security security_;
  std::string error_;
  int messages_ = 0;
  bool usable_ = true;
  bool proven_ = false;
  bool replied_ = false;
};

}  // namespace egret::relay
