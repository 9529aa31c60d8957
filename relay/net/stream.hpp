// A byte stream over TCP, in clear or, after a handshake, under TLS. Concrete sockets stay in stream.cpp.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/system/error_code.hpp>
#include <memory>
#include <span>
#include <string>

#include "relay/net/deadlines.hpp"
#include "relay/net/tls.hpp"
#include "relay/net/tlsa.hpp"
#include "routing/address.hpp"

namespace egret::relay {

using boost::system::error_code;

struct ReadResult {
  error_code error;
  std::size_t size = 0;
};

/// One connection. Used from its worker's thread only; one read and one write at a time. After an error, or when
/// the deadline passes, every operation fails.
class Stream {
 public:
  virtual ~Stream() = default;

  virtual boost::asio::awaitable<ReadResult> read_some(boost::asio::mutable_buffer buffer) = 0;
  /// Writes everything. The buffers' memory must stay until it returns.
  virtual boost::asio::awaitable<error_code> write(std::span<const boost::asio::const_buffer> buffers) = 0;
  /// TLS as client; afterwards all bytes are encrypted. `name` is sent as SNI and, where the context verifies,
  /// checked against the certificate; with `dane` its names and records count instead. Bytes that arrived in clear
  /// before must have been consumed by the caller.
  virtual boost::asio::awaitable<error_code> handshake(TlsContext& context, std::string name, const Dane* dane) = 0;

  /// TLS as server. `received` are octets that were read in clear already but belong to the handshake.
  virtual boost::asio::awaitable<error_code> accept_handshake(TlsContext& context, std::string received) = 0;

  virtual void expires_at(Deadline deadline) = 0;
  virtual Deadline expiry() const = 0;
  virtual bool timed_out() const = 0;
  /// The first time that a deadline passes only cancels what is pending: there is something left to say. timed_out()
  /// is true from then on, and the next deadline closes.
  virtual void expire_softly() = 0;
  /// Octets have arrived that nobody asked for yet.
  virtual bool has_input() = 0;
  /// Makes a pending read fail without closing: the driver still has something to say.
  virtual void interrupt() = 0;
  virtual void close() = 0;
  /// Says goodbye in TLS's own way (close_notify), for a second at most, and closes.
  virtual boost::asio::awaitable<void> shutdown() = 0;
  virtual std::string tls_summary() const = 0;  ///< "TLSv1.3 TLS_AES_256_GCM_SHA384", or empty
  /// The peer has closed, or has sent what nobody asked for: no request may be written any more. Asks the system only.
  virtual bool gone() = 0;
  /// Writes what the socket takes at once, and says how many octets that was: mostly all of it, which spares waiting.
  /// Whatever is left, and every error, is write()'s. Nothing under TLS.
  virtual std::size_t write_now(std::span<const boost::asio::const_buffer> buffers) = 0;
};

boost::asio::awaitable<error_code> write_all(Stream& stream, std::string_view bytes);

/// Takes over an accepted or connected socket.
std::unique_ptr<Stream> make_stream(boost::asio::ip::tcp::socket socket, Deadlines& deadlines);

struct ConnectOptions {
  routing::IpAddress to;
  std::uint16_t port = 25;
  std::optional<routing::IpAddress> from;  ///< bound to before connecting
  Deadline deadline = Deadline::max();
};

struct ConnectResult {
  std::unique_ptr<Stream> stream;
  error_code error;
  bool local_fault = false;  ///< the source itself cannot be used: its address is not on this host, its proxy is down
  bool shortage = false;     ///< this host has no descriptor or buffer left
  std::string text;          ///< what went wrong, where `error` does not say enough
  std::string received;      ///< octets of the peer that came together with a proxy's answer
};

/// Connects. TCP_NODELAY is set: replies and commands are written whole.
boost::asio::awaitable<ConnectResult> connect(ConnectOptions options, Deadlines& deadlines);

}  // namespace egret::relay
