// Reads what is configured about ESPs' webhooks.
#pragma once

#include <memory>
#include <string>

#include "config/config.hpp"
#include "config/tree.hpp"

namespace egret::config {

/// The section `events` of a smarthost with this preset; null where there is none.
std::shared_ptr<const EspEvents> read_esp_events(Section& smarthost, const std::string& preset);

/// The section `esp_events`. `config` holds the smarthosts already.
void read_event_listener(Section& root, Config& config);

}  // namespace egret::config
