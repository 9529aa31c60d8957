// Reads the section about alerts.
#pragma once

#include "config/config.hpp"
#include "config/tree.hpp"

namespace egret::config {

/// A webhook's keys: `url`, and secret, ca, timeout and max_age of the section.
Webhook read_webhook(Section& s, const std::string& url);

/// `config` holds the classes already.
void read_alerts(Section& root, Config& config);

}  // namespace egret::config
