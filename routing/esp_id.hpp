// The name that an ESP gives to a message, from its reply to the final dot. Nobody's contract: what does not look like an id
// is none, and nothing depends on it but what people and later events are shown.
#pragma once

#include <string>
#include <string_view>

#include "smtp/reply.hpp"

namespace egret::routing {

/// `preset` is the smarthost's provider ("ses", "generic", ...). Empty when the reply names no id; at most 200 octets.
std::string esp_message_id(std::string_view preset, const smtp::Reply& reply);

}  // namespace egret::routing
