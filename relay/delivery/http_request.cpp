#include "relay/delivery/http_request.hpp"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include "smtp/scram.hpp"
#include "smtp/sigv4.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

namespace json = boost::json;
using config::HttpApi;
using config::HttpApiKind;

std::string quoted(const std::string& text) {
  return json::serialize(json::string(text));
}

/// Bounces go to the envelope sender; the null sender cannot be named, and the From field counts.
Submission ses(const smtp::Envelope& envelope, const std::vector<std::pair<std::string, std::string>>& orders) {
  Submission out;
  out.target = "/v2/email/outbound-emails";
  out.content_type = "application/json";
  out.coding = MessageCoding::base64;
  std::string& text = out.before;
  text = "{";
  if (const std::string sender = envelope.sender.to_string(); !sender.empty())
    text += "\"FromEmailAddress\":" + quoted(sender) + ',';
  text += "\"Destination\":{\"ToAddresses\":[";
  for (std::size_t i = 0; i < envelope.recipients.size(); ++i)
    text += (i ? "," : "") + quoted(envelope.recipients[i].to_string());
  text += "]},";
  for (const auto& [name, value] : orders)
    if (smtp::iequals(name, "X-SES-CONFIGURATION-SET")) text += "\"ConfigurationSetName\":" + quoted(value) + ',';
  text += "\"Content\":{\"Raw\":{\"Data\":\"";
  out.after = "\"}}}";
  return out;
}

Submission mailgun(const HttpApi& api, const smtp::Envelope& envelope, std::string_view boundary) {
  Submission out;
  out.target = "/v3/" + api.domain + "/messages.mime";
  out.content_type = "multipart/form-data; boundary=" + std::string(boundary);
  const std::string line = "--" + std::string(boundary);
  for (const auto& recipient : envelope.recipients)
    out.before += line + "\r\nContent-Disposition: form-data; name=\"to\"\r\n\r\n" + recipient.to_string() + "\r\n";
  out.before += line +
                "\r\nContent-Disposition: form-data; name=\"message\"; filename=\"message.eml\"\r\n"
                "Content-Type: message/rfc822\r\n\r\n";
  out.after = "\r\n" + line + "--\r\n";
  return out;
}

/// What it would do to the message by default is switched off: pixels, rewritten links, {{words}} filled in.
Submission sparkpost(const smtp::Envelope& envelope) {
  Submission out;
  out.target = "/api/v1/transmissions";
  out.content_type = "application/json";
  out.coding = MessageCoding::json;
  out.before = R"({"options":{"open_tracking":false,"click_tracking":false,"perform_substitutions":false},)";
  if (const std::string sender = envelope.sender.to_string(); !sender.empty())
    out.before += "\"return_path\":" + quoted(sender) + ',';
  out.before += "\"recipients\":[";
  for (std::size_t i = 0; i < envelope.recipients.size(); ++i)
    out.before += std::string(i ? "," : "") + "{\"address\":{\"email\":" + quoted(envelope.recipients[i].to_string()) + "}}";
  out.before += "],\"content\":{\"email_rfc822\":\"";
  out.after = "\"}}";
  return out;
}

struct Call {
  std::string method, target, content_type;
  std::uint64_t length = 0;
  std::string body_sha256;
};

/// X-Amz-Date and Authorization.
std::string amazon_login(const HttpApi& api, const Call& call, routing::Time now) {
  const std::string date = smtp::sigv4_date(std::chrono::floor<std::chrono::seconds>(now));
  smtp::SigV4Request request{call.method, call.target, "", date, call.body_sha256, {}};
  if (!call.content_type.empty()) request.headers.emplace_back("content-type", call.content_type);
  request.headers.emplace_back("host", api.authority());
  request.headers.emplace_back("x-amz-date", date);
  return "X-Amz-Date: " + date +
         "\r\nAuthorization: " + smtp::sigv4_authorization(request, {api.user, api.secret, api.region, "ses"}) + "\r\n";
}

std::string head(const HttpApi& api, const Call& call, routing::Time now) {
  std::string out = call.method + ' ' + call.target + " HTTP/1.1\r\nHost: " + api.authority() +
                    "\r\nUser-Agent: egret\r\nAccept: application/json\r\n";
  if (call.method == "POST")
    out += "Content-Type: " + call.content_type + "\r\nContent-Length: " + std::to_string(call.length) + "\r\n";
  else
    out += "Connection: close\r\n";
  switch (api.kind) {
    case HttpApiKind::ses:
      out += amazon_login(api, call, now);
      break;
    case HttpApiKind::mailgun:
      out += "Authorization: Basic " + smtp::base64_encode(api.user + ':' + api.secret) + "\r\n";
      break;
    case HttpApiKind::sparkpost:
      out += "Authorization: " + api.secret + "\r\n";
      break;
  }
  return out + "\r\n";
}

void replace_all(std::string& text, std::string_view part, std::string_view with) {
  for (std::size_t at = 0; !part.empty() && (at = text.find(part, at)) != std::string::npos; at += with.size())
    text.replace(at, part.size(), with);
}

