// The data files that are compiled into the program (config/*.yaml).
#pragma once

#include <string_view>

namespace egret::config {

extern const std::string_view shipped_blocklists;
extern const std::string_view shipped_providers;
extern const std::string_view shipped_replies;
extern const std::string_view shipped_smarthosts;

}  // namespace egret::config
