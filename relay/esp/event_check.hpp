// Whether a webhook request is an ESP's: judged over the octets that arrived, before anything in them is believed. Amazon SNS
// and Mailgun put the signature into the JSON itself: there the outer object is read first, within the parser's bounds, and
// what it says is used for nothing but the judgement.
//
// Functions on values: no sockets, no clock.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/esp_events.hpp"
#include "routing/types.hpp"
#include "smtp/webhook_signature.hpp"

namespace egret::relay {

struct EventRequest {
  routing::IpAddress client;
  std::vector<std::pair<std::string, std::string>> fields;  ///< of the header, as received
  std::string body;

  /// The first field of this name; empty when there is none.
  std::string_view field(std::string_view name) const;
};

/// Why a request is refused; part of metrics and events.
enum class EventRefusal {
  none,
  address,      ///< the client is not in `allow`
  credentials,  ///< password or secret
  signature,
  topic,      ///< of SNS: not ours
  url,        ///< SigningCertURL or SubscribeURL is not at Amazon SNS
  old,        ///< signed too long ago, or in the future
  replayed,   ///< the token was used before
  malformed,  ///< not what the maker documents
  path,       ///< no smarthost of this name takes events
  method,
  too_large,
};
std::string_view to_string(EventRefusal refusal);

/// SendGrid, Mailgun, Postmark, SparkPost. `token` receives what may be used once.
EventRefusal check_event_request(const config::EspEvents& settings, const EventRequest& request, routing::Time now,
                                 std::string& token);

/// The outer object of an SNS request; nullopt when it is none.
std::optional<smtp::SnsMessage> parse_sns(std::string_view body);
/// Everything but the signature: nothing is fetched for a message that would be refused anyway.
EventRefusal check_sns(const config::EspEvents& settings, const smtp::SnsMessage& message, routing::Time now);

}  // namespace egret::relay
