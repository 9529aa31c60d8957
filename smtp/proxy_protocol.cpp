#include "smtp/proxy_protocol.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

namespace egret::smtp {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view v1_start = "PROXY ";
constexpr std::size_t v1_limit = 107;  // octets with CRLF

constexpr std::string_view v2_start = "\r\n\r\n\0\r\nQUIT\n"sv;
constexpr std::size_t v2_fixed = 16;  // octets before the address block
constexpr std::size_t v2_limit = 4096;
constexpr std::uint8_t v2_local = 0x20;
constexpr std::uint8_t v2_proxy = 0x21;
constexpr std::uint8_t v2_unspecified = 0x00;
constexpr std::uint8_t v2_tcp4 = 0x11;
constexpr std::uint8_t v2_tcp6 = 0x21;

/// An address in network order, 4 or 16 octets.
std::optional<std::string> address_bytes(int family, std::string_view text) {
  if (text.size() >= INET6_ADDRSTRLEN || text.find('\0') != std::string_view::npos) return std::nullopt;
  std::array<char, 16> bytes{};
  if (inet_pton(family, std::string(text).c_str(), bytes.data()) != 1) return std::nullopt;
  return std::string(bytes.data(), family == AF_INET ? 4 : 16);
}

std::string address_text(std::string_view bytes) {
  std::array<char, INET6_ADDRSTRLEN> buffer{};
  inet_ntop(bytes.size() == 4 ? AF_INET : AF_INET6, bytes.data(), buffer.data(), buffer.size());
  return buffer.data();
}

std::uint16_t big_endian(std::string_view bytes) {
  return static_cast<std::uint16_t>(static_cast<std::uint8_t>(bytes[0]) << 8 | static_cast<std::uint8_t>(bytes[1]));
}

void put_big_endian(std::string& out, std::size_t value) {
  out += static_cast<char>(value >> 8 & 255);
  out += static_cast<char>(value & 255);
}

/// Whether some continuation of `text` is an address. Every beginning of one becomes one by adding one of these.
bool begins_address(int family, std::string_view text) {
  return std::ranges::any_of(std::array{"", ":", "::", "0", ".0", "0.0", ".0.0", "0.0.0", ".0.0.0", "0.0.0.0"},
                             [&](const char* rest) { return address_bytes(family, std::string(text) + rest).has_value(); });
}

/// A port in decimal without leading zeros; 0 is one (it stands for "none").
std::optional<std::uint16_t> port_number(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size() || (text.size() > 1 && text.front() == '0')) return std::nullopt;
  return port;
}

/// The four values of a version 1 header, in their order on the line.
class V1Fields {
 public:
  V1Fields(int family, ProxyHeader& out) : family_(family), out_(out) {}

  /// Whether `text` is a value for field `index`, which it then becomes.
  bool take(std::size_t index, std::string_view text) {
    if (index < 2) {
      const auto bytes = address_bytes(family_, text);
      if (bytes) (index == 0 ? out_.source : out_.destination) = address_text(*bytes);
      return bytes.has_value();
    }
    const auto port = port_number(text);
    if (port) (index == 2 ? out_.source_port : out_.destination_port) = *port;
    return port.has_value();
  }

  bool can_begin(std::size_t index, std::string_view text) const {
    return index < 2 ? begins_address(family_, text) : text.empty() || port_number(text);
  }

 private:
  int family_;
  ProxyHeader& out_;
};

/// `line` is what follows "PROXY ". Whether it is a whole header or, if it is `open`, the beginning of one.
bool v1_line(std::string_view line, bool open, ProxyHeader& out) {
  if (std::ranges::any_of(line, [](char c) { return static_cast<unsigned char>(c) < 0x20; })) return false;
  const std::size_t space = line.find(' ');
  const std::string_view protocol = line.substr(0, space);
  if (space == std::string_view::npos && open)
    return "TCP4"sv.starts_with(protocol) || "TCP6"sv.starts_with(protocol) || "UNKNOWN"sv.starts_with(protocol);
  if (protocol == "UNKNOWN") {
    out.local = true;  // and whatever the proxy adds is to be ignored
    return true;
  }
  if ((protocol != "TCP4" && protocol != "TCP6") || space == std::string_view::npos) return false;
  V1Fields fields(protocol == "TCP4" ? AF_INET : AF_INET6, out);
  line.remove_prefix(space + 1);
  for (std::size_t index = 0; index < 3; ++index) {
    const std::size_t end = line.find(' ');
    if (end == std::string_view::npos) return open && fields.can_begin(index, line);
    if (!fields.take(index, line.substr(0, end))) return false;
    line.remove_prefix(end + 1);
  }
  return open ? fields.can_begin(3, line) : fields.take(3, line);
}

