#include "relay/esp/bounce_report.hpp"

#include <cctype>

#include "smtp/text.hpp"

namespace egret::relay {
namespace {

/// "smtp; 550 5.1.1 user unknown" is a reply, "Bounced Address" is none.
smtp::Reply reply_in(std::string_view diagnostic) {
  if (smtp::istarts_with(diagnostic, "smtp;")) diagnostic = smtp::trim(diagnostic.substr(5));
  const auto digit = [&](std::size_t at) {
    return at < diagnostic.size() && std::isdigit(static_cast<unsigned char>(diagnostic[at]));
  };
  const bool code = digit(0) && digit(1) && digit(2) && !digit(3) && (diagnostic[0] == '4' || diagnostic[0] == '5');
  return code ? smtp::parse_reply(diagnostic) : smtp::Reply{};
}

std::string status_of(const EspRecord& record, const smtp::Reply& reply) {
  const auto code = smtp::parse_enhanced_code(record.status);
  if (code && (code->klass == 4 || code->klass == 5)) return code->to_string();
  return reply.code != 0 ? smtp::dsn_status(reply) : "5.0.0";
}

std::string explanation(const EspRecord& record) {
  const std::string taken = "The service " + record.smarthost + " took the message and ";
  if (record.kind == routing::EspEventKind::suppressed)
    return taken + "did not send it: the address is on its list of suppressed recipients. " + record.diagnostic;
  return taken + "could not deliver it: " + record.diagnostic;
}

}  // namespace

std::optional<smtp::DsnInput> bounce_report(const EspRecord& record, const std::string& hostname, const std::string& esp_host,
                                            smtp::MessageId dsn_id, routing::Time now) {
  if (!record.handover) return std::nullopt;
  const Handover& h = *record.handover;
  const auto sender = smtp::parse_mailbox(h.sender, true);
  const auto recipient = smtp::parse_mailbox(h.recipient, true);
  if (!sender || !recipient) return std::nullopt;
  smtp::DsnInput out;
  out.action = smtp::DsnAction::failed;
  out.reporting_host = hostname;
  out.id = h.message;
  out.dsn_id = dsn_id;
  out.sender = *sender;
  out.envid = h.envid;
  out.utf8 = h.utf8;
  out.arrived = h.accepted;
  out.now = now;
  smtp::DsnRecipient& r = out.recipients.emplace_back();
  r.address = *recipient;
  r.original = h.orcpt;
  r.reply = reply_in(record.diagnostic);
  r.remote_host = esp_host;
  r.status = status_of(record, r.reply);
  r.explanation = explanation(record);
  return out;
}

}  // namespace egret::relay
