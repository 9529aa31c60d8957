#include "relay/delivery/class_weights.hpp"

#include <algorithm>

namespace egret::relay {

ClassWeights::ClassWeights(const config::Config& config)
    : sources_(config.topology.sources.size(), 1), smarthosts_(config.topology.smarthosts.size(), 1) {
  const auto serve = [&](std::uint32_t pool, int weight) {
    for (const auto source : config.topology.pools[pool].sources) sources_[source] = std::max(sources_[source], weight);
    for (const auto host : config.topology.pools[pool].fallback) smarthosts_[host] = std::max(smarthosts_[host], weight);
  };
  for (const auto& one : config.classes) {
    weights_.push_back(one.weight);
    if (one.removed) continue;
    greatest_ = std::max(greatest_, one.weight);
    serve(one.pool, one.weight);
  }
  // `routes` send mail of any class to their pool.
  for (const auto& route : config.routes)
    if (route.pool) serve(*route.pool, greatest_);
}

bool ClassWeights::lesser_at(routing::EgressRef egress, std::uint32_t message_class) const {
  const auto& at = egress.kind == routing::EgressKind::source ? sources_ : smarthosts_;
  return egress.index < at.size() && of(message_class) < at[egress.index];
}

}  // namespace egret::relay
