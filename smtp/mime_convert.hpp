// Turns an 8-bit MIME message into a 7-bit one for a receiver that does not offer 8BITMIME (RFC 6152 section 3).
//
// Decides part by part what is encoded and how (RFC 2045 section 6), and which messages cannot be converted at all:
// those are for a bounce with status 5.6.3. What holds no 8-bit octet is never touched, label included, so that
// signatures over such parts stay valid; a DKIM signature over the whole has to be made after the conversion.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace egret::smtp {

/// Bounds of what is converted; beyond them the message is refused.
constexpr int max_mime_depth = 20;                        ///< levels of parts, the message itself and the leaf included
constexpr int max_mime_parts = 10'000;                    ///< body parts of all multiparts that hold 8-bit octets
constexpr int max_mime_growth = 4;                        ///< the result is at most so many times the size of the message...
constexpr std::size_t mime_growth_allowance = 64 * 1024;  ///< ...plus this many octets

/// `message` is header and body with CRLF line ends, not dot-stuffed; so is the result, all of whose octets are 7-bit.
/// A text part becomes quoted-printable, any other part base64; 8-bit octets around the parts of a multipart, which
/// nobody reads, become '?'. A message without a Content-Type is called text/plain in utf-8, or else in unknown-8bit
/// (RFC 1428). nullopt when it cannot be converted; then `why` is a short reason fit for a DSN.
std::optional<std::string> to_seven_bit(std::string_view message, std::string& why);

}  // namespace egret::smtp
