// xtext (RFC 3461 section 4): how values travel in MAIL and RCPT parameters, XCLIENT and XFORWARD.
//
// The decoder is the gate against smuggling by encoding: "+0D+0A" would become a line end in a log, a header or the next
// hop's dialog, so a value that decodes to a control character is no value at all.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace egret::smtp {

/// Every octet outside "!".."~", and '+' and '=', as "+XX" in upper case.
std::string xtext_encode(std::string_view bytes);

/// Strict: nullopt for an octet that must have been encoded, a '+' without two upper-case hexadecimal digits, and an
/// encoded C0 control or DEL. Encoded octets above 127 are given as they are: whether they are text is the caller's to
/// decide. The empty string is xtext.
std::optional<std::string> xtext_decode(std::string_view text);

}  // namespace egret::smtp
