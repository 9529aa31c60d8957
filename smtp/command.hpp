// SMTP command lines (RFC 5321 section 4.1.1) as values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "smtp/address.hpp"
#include "smtp/dsn_parameters.hpp"

namespace egret::smtp {

enum class Verb {
  ehlo,
  helo,
  mail,
  rcpt,
  data,
  rset,
  noop,
  vrfy,
  expn,
  help,
  quit,
  starttls,
  auth,
  bdat,
  xclient,
  xforward,
  unknown
};

/// A command line split at its verb. `argument` points into the line that was parsed.
struct Command {
  Verb verb = Verb::unknown;
  std::string_view argument;
};

/// Splits a line without its CRLF. Never fails: what it does not know is Verb::unknown.
Command parse_command(std::string_view line);

enum class BodyType { seven_bit, eight_bit_mime };

/// MAIL FROM with its parameters (SIZE: RFC 1870, BODY: RFC 6152, SMTPUTF8: RFC 6531, RET and ENVID: RFC 3461). AUTH=
/// (RFC 4954 section 5) is checked and dropped: no client is trusted to name another author.
struct MailCommand {
  Address reverse_path;
  std::optional<std::uint64_t> size;
  BodyType body = BodyType::seven_bit;
  bool smtputf8 = false;
  DsnMail dsn;
};

/// RCPT TO with its parameters (NOTIFY and ORCPT: RFC 3461).
struct RcptCommand {
  Address forward_path;
  DsnRcpt dsn;
};

/// What is wrong with a MAIL or RCPT argument, as the reply to send.
struct CommandError {
  int code;
  std::string text;
};

/// `argument` is what follows "MAIL", e.g. "FROM:<a@example.com> SIZE=100".
std::optional<CommandError> parse_mail(std::string_view argument, MailCommand& out);
/// `utf8` is whether this transaction carries SMTPUTF8.
std::optional<CommandError> parse_rcpt(std::string_view argument, bool utf8, RcptCommand& out);

}  // namespace egret::smtp
