// What an ESP's HTTP API is used for: mail may go by it, and Amazon says by it how the account stands.
#pragma once

#include <cstdint>
#include <string>

#include "routing/types.hpp"

namespace egret::config {

/// The APIs that take a message as it is (RFC 5322). Others want it in parts, and would make another one of it.
enum class HttpApiKind {
  ses,        ///< SES API v2: SendEmail, GetAccount
  mailgun,    ///< messages.mime
  sparkpost,  ///< transmissions with content.email_rfc822
};

struct HttpApi {
  HttpApiKind kind = HttpApiKind::ses;
  bool delivers = false;  ///< mail goes by it; else by SMTP
  bool tls = true;        ///< false for loopback only
  std::string host;       ///< without brackets
  std::uint16_t port = 443;
  std::string region;                                  ///< SES
  std::string domain;                                  ///< Mailgun: in whose name it sends
  std::string user;                                    ///< SES: access key id; Mailgun: user name
  std::string secret;                                  ///< secret access key, or API key
  routing::Duration timeout{std::chrono::minutes(2)};  ///< for the answer to a request that was sent
  routing::Duration poll_account{0};                   ///< how often SES is asked about the account; 0: never
  /// As in the Host field: without the scheme's own port.
  std::string authority() const {
    const std::string name = host.find(':') == std::string::npos ? host : '[' + host + ']';
    return port == (tls ? 443 : 80) ? name : name + ':' + std::to_string(port);
  }
  bool operator==(const HttpApi&) const = default;
};

}  // namespace egret::config
