// One configuration after another in a running program. What refers to sources, smarthosts, pools and classes does so
// by index, and much of it outlives the configuration it was made under: waiting messages, standings, counters. So the
// next configuration takes over the indices of the one before it, and what it no longer names stays as a gravestone.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "config/config.hpp"

namespace egret::config {

/// `next` with the indices of `previous`, one version later. A source is the same while its name and its public address
/// are (that is what its reputation belongs to), a smarthost while its name, preset and host are, pools and classes by their
/// names. What is gone is marked `removed`; a removed class takes the pool of the first one. Pure.
std::shared_ptr<const Config> succeed(const Config& previous, const Config& next);

/// Keys whose change shows only after a restart: "data_dir", "threads", "spool", ... Empty when there are none.
std::vector<std::string> needing_restart(const Config& previous, const Config& next);

}  // namespace egret::config
