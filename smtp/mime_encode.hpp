// The two content transfer encodings that carry 8-bit octets over a 7-bit path: quoted-printable and base64.
//
// Beyond RFC 2045 sections 6.7 and 6.8 the quoted-printable lines are made to survive what mail meets on its way: no
// line begins with ".", "From " or "--", so no encoded line can look like an end of data, an mbox separator or a
// multipart delimiter, whatever the content says.
#pragma once

#include <string>
#include <string_view>

namespace egret::smtp {

/// Appends `text` in quoted-printable (RFC 2045 section 6.7). CRLF stays a line break; a lone CR or LF is encoded, so
/// that every octet comes back. No line is longer than 76 octets. Ends with CRLF only if `text` does.
void append_quoted_printable(std::string_view text, std::string& out);

/// Appends `bytes` in base64 (RFC 2045 section 6.8), CRLF between lines of at most 76 octets and none after the last.
void append_base64_lines(std::string_view bytes, std::string& out);

}  // namespace egret::smtp
