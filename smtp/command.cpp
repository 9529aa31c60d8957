#include "smtp/command.hpp"

#include <array>
#include <charconv>
#include <utility>

#include "smtp/text.hpp"
#include "smtp/xtext.hpp"

namespace egret::smtp {
namespace {

constexpr std::array<std::pair<std::string_view, Verb>, 16> verbs{{{"EHLO", Verb::ehlo},
                                                                   {"HELO", Verb::helo},
                                                                   {"MAIL", Verb::mail},
                                                                   {"RCPT", Verb::rcpt},
                                                                   {"DATA", Verb::data},
                                                                   {"RSET", Verb::rset},
                                                                   {"NOOP", Verb::noop},
                                                                   {"VRFY", Verb::vrfy},
                                                                   {"EXPN", Verb::expn},
                                                                   {"HELP", Verb::help},
                                                                   {"QUIT", Verb::quit},
                                                                   {"STARTTLS", Verb::starttls},
                                                                   {"AUTH", Verb::auth},
                                                                   {"BDAT", Verb::bdat},
                                                                   {"XCLIENT", Verb::xclient},
                                                                   {"XFORWARD", Verb::xforward}}};

/// Takes the next parameter "KEY" or "KEY=VALUE" off the front of `text`; false at the end.
bool next_parameter(std::string_view& text, std::string_view& key, std::string_view& value) {
  const std::size_t start = text.find_first_not_of(' ');
  if (start == std::string_view::npos) return false;
  std::string_view word = text.substr(start, text.find(' ', start) - start);
  text.remove_prefix(start + word.size());
  const std::size_t equals = word.find('=');
  key = word.substr(0, equals);
  value = equals == std::string_view::npos ? std::string_view{} : word.substr(equals + 1);
  return true;
}

/// A keyword that is known with a value that is not (RFC 3461 section 4.2, RFC 4954 section 5).
CommandError bad_value(std::string_view key) {
  return {501, "5.5.4 malformed value of " + printable(key.substr(0, 40))};
}

CommandError bad_parameter(std::string_view key) {
  return {555, "5.5.4 parameter " + printable(key.substr(0, 40)) + " not recognised or malformed"};
}

std::optional<CommandError> mail_parameter(std::string_view key, std::string_view value, MailCommand& out) {
  if (iequals(key, "SIZE")) {
    std::uint64_t size = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), size);
    if (error != std::errc{} || end != value.data() + value.size()) return bad_parameter(key);
    out.size = size;
  } else if (iequals(key, "BODY")) {
    if (iequals(value, "8BITMIME")) {
      out.body = BodyType::eight_bit_mime;
    } else if (!iequals(value, "7BIT")) {
      return bad_parameter(key);
    }
  } else if (iequals(key, "SMTPUTF8") && value.empty()) {
    out.smtputf8 = true;
  } else if (iequals(key, "ENVID")) {
    if (!parse_envid(value, out.dsn)) return bad_value(key);
  } else if (iequals(key, "RET")) {
    if (!parse_ret(value, out.dsn)) return bad_value(key);
  } else if (iequals(key, "AUTH")) {
    if (value != "<>" && !xtext_decode(value)) return bad_value(key);
  } else {
    return bad_parameter(key);
  }
  return std::nullopt;
}

std::optional<CommandError> rcpt_parameter(std::string_view key, std::string_view value, RcptCommand& out) {
  const bool notify = iequals(key, "NOTIFY");
  if (!notify && !iequals(key, "ORCPT")) return bad_parameter(key);
  if (notify ? parse_notify(value, out.dsn) : parse_orcpt(value, out.dsn)) return std::nullopt;
  return bad_value(key);
}

}  // namespace

Command parse_command(std::string_view line) {
  line = line.substr(0, line.find_last_not_of(" \t") + 1);
  const std::size_t space = line.find(' ');
  const std::string_view word = line.substr(0, space);
  Command out;
  for (const auto& [name, verb] : verbs)
    if (iequals(word, name)) out.verb = verb;
  if (space != std::string_view::npos) out.argument = line.substr(space + 1);
  return out;
}

std::optional<CommandError> parse_mail(std::string_view argument, MailCommand& out) {
  if (!istarts_with(argument, "FROM:")) return CommandError{501, "5.5.4 syntax: MAIL FROM:<address>"};
  argument.remove_prefix(5);
  // SMTPUTF8 follows the path that it makes legal, so the path is parsed liberally and checked afterwards.
  const auto path = parse_path(argument, true);
  if (!path || (!argument.empty() && argument.front() != ' ')) return CommandError{501, "5.1.7 malformed sender address"};
  out.reverse_path = *path;
  std::string_view key, value;
  while (next_parameter(argument, key, value))
    if (auto error = mail_parameter(key, value, out)) return error;
  if (!out.smtputf8 && !out.reverse_path.ascii()) return CommandError{553, "5.6.7 address needs SMTPUTF8"};
  return std::nullopt;
}

std::optional<CommandError> parse_rcpt(std::string_view argument, bool utf8, RcptCommand& out) {
  if (!istarts_with(argument, "TO:")) return CommandError{501, "5.5.4 syntax: RCPT TO:<address>"};
  argument.remove_prefix(3);
  const auto path = parse_path(argument, true);
  if (!path || path->null() || (!argument.empty() && argument.front() != ' '))
    return CommandError{501, "5.1.3 malformed recipient address"};
  std::string_view key, value;
  while (next_parameter(argument, key, value))
    if (auto error = rcpt_parameter(key, value, out)) return error;
  if (!utf8 && !path->ascii()) return CommandError{553, "5.6.7 address needs SMTPUTF8"};
  out.forward_path = *path;
  return std::nullopt;
}

}  // namespace egret::smtp
