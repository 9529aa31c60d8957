// Our message id, where the ESP repeats it in its events: a field of the header that it takes as an order and takes out.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/config.hpp"
#include "smtp/trace.hpp"

namespace egret::relay {

/// The field to add, or nullopt: where no events are taken, where the configuration has such a field of its own (`headers:
/// add` or `keep` of the smarthost), or lets the application's through (`strip`): two orders are never merged.
std::optional<std::pair<std::string, std::string>> esp_tag(const config::Smarthost& host, const std::vector<std::string>& strip,
                                                           smtp::MessageId id);

}  // namespace egret::relay
