// One HTTP/1.1 request and its response on a connection of their own, over TLS or in clear (RFC 9112). Redirects are not
// followed and everything that a server may send is bounded; what the answer means is the caller's business.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <string>

#include "relay/net/deadlines.hpp"
#include "relay/net/stream.hpp"
#include "relay/net/tls.hpp"
#include "routing/address.hpp"

namespace egret::relay {

struct HttpExchange {
  routing::IpAddress to;
  std::uint16_t port = 443;
  TlsContext* tls = nullptr;  ///< null: in clear
  std::string name;           ///< for SNI and the certificate
  std::string request;        ///< all octets of it; should ask for "Connection: close"
  /// Octets of the response's body; a longer one is an error.
  std::uint64_t max_body = 64 * 1024;
  /// False: the status is the answer, and a body that is late, cut off or too long does not spoil it.
  bool body_wanted = true;
  Deadline deadline = Deadline::max();  ///< for all of it
};

struct HttpAnswer {
  std::string error;   ///< empty when there is a response; else a text for logs
  bool begun = false;  ///< octets of a response came, whatever became of it
  unsigned status = 0;
  std::string content_type;  ///< as received, with parameters
  std::string error_type;    ///< X-Amzn-ErrorType
  std::string retry_after;
  bool keep_alive = false;  ///< the connection may carry another request
  std::string body;
};

/// Reads one response from a connection that a request was written to; interim ones (1xx) are passed over. The stream's
/// deadline counts. `max_body` bounds the body, and with it everything else.
boost::asio::awaitable<HttpAnswer> read_http_answer(Stream& stream, std::uint64_t max_body, bool body_wanted = true);

/// Connects (10 seconds at most), sends and reads. What the arguments refer to must outlive it. Cancelled by expiring
/// `deadlines`.
boost::asio::awaitable<HttpAnswer> http_exchange(HttpExchange exchange, Deadlines& deadlines);

}  // namespace egret::relay
