// XCLIENT and XFORWARD, the extensions by which Postfix tells the next server who its own client was.
//
// XCLIENT replaces the client that we see: it decides about access, and only listed peers may send it. XFORWARD is for
// the log alone, and brings the origin's queue id. Every value is checked here, since it ends in logs and trace fields:
// text without controls, an address that is one, a port that is one.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace egret::smtp {

/// nullopt: not given. The empty string: cleared, the sender does not know ("[UNAVAILABLE]" or "[TEMPUNAVAIL]"). Values
/// are decoded; those that are not enumerated are valid UTF-8 without controls but may hold blanks and brackets.
struct ForwardedAttributes {
  std::optional<std::string> name;      ///< host name by reverse lookup, at most 255 octets
  std::optional<std::string> addr;      ///< canonical text, without "IPV6:"
  std::optional<std::string> port;      ///< decimal, 1..65535
  std::optional<std::string> proto;     ///< XCLIENT: "SMTP" or "ESMTP"; XFORWARD: any protocol's name, at most 64 octets
  std::optional<std::string> helo;      ///< at most 255 octets
  std::optional<std::string> login;     ///< at most 255 octets
  std::optional<std::string> destaddr;  ///< as `addr`
  std::optional<std::string> destport;  ///< as `port`
  std::optional<std::string> ident;     ///< the origin's queue id, at most 255 octets
  std::optional<std::string> source;    ///< "LOCAL" or "REMOTE"

  bool operator==(const ForwardedAttributes&) const = default;
};

enum class ForwardCommand { xclient, xforward };

/// What stands behind the keyword in the reply to EHLO.
inline constexpr std::string_view xclient_attributes = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT";
inline constexpr std::string_view xforward_attributes = "NAME ADDR PORT PROTO HELO IDENT SOURCE";

/// `argument` is what follows the verb, e.g. "NAME=mail.example ADDR=192.0.2.1". Gives the text of the 501 reply, and
/// leaves `out` alone then; nullopt when all was taken. Attributes that are given replace those in `out`, others stay:
/// Postfix spreads XFORWARD over several commands, so the session keeps one value for the transaction and passes it to
/// each. After XCLIENT the session starts anew at the greeting, still with this client. Of an attribute that stands
/// twice in one command the last counts.
std::optional<std::string> parse_forwarded(ForwardCommand command, std::string_view argument, ForwardedAttributes& out);

}  // namespace egret::smtp