ProxyParse parse_v1(std::string_view in, std::size_t& used, ProxyHeader& out) {
  ProxyHeader header;
  const std::string_view line = in.substr(0, v1_limit - 1);
  const std::size_t cr = line.find('\r');
  if (cr == std::string_view::npos) {
    const bool room = line.size() < v1_limit - 1;
    return room && v1_line(line.substr(v1_start.size()), true, header) ? ProxyParse::incomplete : ProxyParse::malformed;
  }
  if (!v1_line(line.substr(v1_start.size(), cr - v1_start.size()), false, header)) return ProxyParse::malformed;
  if (in.size() == cr + 1) return ProxyParse::incomplete;
  if (in[cr + 1] != '\n') return ProxyParse::malformed;
  used = cr + 2;
  out = std::move(header);
  return ProxyParse::complete;
}

/// Octets that the address block of `family` takes; nullopt for one that is refused.
std::optional<std::size_t> v2_addresses(std::uint8_t family) {
  switch (family) {
    case v2_unspecified:
      return 0;
    case v2_tcp4:
      return 12;
    case v2_tcp6:
      return 36;
  }
  return std::nullopt;
}

ProxyParse parse_v2(std::string_view in, std::size_t& used, ProxyHeader& out) {
  const auto octet = [&](std::size_t i) { return static_cast<std::uint8_t>(in[i]); };
  if (in.size() > 12 && octet(12) != v2_local && octet(12) != v2_proxy) return ProxyParse::malformed;
  const bool local = in.size() > 12 && octet(12) == v2_local;
  // The family of a LOCAL header is to be ignored, whatever it is.
  const auto block = in.size() > 13 && !local ? v2_addresses(octet(13)) : std::size_t{0};
  if (!block || (in.size() > 14 && octet(14) > v2_limit >> 8)) return ProxyParse::malformed;
  if (in.size() < v2_fixed) return ProxyParse::incomplete;
  const std::size_t length = big_endian(in.substr(14));
  if (length > v2_limit || length < *block) return ProxyParse::malformed;
  if (in.size() - v2_fixed < length) return ProxyParse::incomplete;
  ProxyHeader header;
  header.local = *block == 0;
  if (!header.local) {
    const std::size_t size = (*block - 4) / 2;
    const std::string_view addresses = in.substr(v2_fixed, *block);
    header.source = address_text(addresses.substr(0, size));
    header.destination = address_text(addresses.substr(size, size));
    header.source_port = big_endian(addresses.substr(2 * size));
    header.destination_port = big_endian(addresses.substr(2 * size + 2));
  }
  used = v2_fixed + length;
  out = std::move(header);
  return ProxyParse::complete;
}

std::optional<std::string> either_family(std::string_view text) {
  const auto v4 = address_bytes(AF_INET, text);
  return v4 ? v4 : address_bytes(AF_INET6, text);
}

}  // namespace

ProxyParse parse_proxy_header(std::string_view in, std::size_t& used, ProxyHeader& out) {
  if (in.starts_with(v1_start)) return parse_v1(in, used, out);
  if (in.starts_with(v2_start)) return parse_v2(in, used, out);
  return v1_start.starts_with(in) || v2_start.starts_with(in) ? ProxyParse::incomplete : ProxyParse::malformed;
}

std::string encode_proxy_v2(const ProxyHeader& header) {
  std::string out(v2_start);
  if (header.local) {
    out += static_cast<char>(v2_local);
    out += static_cast<char>(v2_unspecified);
    put_big_endian(out, 0);
    return out;
  }
  auto source = either_family(header.source);
  auto destination = either_family(header.destination);
  if (!source || !destination) return {};
  constexpr std::string_view mapped = "\0\0\0\0\0\0\0\0\0\0\xff\xff"sv;
  if (source->size() != destination->size())
    for (std::string* bytes : {&*source, &*destination})
      if (bytes->size() == 4) bytes->insert(0, mapped);
  out += static_cast<char>(v2_proxy);
  out += static_cast<char>(source->size() == 4 ? v2_tcp4 : v2_tcp6);
  put_big_endian(out, 2 * source->size() + 4);
  out += *source + *destination;
  put_big_endian(out, header.source_port);
  put_big_endian(out, header.destination_port);
  return out;
}

}  // namespace egret::smtp
