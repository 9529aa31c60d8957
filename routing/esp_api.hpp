// What an ESP's HTTP API answers to a message, as the SMTP reply that would say the same: so that the rules of
// config/replies.yaml, blame and everything behind them judge both ways alike. The words are the ESP's: "Name: message (HTTP
// 400)". Answers are hostile until read here: bounded, JSON or not.
//   SES API v2, SendEmail "Errors" and "Common Errors"; Mailgun "API Response Codes"; SparkPost "Errors".
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "routing/types.hpp"
#include "smtp/client_session.hpp"

namespace egret::routing {

/// A response as far as it matters.
struct ApiResponse {
  unsigned status = 0;           ///< 200 to 599
  std::string_view error_type;   ///< X-Amzn-ErrorType
  std::string_view retry_after;  ///< Retry-After
  std::string_view body;
};

struct ApiVerdict {
  /// About every recipient. A success names the message in the words of which esp_message_id() knows it.
  smtp::RecipientOutcome outcome;
  /// A gateway lost its server's answer, or gave one of its own: nobody knows whether the message was taken.
  bool ambiguous = false;
  /// One of several recipients was refused, and the rest with it, and which is not said: each has to be tried on its own.
  bool one_by_one = false;
  /// How long not to come back, when the ESP says so; at most a day.
  Duration retry_after{0};
};

/// `preset` is "ses", "mailgun", "mailgun-eu", "sparkpost" or "sparkpost-eu".
ApiVerdict read_api_answer(std::string_view preset, const ApiResponse& response, std::size_t recipients);

/// What SES says of the account (GetAccount).
struct SesAccount {
  double max_24h = 0;       ///< recipients a day; negative: without a limit
  double sent_24h = 0;      ///< in the last 24 hours
  double max_rate = 0;      ///< recipients a second
  bool production = true;   ///< false: in the sandbox, to verified recipients only
  bool sending = true;      ///< false: nothing may be sent
  std::string enforcement;  ///< HEALTHY, PROBATION, SHUTDOWN
  bool operator==(const SesAccount&) const = default;

  bool used_up() const { return max_24h >= 0 && sent_24h >= max_24h; }
  bool paused() const { return !sending || enforcement == "SHUTDOWN"; }
};

/// False when the text is not GetAccount's answer.
bool read_ses_account(std::string_view body, SesAccount& out);

}  // namespace egret::routing
