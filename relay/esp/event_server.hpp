// The address at which ESPs' webhooks arrive: HTTP/1.1, POST only, over TLS or, on loopback behind a proxy, in clear. It is
// open to the world, so everything is bounded: connections, header, body and the time for each.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <string>
#include <vector>

#include "config/esp_events.hpp"
#include "relay/esp/event_desk.hpp"
#include "relay/net/deadlines.hpp"
#include "relay/net/inherited.hpp"
#include "relay/net/stream.hpp"
#include "relay/net/tls.hpp"
#include "relay/runtime/task_group.hpp"

namespace egret::relay {

/// Lives on the control thread.
class EventServer {
 public:
  static constexpr std::size_t max_connections = 256;
  static constexpr std::size_t max_body = 1u << 20;

  /// Takes the inherited sockets of its address, if any, or binds. Throws std::runtime_error with a line that names the address
  /// or the certificate.
  EventServer(const boost::asio::any_io_executor& executor, std::shared_ptr<const config::EventListener> options, EventDesk& desk,
              InheritedSockets* inherited);

  void start();
  /// The same address with another certificate.
  void configure(std::shared_ptr<const config::EventListener> options, std::shared_ptr<TlsContext> tls);
  /// What the address shows; null where it speaks in clear. Throws std::runtime_error when it cannot be used.
  static std::shared_ptr<TlsContext> tls_of(const config::EventListener& options);
  const std::string& address() const { return options_->address; }
  /// With `keep_open` the listening sockets stay open, for release().
  boost::asio::awaitable<void> stop(bool keep_open);
  /// After stop(): their descriptors, now the caller's.
  std::vector<int> release();

 private:
  struct Exchange;
  boost::asio::awaitable<void> accept(boost::asio::ip::tcp::acceptor* acceptor);
  boost::asio::awaitable<void> serve(std::unique_ptr<Stream> stream, routing::IpAddress client);
  boost::asio::awaitable<bool> exchange(Stream* stream, Exchange* state);

  boost::asio::any_io_executor executor_;
  std::shared_ptr<const config::EventListener> options_;
  std::shared_ptr<TlsContext> tls_;
  EventDesk& desk_;
  std::vector<boost::asio::ip::tcp::acceptor> acceptors_;  ///< never more from start() on
  Deadlines deadlines_;
  std::size_t connections_ = 0;
  bool stopping_ = false;
  TaskGroup tasks_;
};

}  // namespace egret::relay
