// The DSN for a message that an ESP took and could not deliver (RFC 3464). The body is gone by then: the report says who,
// when and why, and has no third part.
#pragma once

#include <optional>
#include <string>

#include "relay/esp/esp_store.hpp"
#include "smtp/dsn.hpp"

namespace egret::relay {

/// Nullopt where the record belongs to no message, or the message to no sender. `esp_host` is the host that took it.
std::optional<smtp::DsnInput> bounce_report(const EspRecord& record, const std::string& hostname, const std::string& esp_host,
                                            smtp::MessageId dsn_id, routing::Time now);

}  // namespace egret::relay
