// Who is told what, and how (section `alerts`).
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "routing/types.hpp"
#include "smtp/address.hpp"

namespace egret::config {

/// Where a webhook is. Path and query may be a secret: only origin() is for logs.
struct WebhookUrl {
  bool tls = true;
  std::string host;  ///< lower case, without brackets
  std::uint16_t port = 443;
  std::string target = "/";  ///< path and query
  /// As in the Host field: without the scheme's own port.
  std::string authority() const;
  std::string origin() const { return (tls ? "https://" : "http://") + authority(); }
  bool operator==(const WebhookUrl&) const = default;
};
/// "https://hooks.example.com/x?y=z"; http only for loopback addresses and localhost. nullopt, and `why`, for anything
/// else: other schemes, user names, fragments, characters that have to be percent-encoded, more than 2048 octets.
std::optional<WebhookUrl> parse_webhook_url(std::string_view text, std::string& why);

struct Webhook {
  WebhookUrl url;
  std::string secret;                                   ///< key of the signature
  std::string ca;                                       ///< PEM file; empty: the system's store
  routing::Duration timeout{std::chrono::seconds(10)};  ///< of one attempt
  routing::Duration max_age{std::chrono::hours(1)};     ///< then it is no news: dropped
  bool operator==(const Webhook&) const = default;
};

struct AlertMail {
  smtp::Address to;
  std::optional<smtp::Address> from;  ///< header and envelope; none: egret@hostname, and the null sender
  std::uint32_t message_class = 0;    ///< index into classes
  bool operator==(const AlertMail&) const = default;
};

/// One entry of `alerts`: either a webhook or mail.
struct AlertTarget {
  std::optional<Webhook> webhook;
  std::optional<AlertMail> mail;
  std::set<std::string, std::less<>> on;  ///< kinds of events
  bool operator==(const AlertTarget&) const = default;
};

}  // namespace egret::config
