// Reads the section about alerts.
#pragma once

#include "config/config.hpp"
#include "config/tree.hpp"

namespace egret::config {

/// `config` holds the classes already.
void read_alerts(Section& root, Config& config);

}  // namespace egret::config
