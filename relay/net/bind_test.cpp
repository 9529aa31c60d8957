#include "relay/net/bind_test.hpp"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace egret::relay {

std::string bind_fault(const routing::IpAddress& address) {
  const int fd = socket(address.v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return {};
  sockaddr_storage storage{};
  socklen_t size = 0;
  if (address.v6) {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
    v6->sin6_family = AF_INET6;
    std::memcpy(&v6->sin6_addr, address.bytes.data(), 16);
    size = sizeof *v6;
  } else {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
    v4->sin_family = AF_INET;
    std::memcpy(&v4->sin_addr, address.bytes.data(), 4);
    size = sizeof *v4;
  }
  const int result = bind(fd, reinterpret_cast<sockaddr*>(&storage), size);
  const int error = errno;
  close(fd);
  return result == 0 ? std::string() : std::strerror(error);
}

}  // namespace egret::relay
