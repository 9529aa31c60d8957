// What is remembered of recipients that a smarthost took, made of a delivery.
#pragma once

#include <cstdint>
#include <vector>

#include "config/config.hpp"
#include "relay/delivery/connection.hpp"
#include "relay/delivery/job.hpp"
#include "relay/esp/esp_store.hpp"

namespace egret::relay {

/// Empty where no events come from this smarthost. `delivered` are indices into the message's recipients.
std::vector<Handover> handovers_of(const config::Config& config, const Job& job, const std::vector<std::uint32_t>& delivered,
                                   const AttemptResult& result, routing::Time time);

}  // namespace egret::relay
