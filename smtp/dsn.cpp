#include "smtp/dsn.hpp"

#include <algorithm>

#include "smtp/text.hpp"
#include "smtp/xtext.hpp"

namespace egret::smtp {
namespace {

/// Appends remote text as one header field or text line: no line ends of its own, bounded.
std::string one_line(std::string_view text, std::size_t limit = 700) {
  return std::string(cut_text(printable(text), limit));
}

/// The status part of a message/delivery-status is US-ASCII (RFC 3464 section 2.1).
std::string ascii_line(bool utf8, std::string text) {
  if (!utf8)
    for (char& c : text)
      if (static_cast<unsigned char>(c) >= 0x80) c = '?';
  return text;
}

std::string quoted_reply(const Reply& reply) {
  std::string text = reply.to_string();
  for (char& c : text)
    if (c == '\n') c = ' ';
  return one_line(text);
}

std::string address_type(bool utf8, const Address& address) {
  return utf8 && !address.ascii() ? "utf-8; " : "rfc822; ";
}

struct Words {
  std::string_view action, subject, human;
};

/// RFC 3464 section 2.3.3.
Words words(DsnAction action) {
  switch (action) {
    case DsnAction::failed:
      return {"failed", "Undelivered mail returned to sender",
              "Your message could not be delivered to the recipients below. No more attempts will be made."};
    case DsnAction::delayed:
      return {"delayed", "Delayed mail (still being retried)",
              "Your message has not been delivered yet to the recipients below. Attempts go on; nothing needs to be done."};
    case DsnAction::relayed:
      return {"relayed", "Mail relayed to a server without reports",
              "Your message was handed over for the recipients below. No further reports of success will come."};
  }
  return {};
}

/// "rfc822;a+2Bb@example.com" as it stands in a report: decoded, on one line.
std::string original_recipient(const std::string& orcpt) {
  const std::size_t semicolon = orcpt.find(';');
  const auto decoded = xtext_decode(std::string_view(orcpt).substr(semicolon + 1));
  return orcpt.substr(0, semicolon) + "; " + one_line(decoded.value_or(""));
}

std::string human_part(const DsnInput& in) {
  std::string out = "This is the mail relay at " + in.reporting_host + ".\r\n\r\n";
  out += words(in.action).human;
  out += "\r\n\r\n";
  for (const DsnRecipient& r : in.recipients) {
    out += "<" + r.address.to_string() + ">\r\n    " + one_line(r.explanation) + "\r\n";
    if (!r.remote_host.empty() && r.reply.code)
      out += "    " + one_line(r.remote_host, 255) + " said: " + quoted_reply(r.reply) + "\r\n";
  }
  return out;
}

std::string status_part(const DsnInput& in) {
  std::string out = "Reporting-MTA: dns; " + in.reporting_host + "\r\n";
  if (!in.envid.empty())
    out = "Original-Envelope-Id: " + ascii_line(false, one_line(xtext_decode(in.envid).value_or(""))) + "\r\n" + out;
  out += "X-Egret-Queue-ID: " + to_string(in.id) + "\r\n";
  out += "Arrival-Date: " + rfc5322_date(in.arrived) + "\r\n";
  for (const DsnRecipient& r : in.recipients) {
    out += "\r\n";
    if (!r.original.empty()) out += "Original-Recipient: " + ascii_line(in.utf8, original_recipient(r.original)) + "\r\n";
    out += "Final-Recipient: " + address_type(in.utf8, r.address) + r.address.to_string() + "\r\n";
    out += "Action: " + std::string(words(in.action).action) + "\r\n";
    out += "Status: " + r.status + "\r\n";
    if (!r.remote_host.empty()) out += "Remote-MTA: dns; " + ascii_line(in.utf8, one_line(r.remote_host, 255)) + "\r\n";
    if (r.reply.code) out += "Diagnostic-Code: smtp; " + ascii_line(in.utf8, quoted_reply(r.reply)) + "\r\n";
    if (in.will_retry_until) out += "Will-Retry-Until: " + rfc5322_date(*in.will_retry_until) + "\r\n";
  }
  return out;
}

/// The original header is stored in wire form already; what we write ourselves never starts with a dot.
std::string original_part(const DsnInput& in) {
  constexpr std::size_t limit = 64 * 1024;
  std::string_view header = in.original;
  if (in.full) return in.original;
  if (header.size() > limit) header = header.substr(0, header.rfind("\r\n", limit) + 2);
  return std::string(header);
}

std::string original_type(const DsnInput& in) {
  if (in.full) return in.utf8 ? "message/global" : "message/rfc822";
  return in.utf8 ? "message/global-headers" : "text/rfc822-headers";
}

/// Remote words, and returned messages, may be 8-bit: each level says so (RFC 2045 section 6.4).
std::string_view encoding(std::string_view content) {
  const bool eight_bit = std::ranges::any_of(content, [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
  return eight_bit ? "Content-Transfer-Encoding: 8bit\r\n" : "";
}

std::string part(const std::string& boundary, const std::string& type, const std::string& content) {
  return "\r\n--" + boundary + "\r\nContent-Type: " + type + "\r\n" + std::string(encoding(content)) + "\r\n" + content;
}

}  // namespace

std::string dsn_status(const Reply& reply) {
  // What is reported was not delivered, whatever a confused server said.
  const int klass = reply.transient() ? 4 : 5;
  if (const auto code = reply.enhanced(); code && code->klass == klass) return code->to_string();
  return std::to_string(klass) + ".0.0";
}

std::string build_dsn(const DsnInput& in) {
  const std::string boundary = "egret-" + to_string(in.dsn_id);
  std::string parts = part(boundary, "text/plain; charset=utf-8", human_part(in)) +
                      part(boundary, in.utf8 ? "message/global-delivery-status" : "message/delivery-status", status_part(in));
  if (!in.original.empty()) parts += part(boundary, original_type(in), original_part(in));
  parts += "\r\n--" + boundary + "--\r\n";
  std::string out = "From: Mail Delivery System <MAILER-DAEMON@" + in.reporting_host + ">\r\n";
  out += "To: <" + in.sender.to_string() + ">\r\n";
  out += "Subject: " + std::string(words(in.action).subject) + "\r\n";
  out += "Date: " + rfc5322_date(in.now) + "\r\n";
  out += "Message-ID: <" + to_string(in.dsn_id) + "@" + in.reporting_host + ">\r\n";
  out += "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n";
  out += "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"" + boundary + "\"\r\n";
  out += std::string(encoding(parts)) + "\r\n";
  return out + parts;
}

}  // namespace egret::smtp
