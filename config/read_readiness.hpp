// Reads what is to be looked at beforehand: keys of smarthosts and pools.
#pragma once

#include <memory>

#include "config/readiness.hpp"
#include "config/tree.hpp"
#include "routing/route.hpp"

namespace egret::config {

/// The keys of a preset of config/smarthosts.yaml.
routing::EspRecords read_esp_records(Section& preset);

/// The keys of a smarthost, over what its preset says.
std::shared_ptr<const Readiness> read_readiness(Section& smarthost, const routing::EspRecords& preset);

/// `canary` of a pool; sources, fallback and when_exhausted are read already.
void read_canary(Section& s, routing::PoolInfo& pool);

}  // namespace egret::config