/// RFC 8259 section 7.
std::string json_escaped(std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out;
  out.reserve(text.size() + text.size() / 16);
  for (const char c : text) {
    if (c == '\r') {
      out += "\\r";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' || c == '\\') {
      (out += '\\') += c;
    } else if (const auto octet = static_cast<unsigned char>(c); octet < 0x20) {
      ((out += "\\u00") += digits[octet >> 4]) += digits[octet & 15];
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

Submission submission(const HttpApi& api, const smtp::Envelope& envelope,
                      const std::vector<std::pair<std::string, std::string>>& orders, std::string_view boundary) {
  switch (api.kind) {
    case HttpApiKind::ses:
      return ses(envelope, orders);
    case HttpApiKind::mailgun:
      return mailgun(api, envelope, boundary);
    case HttpApiKind::sparkpost:
      break;
  }
  return sparkpost(envelope);
}

bool takes_eight_bit(HttpApiKind kind) {
  return kind != HttpApiKind::sparkpost;  // JSON is UTF-8, and a message may be anything
}

std::string request_head(const HttpApi& api, const Submission& submission, std::uint64_t length, const std::string& body_sha256,
                         routing::Time now) {
  return head(api, {"POST", submission.target, submission.content_type, length, body_sha256}, now);
}

std::string without_secret(const HttpApi& api, std::string text) {
  if (api.secret.empty()) return text;
  // The longest first: one may contain another.
  for (const std::string& shown : {smtp::base64_encode(api.user + ':' + api.secret), api.secret}) {
    std::string escaped = shown;
    replace_all(escaped, "/", "\\/");
    replace_all(text, escaped, "***");
    replace_all(text, shown, "***");
  }
  return text;
}

std::string account_request(const HttpApi& api, routing::Time now) {
  std::string target = "/v2/email/account";
  if (api.kind == HttpApiKind::mailgun) target = "/v3/domains/" + api.domain;
  if (api.kind == HttpApiKind::sparkpost) target = "/api/v1/account";
  return head(api, {"GET", std::move(target), "", 0, smtp::hex(smtp::sha256(""))}, now);
}

HttpBody::HttpBody(const Outgoing& outgoing, const Submission& submission, spool::Spool& spool)
    : outgoing_(outgoing), submission_(submission), spool_(spool) {}

boost::asio::awaitable<std::string> HttpBody::next() {
  std::string out;
  while (out.empty() && !failed_ && stage_ != Stage::end) {
    switch (stage_) {
      case Stage::before:
        out = submission_.before;
        stage_ = Stage::head;
        break;
      case Stage::head:
        out = coded(outgoing_.head);
        stage_ = Stage::stored;
        break;
      case Stage::stored:
        if (piece_ < outgoing_.message->extents.size() + outgoing_.message->tail.size())
          out = co_await stored_piece();
        else
          stage_ = Stage::after;
        break;
      case Stage::after:
        out = last() + submission_.after;
        stage_ = Stage::end;
        break;
      case Stage::end:
        break;
    }
  }
  co_return out;
}

boost::asio::awaitable<std::string> HttpBody::stored_piece() {
  const spool::Message& message = *outgoing_.message;
  const std::size_t at = piece_++;
  if (at >= message.extents.size()) co_return sent_part(message.tail[at - message.extents.size()]);
  const spool::Extent extent = message.extents[at];
  const std::string stored = co_await spool_.read(extent);
  failed_ = stored.size() != extent.length;
  co_return failed_ ? std::string() : sent_part(stored);
}

/// What goes out of the next stored octets: without what the head replaces and what is cut.
std::string HttpBody::sent_part(std::string_view stored) {
  const spool::Message& message = *outgoing_.message;
  std::string out;
  const auto emit = [&](std::string_view part) { out += coded(part); };
  const std::uint64_t skip =
      outgoing_.body_from > offset_ ? std::min<std::uint64_t>(outgoing_.body_from - offset_, stored.size()) : 0;
  const std::string_view rest = stored.substr(skip);
  if (outgoing_.body_from > 0)
    smtp::without_cuts(rest, offset_ + skip, message.cuts, emit);
  else
    smtp::as_sent(rest, offset_, message.cuts, message.header_end, message.added, emit);
  offset_ += stored.size();
  return out;
}

/// From wire form to content, and from there into the form that the request wants.
std::string HttpBody::coded(std::string_view wire) {
  std::string content = std::move(rest_);
  rest_.clear();
  content.reserve(content.size() + wire.size());
  while (!wire.empty()) {
    if (line_start_ && wire.front() == '.') wire.remove_prefix(1);  // a stuffed line holds more than this dot
    line_start_ = false;
    const std::size_t end = wire.find('\n');
    const std::string_view line = wire.substr(0, end == std::string_view::npos ? wire.size() : end + 1);
    line_start_ = line.ends_with('\n');
    content += line;
    wire.remove_prefix(line.size());
  }
  switch (submission_.coding) {
    case MessageCoding::plain:
      return content;
    case MessageCoding::json:
      return json_escaped(content);
    case MessageCoding::base64:
      break;
  }
  rest_ = content.substr(content.size() - content.size() % 3);
  content.resize(content.size() - rest_.size());
  return smtp::base64_encode(content);
}

std::string HttpBody::last() {
  return smtp::base64_encode(std::exchange(rest_, {}));
}

}  // namespace egret::relay
