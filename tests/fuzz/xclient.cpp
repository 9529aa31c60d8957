// XCLIENT, XFORWARD, xtext and the DSN parameters: values that end in logs, trace fields and the next hop's dialog.
#include "smtp/xclient.hpp"

#include "routing/address.hpp"
#include "smtp/dsn_parameters.hpp"
#include "smtp/text.hpp"
#include "smtp/xtext.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace egret::fuzz {
namespace {

using namespace smtp;

bool clean(const std::optional<std::string>& value, std::size_t limit = 255) {
  return !value || (value->size() <= limit && printable(*value) == *value);
}

bool address(const std::optional<std::string>& value) {
  if (!value || value->empty()) return true;
  const auto parsed = routing::IpAddress::parse(*value);
  return parsed && parsed->to_string() == *value;
}

bool port(const std::optional<std::string>& value) {
  if (!value || value->empty()) return true;
  return value->size() <= 5 && value->find_first_not_of("0123456789") == std::string::npos && value->front() != '0' &&
         std::stoi(*value) <= 65535;
}

std::string written(const ForwardedAttributes& a) {
  std::string out;
  const auto add = [&](const char* name, const std::optional<std::string>& value) {
    if (value) out += std::string(" ") + name + '=' + (value->empty() ? "[UNAVAILABLE]" : xtext_encode(*value));
  };
  add("NAME", a.name);
  add("ADDR", a.addr);
  add("PORT", a.port);
  add("PROTO", a.proto);
  add("HELO", a.helo);
  add("LOGIN", a.login);
  add("DESTADDR", a.destaddr);
  add("DESTPORT", a.destport);
  add("IDENT", a.ident);
  add("SOURCE", a.source);
  return out;
}

void check_forwarded(ForwardCommand command, std::string_view argument) {
  ForwardedAttributes before;
  before.name = "before";
  ForwardedAttributes out = before;
  if (const auto error = parse_forwarded(command, argument, out)) {
    require(one_line(*error) && valid_utf8(*error) && error->size() < 200, "a refusal fits a reply line");
    require(out == before, "a malformed command changes nothing");
    return;
  }
  require(clean(out.name) && clean(out.helo) && clean(out.login) && clean(out.ident) && clean(out.proto, 64), "values are text");
  require(address(out.addr) && address(out.destaddr) && port(out.port) && port(out.destport), "addresses and ports are such");
  const bool xclient = command == ForwardCommand::xclient;
  require(!xclient || (!out.ident && !out.source), "XCLIENT has no IDENT and no SOURCE");
  require(xclient || (!out.login && !out.destaddr && !out.destport), "XFORWARD has no LOGIN and no destination");
  ForwardedAttributes again;
  require(!parse_forwarded(command, written(out), again) && again == out, "attributes are read as they were written");
}

void check_xtext(std::string_view text) {
  const std::string encoded = xtext_encode(text);
  require(encoded.size() <= 3 * text.size(), "xtext is at most three times as long");
  const bool controls = !one_line(text);
  const auto back = xtext_decode(encoded);
  require(back.has_value() == !controls, "what holds controls is no value");
  require(!back || *back == text, "xtext brings back every octet");
  const auto decoded = xtext_decode(text);
  require(!decoded || (one_line(*decoded) && xtext_decode(xtext_encode(*decoded)) == decoded), "what was decoded is clean");
}

void check_dsn(std::string_view value) {
  DsnMail mail;
  const bool envid = parse_envid(value, mail);
  require(envid == !mail.envid.empty() && mail.envid.size() <= 100, "ENVID is kept or refused");
  parse_ret(value, mail);
  require(one_line(mail_parameters(mail)), "parameters stand on one line");
  DsnRcpt rcpt;
  const bool orcpt = parse_orcpt(value, rcpt);
  require(orcpt == !rcpt.orcpt.empty() && rcpt.orcpt.size() <= 500, "ORCPT is kept or refused");
  if (orcpt) {
    const auto plain = [](unsigned char c) { return c > 0x20 && c < 0x7F; };
    require(std::ranges::all_of(rcpt.orcpt, plain), "ORCPT is kept in its 7-bit form");
    DsnRcpt again;
    require(parse_orcpt(rcpt.orcpt, again) && again.orcpt == rcpt.orcpt, "ORCPT is read as it is passed on");
    const auto text = xtext_decode(std::string_view(rcpt.orcpt).substr(rcpt.orcpt.find(';') + 1));
    require(text && printable(*text) == *text, "ORCPT decodes to text");
  }
  DsnRcpt notify;
  if (!parse_notify(value, notify)) return require(notify == DsnRcpt{}, "a malformed NOTIFY changes nothing");
  require(notify.notify_given && !(notify.never && (notify.success || notify.failure || notify.delay)), "NEVER stands alone");
  const std::string parameter = rcpt_parameters(notify);
  DsnRcpt again;
  require(parameter.starts_with(" NOTIFY=") && parse_notify(std::string_view(parameter).substr(8), again) && again == notify,
          "NOTIFY is read as it is passed on");
}

}  // namespace
}  // namespace egret::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace egret;
  // A string of its own, so that a read behind the end is seen.
  const std::string text(reinterpret_cast<const char*>(data), size);
  fuzz::check_forwarded(smtp::ForwardCommand::xclient, text);
  fuzz::check_forwarded(smtp::ForwardCommand::xforward, text);
  fuzz::check_xtext(text);
  fuzz::check_dsn(text);
  return 0;
}
