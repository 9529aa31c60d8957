#include "relay/net/stream.hpp"

#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/async_result.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "relay/net/tls_native.hpp"

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

namespace egret::relay {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

asio::ip::address to_asio(const routing::IpAddress& address) {
  if (address.v6) {
    asio::ip::address_v6::bytes_type bytes;
    std::memcpy(bytes.data(), address.bytes.data(), bytes.size());
    return asio::ip::address_v6(bytes);
  }
  return asio::ip::address_v4({address.bytes[0], address.bytes[1], address.bytes[2], address.bytes[3]});
}

/// Certificates are judged by TLSA records and nothing else; with DANE-EE neither names nor dates matter (RFC 7672
/// section 3.1.1).
bool use_dane(SSL* ssl, const Dane& dane) {
  if (SSL_dane_enable(ssl, dane.base.c_str()) <= 0) return false;
  SSL_dane_set_flags(ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
  for (const auto& name : dane.names) SSL_add1_host(ssl, name.c_str());
  bool any = false;
  for (const auto& record : dane.records)
    any |=
        usable(record) && SSL_dane_tlsa_add(ssl, record.usage, record.selector, record.matching,
                                            reinterpret_cast<const unsigned char*>(record.data.data()), record.data.size()) > 0;
  SSL_set_verify(ssl, SSL_VERIFY_PEER, nullptr);
  return any;
}

std::vector<asio::const_buffer> without_front(std::span<const asio::const_buffer> buffers, std::size_t size) {
  std::vector<asio::const_buffer> out;
  for (const asio::const_buffer& buffer : buffers) {
    const std::size_t gone = std::min(size, buffer.size());
    size -= gone;
    if (gone < buffer.size()) out.push_back(buffer + gone);
  }
  return out;
}

class TcpStream final : public Stream, private Expirable {
 public:
  TcpStream(tcp::socket socket, Deadlines& deadlines) : socket_(std::move(socket)), deadlines_(deadlines) {
    error_code ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
    deadlines_.add(*this);
  }
  ~TcpStream() override { deadlines_.remove(*this); }

  /// No coroutine of its own in clear: there is one read for each command of each session.
  asio::awaitable<ReadResult> read_some(asio::mutable_buffer buffer) override {
    if (dead_ || tls_) return read_tls(buffer);
    return asio::async_initiate<const asio::use_awaitable_t<>, void(ReadResult)>(
        [this, buffer](auto handler) {
          socket_.async_read_some(buffer, [handler = std::move(handler)](error_code error, std::size_t size) mutable {
            std::move(handler)(ReadResult{error, size});
          });
        },
        asio::use_awaitable);
  }

  asio::awaitable<error_code> write(std::span<const asio::const_buffer> buffers) override {
    error_code error;
    if (dead_) {
      error = asio::error::operation_aborted;
    } else if (tls_) {
      co_await asio::async_write(*tls_, buffers, asio::redirect_error(asio::use_awaitable, error));
    } else if (const std::size_t done = write_now(buffers); done < asio::buffer_size(buffers)) {
      const std::vector<asio::const_buffer> rest = without_front(buffers, done);
      co_await asio::async_write(socket_, rest, asio::redirect_error(asio::use_awaitable, error));
    }
    co_return error;
  }

  std::size_t write_now(std::span<const asio::const_buffer> buffers) override {
    if (dead_ || tls_) return 0;
    std::array<iovec, 16> parts;
    const std::size_t count = std::min(parts.size(), buffers.size());
    for (std::size_t i = 0; i < count; ++i) parts[i] = {const_cast<void*>(buffers[i].data()), buffers[i].size()};
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = count;
    const ssize_t written = ::sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    return written > 0 ? static_cast<std::size_t>(written) : 0;
  }

  asio::awaitable<error_code> handshake(TlsContext& context, std::string name, const Dane* dane) override {
    tls_.emplace(socket_, context.native().context);
    SSL* ssl = tls_->native_handle();
    error_code error;
    if (dane) name = dane->base;
    const bool literal = routing::IpAddress::parse(name).has_value();
    if (!literal && SSL_set_tlsext_host_name(ssl, name.c_str()) != 1) error = asio::error::invalid_argument;
    if (dane && !use_dane(ssl, *dane)) error = asio::error::invalid_argument;
    if (!dane && context.native().verify) tls_->set_verify_callback(asio::ssl::host_name_verification(name), error);
    if (!error && !dead_)
      co_await tls_->async_handshake(asio::ssl::stream_base::client, asio::redirect_error(asio::use_awaitable, error));
    if (dead_ && !error) error = asio::error::operation_aborted;
    co_return error;
  }

  asio::awaitable<error_code> accept_handshake(TlsContext& context, std::string received) override {
    tls_.emplace(socket_, context.native().context);
    error_code error;
    if (!dead_)
      co_await tls_->async_handshake(asio::ssl::stream_base::server, asio::buffer(received),
                                     asio::redirect_error(asio::use_awaitable, error));
    if (dead_ && !error) error = asio::error::operation_aborted;
    co_return error;
  }

  void expires_at(Deadline when) override { deadline = when; }
  Deadline expiry() const override { return deadline; }
  void expire_softly() override { soft_ = true; }
  bool has_input() override {
    error_code ignored;
    return socket_.available(ignored) > 0;
  }
  bool timed_out() const override { return timed_out_; }
  bool gone() override {
    char octet = 0;
    return dead_ || recv(socket_.native_handle(), &octet, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 ||
           (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
  }

  void interrupt() override {
    error_code ignored;
    socket_.cancel(ignored);
  }

  void close() override {
    dead_ = true;
    error_code ignored;
    socket_.close(ignored);
  }

  asio::awaitable<void> shutdown() override {
    if (tls_ && !dead_) {
      soft_ = false;
      deadline = in(std::chrono::seconds(1));
      error_code ignored;
      co_await tls_->async_shutdown(asio::redirect_error(asio::use_awaitable, ignored));
    }
    close();
  }

  std::string tls_summary() const override {
    if (!tls_) return {};
    auto* ssl = const_cast<asio::ssl::stream<tcp::socket&>&>(*tls_).native_handle();
    return std::string(SSL_get_version(ssl)) + ' ' + SSL_get_cipher_name(ssl);
  }

 private:
  /// Under TLS, or after close().
  asio::awaitable<ReadResult> read_tls(asio::mutable_buffer buffer) {
    ReadResult out;
    if (dead_)
      out.error = asio::error::operation_aborted;
    else
      out.size = co_await tls_->async_read_some(buffer, asio::redirect_error(asio::use_awaitable, out.error));
    co_return out;
  }

  void expire() override {
    const bool first = !std::exchange(timed_out_, true);
    if (first && soft_) return interrupt();
    close();
  }

  tcp::socket socket_;
  std::optional<asio::ssl::stream<tcp::socket&>> tls_;
  Deadlines& deadlines_;
  bool dead_ = false;
  bool timed_out_ = false;
  bool soft_ = false;
};

/// Closes a socket that takes too long to connect.
class ConnectGuard final : private Expirable {
 public:
  ConnectGuard(tcp::socket& socket, Deadlines& deadlines, Deadline when) : socket_(socket), deadlines_(deadlines) {
    deadline = when;
    deadlines_.add(*this);
  }
  ~ConnectGuard() override { deadlines_.remove(*this); }
  bool expired() const { return expired_; }

 private:
  void expire() override {
    expired_ = true;
    error_code ignored;
    socket_.close(ignored);
  }
  tcp::socket& socket_;
  Deadlines& deadlines_;
  bool expired_ = false;
};

error_code bind_source(tcp::socket& socket, const routing::IpAddress& from) {
  // The port is chosen at connect, so that one source can hold more connections than there are ports.
  const int on = 1;
  setsockopt(socket.native_handle(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  error_code error;
  socket.bind(tcp::endpoint(to_asio(from), 0), error);
  return error;
}

/// Asio watches a socket that it has connected for writability ever after, and epoll then reports that with each octet that
/// comes in, also when it was read already: a wake-up for nothing. Registered anew it is watched for input only.
tcp::socket watched_for_input(tcp::socket socket, const tcp& protocol, error_code& error) {
  tcp::socket out(socket.get_executor());
  const int descriptor = socket.release(error);
  if (error) return out;
  out.assign(protocol, descriptor, error);
  if (error) ::close(descriptor);
  return out;
}

/// Of descriptors or memory of this host.
bool is_shortage(const error_code& error) {
  namespace errc = boost::system::errc;
  return error == errc::too_many_files_open || error == errc::too_many_files_open_in_system || error == errc::no_buffer_space ||
         error == errc::not_enough_memory;
}

}  // namespace

bool usable(const TlsaRecord& record) {
  const bool digest = record.matching == 0 || (record.matching == 1 && record.data.size() == 32) ||
                      (record.matching == 2 && record.data.size() == 64);
  return (record.usage == 2 || record.usage == 3) && record.selector <= 1 && digest && !record.data.empty();
}

std::unique_ptr<Stream> make_stream(tcp::socket socket, Deadlines& deadlines) {
  return std::make_unique<TcpStream>(std::move(socket), deadlines);
}

asio::awaitable<error_code> write_all(Stream& stream, std::string_view bytes) {
  const asio::const_buffer buffer(bytes.data(), bytes.size());
  co_return co_await stream.write({&buffer, 1});
}

asio::awaitable<ConnectResult> connect(ConnectOptions options, Deadlines& deadlines) {
  ConnectResult out;
  const auto executor = co_await asio::this_coro::executor;
  tcp::socket socket(executor);
  const tcp::endpoint peer(to_asio(options.to), options.port);
  socket.open(peer.protocol(), out.error);
  if (!out.error && options.from) {
    out.error = bind_source(socket, *options.from);
    out.local_fault = out.error && !is_shortage(out.error);
  }
  if (!out.error) {
    ConnectGuard guard(socket, deadlines, options.deadline);
    co_await socket.async_connect(peer, asio::redirect_error(asio::use_awaitable, out.error));
    if (guard.expired()) out.error = asio::error::timed_out;
  }
  if (out.error == boost::system::errc::address_not_available && options.from) out.local_fault = true;
  out.shortage = is_shortage(out.error);
  if (!out.error) socket = watched_for_input(std::move(socket), peer.protocol(), out.error);
  if (!out.error) out.stream = make_stream(std::move(socket), deadlines);
  co_return out;
}

}  // namespace egret::relay
