// `egret doctor`: prints what relay/doctor finds.
#pragma once

#include <string>
#include <vector>

#include "config/config.hpp"

namespace egret::relay {

/// `domains` are sender domains besides those that the configuration signs for. 0 when nothing fails, else 1. Throws
/// std::runtime_error on a domain that is none.
int doctor_command(const config::Config& config, const std::vector<std::string>& domains, bool as_json);

}  // namespace egret::relay
