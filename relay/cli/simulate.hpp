// `egret simulate`: a day of traffic and troubles against a configuration, in seconds and without network.
#pragma once

#include <cstdint>
#include <string>

namespace egret::relay {

/// Runs the scenario in the file with the configuration and prints what would have happened. The exit code: 0, or 1
/// with every problem of either file on standard error.
int simulate_command(const std::string& scenario, const std::string& configuration, std::uint64_t seed, bool as_json);

}  // namespace egret::relay
