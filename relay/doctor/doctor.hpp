// `egret doctor`: the outside world as the configuration needs it, looked at once. DNS servers, sources, blocklists, smarthosts
// and what sender domains publish. It sends DNS queries and logs in to smarthosts, and never a message; it needs no running
// egret.
#pragma once

#include <string>
#include <vector>

#include "config/config.hpp"
#include "relay/doctor/check.hpp"

namespace egret::relay::doctor {

/// Runs every check and returns what they found, in a fixed order. Sender domains are `domains` (A-labels, lower-case) and those
/// that the configuration signs for. Blocks, for some seconds; blocklists are asked in the pace that the configuration allows.
/// Throws std::runtime_error when nothing can be checked at all (no resolver, unreadable certification authorities).
Checks run(const config::Config& config, const std::vector<std::string>& domains);

}  // namespace egret::relay::doctor
