#include "config/units.hpp"

#include <charconv>
#include <limits>

namespace egret::config {
namespace {

/// A number without sign at the front of `text`, which is left at what follows it.
std::optional<std::uint64_t> take_number(std::string_view& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end == text.data()) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

std::optional<std::int64_t> unit_ms(std::string_view unit) {
  if (unit == "ms") return 1;
  if (unit == "s") return 1000;
  if (unit == "m") return 60'000;
  if (unit == "h") return 3'600'000;
  if (unit == "d") return 86'400'000;
  return std::nullopt;
}

}  // namespace

std::optional<routing::Duration> parse_duration(std::string_view text) {
  if (text == "0") return routing::Duration{0};
  const auto number = take_number(text);
  const auto unit = unit_ms(text);
  // Ten years is more than any duration here can mean, and far from overflow.
  if (!number || !unit || *number > static_cast<std::uint64_t>(315'360'000'000 / *unit)) return std::nullopt;
  return routing::Duration{static_cast<std::int64_t>(*number) * *unit};
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
  const auto number = take_number(text);
  if (!number || text.size() > 1) return std::nullopt;
  unsigned shift = 0;
  if (text == "K" || text == "k")
    shift = 10;
  else if (text == "M")
    shift = 20;
  else if (text == "G")
    shift = 30;
  else if (text == "T")
    shift = 40;
  else if (!text.empty())
    return std::nullopt;
  if (*number > (std::numeric_limits<std::int64_t>::max() >> shift)) return std::nullopt;
  return *number << shift;
}

std::optional<routing::Budget> parse_budget(std::string_view text) {
  const auto number = take_number(text);
  if (!number || text.size() != 2 || text[0] != '/') return std::nullopt;
  const auto unit = unit_ms(text.substr(1));
  if (!unit) return std::nullopt;
  return routing::Budget{*number, routing::Duration{*unit}};
}

std::optional<double> parse_share(std::string_view text) {
  const bool percent = text.ends_with('%');
  if (percent) text.remove_suffix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  if (percent) value /= 100;
  if (!(value >= 0 && value <= 1)) return std::nullopt;
  return value;
}

std::optional<HostPort> parse_host_port(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string_view host = text.substr(0, colon), digits = text.substr(colon + 1);
  const auto port = take_number(digits);
  if (!port || !digits.empty() || *port > 65535) return std::nullopt;
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return std::nullopt;
  }
  if (host.empty()) return std::nullopt;
  return HostPort{std::string(host), static_cast<std::uint16_t>(*port)};
}

}  // namespace egret::config
