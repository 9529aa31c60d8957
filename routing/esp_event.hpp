// What ESPs report about mail that they took, in one schema: JSON of five makers in, normalised events out. What is no news
// about a recipient's delivery (opened, clicked, processed) is left out. Sources: the makers' documentation of their event
// webhooks (SES "Contents of event data that Amazon SES publishes", SendGrid "Event webhook reference", Mailgun "Event
// structure", Postmark "Webhooks", SparkPost "Event reference").
//
// Pure. The octets are remote data, however well they are signed: whatever is missing, of another type or too long makes an
// event less, never an exception.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "routing/types.hpp"

namespace egret::routing {

enum class EspFormat { ses, sendgrid, mailgun, postmark, sparkpost };
std::string_view to_string(EspFormat format);
std::optional<EspFormat> parse_esp_format(std::string_view name);

enum class EspEventKind {
  delivered,   ///< the receiver took it
  bounced,     ///< it came back, or the ESP gave it up
  complained,  ///< the recipient called it spam
  suppressed,  ///< the ESP did not even try: the recipient is on its list
  deferred,    ///< not yet
};
std::string_view to_string(EspEventKind kind);
std::optional<EspEventKind> parse_esp_event_kind(std::string_view name);

struct EspEvent {
  EspEventKind kind = EspEventKind::delivered;
  std::vector<std::string> esp_ids;  ///< the ESP's names for the message, the likeliest first; at most 200 octets each
  std::string recipient;             ///< as reported; at most 320 octets
  Time time{};                       ///< when it happened, by the ESP's clock
  std::string diagnostic;            ///< the receiver's reply or the ESP's reason, printable, at most 1000 octets
  std::string status;                ///< "5.1.1", where it is given
  bool permanent = false;            ///< nobody will try this message again: it is lost to this recipient
  std::string our_id;                ///< the value of our tag; empty where there is none
  std::string key;                   ///< the same when the same event is reported again
};

struct EspBatch {
  std::vector<EspEvent> events;
  bool malformed = false;    ///< not JSON, or not of this maker's form
  std::size_t left_out = 0;  ///< entries that are no news about delivery, or not understood
};

inline constexpr std::size_t max_esp_events = 5000;  ///< of one request; SendGrid and SparkPost send batches

/// `body` is the request's, or for SES the text of SNS's Message. `now` stands in for a time that is not given.
EspBatch parse_esp_events(EspFormat format, std::string_view body, Time now);

/// "2026-11-22T03:14:15.926Z", with or without fraction, with offset; nullopt otherwise.
std::optional<Time> parse_rfc3339(std::string_view text);

}  // namespace egret::routing
