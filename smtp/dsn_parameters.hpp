// The parameters of the DSN extension (RFC 3461 section 4): RET and ENVID of MAIL, NOTIFY and ORCPT of RCPT.
//
// They are kept as the client wrote them, because a relay passes them on unchanged (section 5.2). What they decode to
// stands in reports and logs, so it must be text without controls before the command is taken. An ORCPT of RFC 6533
// section 3 in raw UTF-8 is rewritten to its 7-bit form, which every next hop takes.
#pragma once

#include <string>
#include <string_view>

namespace egret::smtp {

struct DsnMail {
  enum class Ret { none, full, headers };

  std::string envid;  ///< xtext as received, at most 100 octets; empty: not given
  Ret ret = Ret::none;

  bool operator==(const DsnMail&) const = default;
};

struct DsnRcpt {
  bool never = false;  ///< excludes the next three
  bool success = false;
  bool failure = false;
  bool delay = false;
  bool notify_given = false;  ///< without NOTIFY the default applies: failure, and delay if the relay likes
  std::string orcpt;          ///< "addr-type;xtext", at most 500 octets, decodable by xtext_decode; empty: not given

  bool operator==(const DsnRcpt&) const = default;
};

/// Each takes the value after "KEYWORD=" and is false for one that is malformed or was given before; `out` is unchanged
/// then. The reply to that is 501 5.5.4.
bool parse_envid(std::string_view value, DsnMail& out);
bool parse_ret(std::string_view value, DsnMail& out);
/// NEVER stands alone. A keyword that is repeated in the list says nothing new and is tolerated.
bool parse_notify(std::string_view value, DsnRcpt& out);
bool parse_orcpt(std::string_view value, DsnRcpt& out);

/// What to append to MAIL, with a leading blank: " RET=HDRS ENVID=QQ314159". Empty when nothing was given.
std::string mail_parameters(const DsnMail& dsn);
/// What to append to RCPT: " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Dana@Ivory.EDU". Empty when nothing was given.
std::string rcpt_parameters(const DsnRcpt& dsn);

}  // namespace egret::smtp
