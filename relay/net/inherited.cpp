#include "relay/net/inherited.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace egret::relay {
namespace {

using boost::asio::ip::tcp;

int option(int descriptor, int name) {
  int value = 0;
  socklen_t size = sizeof value;
  return getsockopt(descriptor, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
}

std::uint64_t cookie_of(int descriptor) {
  std::uint64_t value = 0;
  socklen_t size = sizeof value;
  return getsockopt(descriptor, SOL_SOCKET, SO_COOKIE, &value, &size) == 0 ? value : 0;
}

/// False where it is not bound to an IP address.
bool bound_to(int descriptor, ListenAddress& address) {
  auto& [ip, port] = address;
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (getsockname(descriptor, reinterpret_cast<sockaddr*>(&storage), &size) != 0) return false;
  if (storage.ss_family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&storage);
    ip.v6 = true;
    std::memcpy(ip.bytes.data(), &v6->sin6_addr, 16);
    port = ntohs(v6->sin6_port);
    return true;
  }
  if (storage.ss_family != AF_INET) return false;
  const auto* v4 = reinterpret_cast<const sockaddr_in*>(&storage);
  std::memcpy(ip.bytes.data(), &v4->sin_addr, 4);
  port = ntohs(v4->sin_port);
  return true;
}

}  // namespace

std::string to_string(const ListenAddress& address) {
  const std::string ip = address.ip.to_string();
  return (address.ip.v6 ? "[" + ip + "]" : ip) + ":" + std::to_string(address.port);
}

InheritedSockets::InheritedSockets(const std::vector<int>& descriptors) {
  try {
    for (const int descriptor : descriptors) add(descriptor);
  } catch (...) {
    close();
    throw;
  }
}

InheritedSockets::~InheritedSockets() {
  close();
}

void InheritedSockets::add(int descriptor) {
  Socket socket;
  socket.descriptor = descriptor;
  const bool tcp_socket = option(descriptor, SO_TYPE) == SOCK_STREAM && option(descriptor, SO_PROTOCOL) == IPPROTO_TCP;
  if (!tcp_socket || option(descriptor, SO_ACCEPTCONN) != 1 || !bound_to(descriptor, socket.address))
    throw std::runtime_error(
        "descriptor " + std::to_string(descriptor) +
        ", passed to listen on, is not a listening TCP socket (egret.socket: ListenStream=IP:PORT, Accept=no)");
  socket.cookie = cookie_of(descriptor);
  if (socket.cookie != 0 && std::ranges::find(sockets_, socket.cookie, &Socket::cookie) != sockets_.end()) {
    ::close(descriptor);
    return;
  }
  listen(descriptor, listen_backlog);  // again: with the length of queue that we want
  sockets_.push_back(socket);
}

std::vector<std::string> InheritedSockets::keep(const std::vector<ListenAddress>& wanted) {
  std::vector<std::string> closed;
  std::erase_if(sockets_, [&](const Socket& socket) {
    if (std::ranges::find(wanted, socket.address) != wanted.end()) return false;
    ::close(socket.descriptor);
    const std::string name = to_string(socket.address);
    if (std::ranges::find(closed, name) == closed.end()) closed.push_back(name);
    return true;
  });
  return closed;
}

bool InheritedSockets::has_port(std::uint16_t port) const {
  return std::ranges::any_of(sockets_, [&](const Socket& socket) { return socket.address.port == port; });
}

std::vector<tcp::acceptor> InheritedSockets::share(const boost::asio::any_io_executor& executor, const routing::IpAddress& ip,
                                                   std::uint16_t port, std::size_t user, std::size_t users) {
  std::vector<Socket*> bound;
  for (auto& socket : sockets_)
    if (socket.address == ListenAddress{ip, port}) bound.push_back(&socket);
  std::vector<tcp::acceptor> out;
  if (bound.empty()) return out;
  for (std::size_t i = 0; i < std::max(bound.size(), users); ++i) {
    if (i % users != user) continue;
    const Socket& socket = *bound[i % bound.size()];
    const int copy = fcntl(socket.descriptor, F_DUPFD_CLOEXEC, 3);
    if (copy < 0)
      throw std::runtime_error("cannot listen on " + to_string(ListenAddress{ip, port}) + ": " + std::strerror(errno));
    out.emplace_back(executor).assign(ip.v6 ? tcp::v6() : tcp::v4(), copy);
  }
  return out;
}

void InheritedSockets::close() {
  for (const auto& socket : sockets_) ::close(socket.descriptor);
  sockets_.clear();
}

}  // namespace egret::relay
