// MAIL and RCPT commands: whatever is taken can be written again and is read as the same.
#include "smtp/command.hpp"

#include "smtp/text.hpp"
#include "smtp/xtext.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace egret::fuzz {
namespace {

using namespace smtp;

void check_error(const CommandError& error) {
  require(error.code >= 500 && error.code <= 555, "a malformed command is refused for good");
  require(one_line(error.text) && valid_utf8(error.text) && error.text.size() < 200, "the text of a refusal fits a reply line");
}

void check_address(const Address& address) {
  require(address.local.size() <= 64 && address.domain.size() <= 253, "an address has the lengths of RFC 5321");
  require(address.local.empty() == address.domain.empty(), "an address has both parts or none");
  require(one_line(address.to_string()) && valid_utf8(address.to_string()), "an address can stand in a command");
}

bool same(const MailCommand& a, const MailCommand& b) {
  return a.reverse_path == b.reverse_path && a.size == b.size && a.body == b.body && a.smtputf8 == b.smtputf8 && a.dsn == b.dsn;
}

std::string written(const MailCommand& mail) {
  std::string out = "FROM:<" + mail.reverse_path.to_string() + ">";
  if (mail.size) out += " SIZE=" + std::to_string(*mail.size);
  if (mail.body == BodyType::eight_bit_mime) out += " BODY=8BITMIME";
  if (mail.smtputf8) out += " SMTPUTF8";
  return out + mail_parameters(mail.dsn);
}

void check_mail(std::string_view argument) {
  MailCommand mail;
  if (const auto error = parse_mail(argument, mail)) return check_error(*error);
  check_address(mail.reverse_path);
  require(mail.smtputf8 || mail.reverse_path.ascii(), "a sender beyond ASCII needs SMTPUTF8");
  MailCommand again;
  require(!parse_mail(written(mail), again), "MAIL is taken as it was written");
  require(same(mail, again), "MAIL means the same when it was written again");
}

void check_rcpt(std::string_view argument) {
  RcptCommand with_utf8, plain;
  const auto error = parse_rcpt(argument, true, with_utf8);
  const auto plain_error = parse_rcpt(argument, false, plain);
  if (plain_error) check_error(*plain_error);
  require(plain_error || !error, "what is taken without SMTPUTF8 is taken with it");
  if (error) return;
  check_address(with_utf8.forward_path);
  require(!with_utf8.forward_path.null(), "a recipient is never the null address");
  require(plain_error.has_value() != with_utf8.forward_path.ascii(), "only ASCII recipients need no SMTPUTF8");
  RcptCommand again;
  const std::string text = "TO:<" + with_utf8.forward_path.to_string() + ">" + rcpt_parameters(with_utf8.dsn);
  require(!parse_rcpt(text, true, again), "RCPT is taken as it was written");
  require(with_utf8.forward_path == again.forward_path && with_utf8.dsn == again.dsn,
          "RCPT means the same when it was written again");
}

}  // namespace
}  // namespace egret::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace egret;
  const std::string line(reinterpret_cast<const char*>(data), size);
  const smtp::Command command = smtp::parse_command(line);
  fuzz::require(command.argument.empty() || (command.argument.data() > line.data() &&
                                             command.argument.data() + command.argument.size() <= line.data() + line.size()),
                "the argument lies in the line");
  fuzz::require(smtp::parse_command(smtp::lower(line)).verb == command.verb, "verbs are known in any case");
  // The argument alone, in a buffer of its size.
  const std::string argument(command.argument);
  fuzz::check_mail(argument);
  fuzz::check_rcpt(argument);
  return 0;
}
