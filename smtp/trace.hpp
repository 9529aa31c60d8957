// Trace header fields (RFC 5321 section 4.4), dates (RFC 5322 section 3.3) and message ids.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace egret::smtp {

/// A message's id inside Egret: milliseconds since 1970 in the upper 44 bits, a sequence in the lower 20. Unique
/// within one spool, ordered by acceptance.
enum class MessageId : std::uint64_t {};

/// 13 characters of base 32 without the letters that are mistaken for digits; ordered like the ids.
std::string to_string(MessageId id);
std::optional<MessageId> parse_message_id(std::string_view text);

/// "Sun, 22 Nov 2026 03:14:15 +0000". UTC always.
std::string rfc5322_date(std::chrono::system_clock::time_point time);

/// The protocol keywords are those of RFC 3848 and RFC 6531 section 4.3.
struct TraceInfo {
  std::string helo;      ///< as the client said, already validated
  std::string client;    ///< address in text form
  std::string hostname;  ///< ours
  MessageId id{};
  bool esmtp = true;
  bool tls = false;
  bool authenticated = false;
  bool utf8 = false;
  std::string recipient;  ///< named only when the message has exactly one; else empty
  std::chrono::system_clock::time_point time;
};

/// A complete Received field, folded, with CRLF. No line exceeds 998 octets.
std::string received_field(const TraceInfo& info);

}  // namespace egret::smtp
