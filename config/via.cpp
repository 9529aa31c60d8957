// The `via` of a source: a proxy's URL.
#include <charconv>

#include "config/config.hpp"
#include "config/units.hpp"

namespace egret::config {
namespace {

std::optional<std::string> percent_decode(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    unsigned value = 0;
    if (i + 3 > text.size()) return std::nullopt;
    const char* end = text.data() + i + 3;
    if (std::from_chars(text.data() + i + 1, end, value, 16).ptr != end) return std::nullopt;
    out += static_cast<char>(value);
    i += 2;
  }
  return out;
}

std::optional<smtp::Socks5Login> parse_login(std::string_view text) {
  const std::size_t colon = text.find(':');
  const auto user = percent_decode(text.substr(0, colon));
  const auto password = percent_decode(colon == std::string_view::npos ? std::string_view{} : text.substr(colon + 1));
  if (!user || !password || user->empty() || user->size() > 255 || password->size() > 255) return std::nullopt;
  return smtp::Socks5Login{*user, *password};
}

}  // namespace

std::optional<Via> parse_via(std::string_view text) {
  Via out;
  const std::size_t scheme = text.find("://");
  if (scheme == std::string_view::npos) return std::nullopt;
  if (text.substr(0, scheme) == "haproxy")
    out.kind = Via::Kind::haproxy;
  else if (text.substr(0, scheme) != "socks5")
    return std::nullopt;
  text.remove_prefix(scheme + 3);
  if (const std::size_t at = text.rfind('@'); at != std::string_view::npos) {
    out.login = parse_login(text.substr(0, at));
    if (!out.login || out.kind == Via::Kind::haproxy) return std::nullopt;
    text.remove_prefix(at + 1);
  }
  const auto host = parse_host_port(text);
  const auto ip = host ? routing::IpAddress::parse(host->host) : std::nullopt;
  if (!ip || host->port == 0) return std::nullopt;
  out.ip = *ip;
  out.port = host->port;
  return out;
}

}  // namespace egret::config
