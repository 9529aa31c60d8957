// Reads the section about the brakes.
#pragma once

#include "config/config.hpp"
#include "config/tree.hpp"

namespace egret::config {

/// `config` holds the topology already: observing is the default where standings are only observed.
void read_brakes(Section& root, Config& config);

}  // namespace egret::config
