// IP addresses and networks as values, without sockets.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace egret::routing {

/// An IPv4 or IPv6 address. IPv4-mapped IPv6 is kept as written; see unmapped().
struct IpAddress {
  bool v6 = false;
  std::array<std::uint8_t, 16> bytes{};  ///< network order; IPv4 in the first four

  static std::optional<IpAddress> parse(std::string_view text);
  static IpAddress v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d);
  std::string to_string() const;
  /// ::ffff:a.b.c.d as a.b.c.d; anything else unchanged.
  IpAddress unmapped() const;
  /// Loopback, private, link-local, unspecified, multicast and other addresses that no public mail server has.
  bool special() const;
  /// Whom it belongs to, for limits: an IPv4 address itself, of an IPv6 address the /64.
  IpAddress customer() const;
  auto operator<=>(const IpAddress&) const = default;
};

/// "127.0.0.0/8", "::1/128", or a bare address.
struct Network {
  IpAddress base;
  unsigned prefix = 0;

  /// `why` receives what is wrong, e.g. "host bits are set".
  static std::optional<Network> parse(std::string_view text, std::string* why = nullptr);
  /// A mapped IPv4 address is in an IPv4 network.
  bool contains(const IpAddress& address) const;
  std::string to_string() const;
};

bool in_any(const std::vector<Network>& networks, const IpAddress& address);

}  // namespace egret::routing
