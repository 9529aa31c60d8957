// Small text helpers shared by the layers: ASCII case, cleaning of remote text, base64, splitting.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace egret::smtp {

/// ASCII only: SMTP keywords and domain A-labels never need a locale.
std::string lower(std::string_view text);
bool iequals(std::string_view a, std::string_view b);
bool istarts_with(std::string_view text, std::string_view prefix);

/// `text` without leading and trailing blanks, tabs, CR and LF.
std::string_view trim(std::string_view text);

/// Remote text made fit for logs, DSNs and our own replies: control characters (C0, DEL, C1) become '?', bytes
/// that are not part of valid UTF-8 too.
std::string printable(std::string_view text);

/// At most `limit` octets of `text`, never ending inside a UTF-8 character.
std::string_view cut_text(std::string_view text, std::size_t limit);

/// True for structurally valid UTF-8 (no overlong forms, no surrogates).
bool valid_utf8(std::string_view text);

/// RFC 4648 base64 with padding.
std::string base64_encode(std::string_view bytes);
/// Strict: no white space, right padding; nullopt otherwise.
std::optional<std::string> base64_decode(std::string_view text);

/// Shell-style match with '*' only, ASCII case-insensitive ("X-SES-*").
bool glob_match(std::string_view pattern, std::string_view text);

}  // namespace egret::smtp
