// Units of the configuration: durations `500ms 30s 5m 2h 1d`, sizes `50M` (2^20), rates `500/h`, shares `25%`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "routing/budget.hpp"
#include "routing/types.hpp"

namespace egret::config {

std::optional<routing::Duration> parse_duration(std::string_view text);
std::optional<std::uint64_t> parse_size(std::string_view text);
/// "50000/d": recipients in each period of s, m, h or d.
std::optional<routing::Budget> parse_budget(std::string_view text);
/// "25%" or "0.25"; 0 to 1.
std::optional<double> parse_share(std::string_view text);

struct HostPort {
  std::string host;  ///< without brackets
  std::uint16_t port = 0;
  bool operator==(const HostPort&) const = default;
};
/// "10.0.0.9:25", "[::1]:25", "smtp.example.net:587".
std::optional<HostPort> parse_host_port(std::string_view text);

}  // namespace egret::config
