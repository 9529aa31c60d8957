// What ESPs tell by webhook: where they arrive (section esp_events), and how each smarthost's are known to be genuine
// (smarthosts.NAME.events).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "config/alerts.hpp"
#include "routing/address.hpp"
#include "routing/esp_event.hpp"
#include "routing/types.hpp"
#include "smtp/webhook_signature.hpp"

namespace egret::config {

/// smarthosts.NAME.events. Which of the keys are there depends on the format.
struct EspEvents {
  routing::EspFormat format = routing::EspFormat::ses;
  std::vector<std::string> topics;                     ///< ses: ARNs that are believed; never empty there
  std::string certificate;                             ///< ses: PEM text that replaces what SigningCertURL names; or empty
  std::shared_ptr<const smtp::VerifyingKey> key;       ///< sendgrid: the account's; ses: that of `certificate`, or null
  std::string signing_key;                             ///< mailgun
  std::string username, password;                      ///< postmark, sparkpost: basic authentication; or empty
  std::string header, secret;                          ///< postmark, sparkpost: a field and its value; or empty
  std::vector<routing::Network> allow;                 ///< who may connect; empty: everybody
  routing::Duration max_age{std::chrono::minutes(5)};  ///< what was signed longer ago is refused; ses: 1 hour
  bool tag = true;                                     ///< our message id travels along, in a field of the ESP's
  bool dsn = true;                                     ///< senders are told of bounces
};

/// Where events are sent on to.
struct EventForward {
  Webhook webhook;
  std::set<routing::EspEventKind> on;
  bool operator==(const EventForward&) const = default;
};

/// Section esp_events.
struct EventListener {
  std::string address;  ///< as written
  routing::IpAddress ip;
  std::uint16_t port = 0;
  std::string certificate, key;  ///< PEM files; empty: plain HTTP, on loopback
  routing::Duration retention{std::chrono::hours(7 * 24)};
  int max_recipients = 1'000'000;  ///< handovers remembered at most; the oldest go first
  std::optional<EventForward> forward;
};

}  // namespace egret::config
