#include "routing/address.hpp"

#include <arpa/inet.h>
#include <algorithm>

#include <charconv>
#include <cstring>

namespace egret::routing {

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  if (text.size() > 45 || text.find('\0') != std::string_view::npos) return std::nullopt;
  const std::string copy(text);
  IpAddress out;
  if (inet_pton(AF_INET, copy.c_str(), out.bytes.data()) == 1) return out;
  out.v6 = true;
  if (inet_pton(AF_INET6, copy.c_str(), out.bytes.data()) == 1) return out;
  return std::nullopt;
}

IpAddress IpAddress::v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) {
  IpAddress out;
  out.bytes = {a, b, c, d};
  return out;
}

std::string IpAddress::to_string() const {
  if (!v6) {  // several times for each message: inet_ntop formats by printf
    std::string out;
    for (std::size_t i = 0; i < 4; ++i) {
      const unsigned value = bytes[i];
      if (i > 0) out += '.';
      if (value >= 100) out += static_cast<char>('0' + value / 100);
      if (value >= 10) out += static_cast<char>('0' + value / 10 % 10);
      out += static_cast<char>('0' + value % 10);
    }
    return out;
  }
  std::array<char, INET6_ADDRSTRLEN> buffer{};
  inet_ntop(AF_INET6, bytes.data(), buffer.data(), buffer.size());
  return buffer.data();
}

IpAddress IpAddress::unmapped() const {
  static constexpr std::array<std::uint8_t, 12> prefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (!v6 || std::memcmp(bytes.data(), prefix.data(), prefix.size()) != 0) return *this;
  return v4(bytes[12], bytes[13], bytes[14], bytes[15]);
}

bool IpAddress::special() const {
  static const auto networks = [] {
    std::array<Network, 20> out;
    std::size_t n = 0;
    for (const char* text : {"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
                             "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4", "::/128", "::1/128",
                             "64:ff9b:1::/48", "100::/64", "fc00::/7", "fe80::/10", "ff00::/8"})
      out[n++] = *Network::parse(text);
    out[n++] = *Network::parse("192.0.0.0/29");
    out[n] = *Network::parse("fec0::/10");
    return out;
  }();
  for (const Network& network : networks)
    if (network.contains(*this)) return true;
  return false;
}

std::optional<Network> Network::parse(std::string_view text, std::string* why) {
  const auto fail = [&](const char* reason) {
    if (why) *why = reason;
    return std::nullopt;
  };
  const std::size_t slash = text.find('/');
  const auto base = IpAddress::parse(text.substr(0, slash));
  if (!base) return fail("not an IP address");
  Network out{*base, base->v6 ? 128u : 32u};
  if (slash != std::string_view::npos) {
    const std::string_view digits = text.substr(slash + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out.prefix);
    if (error != std::errc{} || end != digits.data() + digits.size() || out.prefix > (base->v6 ? 128u : 32u))
      return fail("not a prefix length");
  }
  for (unsigned bit = out.prefix; bit < (base->v6 ? 128u : 32u); ++bit)
    if (base->bytes[bit / 8] & (0x80 >> bit % 8)) return fail("host bits are set");
  // Clients are known by their IPv4 address, however it came: "::ffff:10.0.0.0/104" is 10.0.0.0/8.
  if (const IpAddress plain = base->unmapped(); base->v6 && !plain.v6 && out.prefix >= 96) out = {plain, out.prefix - 96};
  return out;
}

bool Network::contains(const IpAddress& given) const {
  const IpAddress address = base.v6 ? given : given.unmapped();
  if (address.v6 != base.v6) return false;
  const unsigned whole = prefix / 8, rest = prefix % 8;
  if (std::memcmp(address.bytes.data(), base.bytes.data(), whole) != 0) return false;
  if (rest == 0) return true;
  const auto mask = static_cast<std::uint8_t>(0xff << (8 - rest));
  return (address.bytes[whole] & mask) == (base.bytes[whole] & mask);
}

std::string Network::to_string() const {
  return base.to_string() + "/" + std::to_string(prefix);
}

IpAddress IpAddress::customer() const {
  IpAddress out = *this;
  if (v6) std::fill(out.bytes.begin() + 8, out.bytes.end(), std::uint8_t{0});
  return out;
}

bool in_any(const std::vector<Network>& networks, const IpAddress& address) {
  return std::ranges::any_of(networks, [&](const Network& network) { return network.contains(address); });
}

}  // namespace egret::routing
