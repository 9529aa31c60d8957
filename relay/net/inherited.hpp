// Listening sockets that were open before the program was: a service manager's (sd_listen_fds(3)), or those of the egret
// that this one replaces (relay/upgrade). Who listens on an address takes the sockets that are bound to it.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "routing/address.hpp"

namespace egret::relay {

/// Connections that wait to be accepted by a listener for mail; the kernel may allow fewer.
inline constexpr int listen_backlog = 4096;

struct ListenAddress {
  routing::IpAddress ip;
  std::uint16_t port = 0;
  bool operator==(const ListenAddress&) const = default;
};
/// "127.0.0.1:25", "[::1]:25".
std::string to_string(const ListenAddress& address);

/// Owns what nobody has taken yet. Used by one thread, at the start.
class InheritedSockets {
 public:
  InheritedSockets() = default;
  /// Takes over these descriptors; several for the same socket count as one. Throws std::runtime_error with one line when
  /// one of them is not a listening TCP socket.
  explicit InheritedSockets(const std::vector<int>& descriptors);
  ~InheritedSockets();
  InheritedSockets(const InheritedSockets&) = delete;
  InheritedSockets& operator=(const InheritedSockets&) = delete;

  /// Closes what is bound to none of these addresses, before anything is bound: a socket that nobody accepts from would let its
  /// clients wait for ever, and one on 127.0.0.1:25 keeps 0.0.0.0:25 from being bound. Returns the addresses of what was closed.
  std::vector<std::string> keep(const std::vector<ListenAddress>& wanted);
  /// Whether one is bound to that port, with any address.
  bool has_port(std::uint16_t port) const;
  /// The acceptors of one of `users` who share an address, `user` of them having asked before. Each gets at least one (an
  /// acceptor of its own on the same socket, where there are fewer sockets than users), and each socket has at least one
  /// user: of a SO_REUSEPORT group that is left alone in part, some connections would wait for ever. Empty where nothing is
  /// bound to the address. Throws std::runtime_error without descriptors.
  std::vector<boost::asio::ip::tcp::acceptor> share(const boost::asio::any_io_executor& executor, const routing::IpAddress& ip,
                                                    std::uint16_t port, std::size_t user, std::size_t users);
  /// For whoever listens alone: the same as share() of one user.
  std::vector<boost::asio::ip::tcp::acceptor> take(const boost::asio::any_io_executor& executor, const routing::IpAddress& ip,
                                                   std::uint16_t port) {
    return share(executor, ip, port, 0, 1);
  }
  /// Closes them all; whoever took a share has a descriptor of its own.
  void close();

 private:
  struct Socket {
    int descriptor = -1;
    std::uint64_t cookie = 0;  ///< the kernel's number of the socket, whatever descriptors it has
    ListenAddress address;
  };
  void add(int descriptor);

  std::vector<Socket> sockets_;
};

}  // namespace egret::relay
