#include "routing/esp_event.hpp"

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <charconv>
#include <cmath>

#include "smtp/text.hpp"

namespace egret::routing {
namespace {

namespace json = boost::json;
using Kind = EspEventKind;

constexpr std::size_t max_id = 200;
constexpr std::size_t max_recipient = 320;
constexpr std::size_t max_diagnostic = 1000;

std::string line(std::string_view text, std::size_t limit) {
  return std::string(smtp::cut_text(smtp::printable(text), limit));
}

// ---- reading JSON that may be anything ---------------------------------------------------------------------------------

const json::object nothing;

const json::object& object(const json::object& in, std::string_view key) {
  const auto* value = in.if_contains(key);
  return value && value->is_object() ? value->get_object() : nothing;
}

const json::object& object(const json::value& value) {
  return value.is_object() ? value.get_object() : nothing;
}

const json::array& array(const json::object& in, std::string_view key) {
  static const json::array none;
  const auto* value = in.if_contains(key);
  return value && value->is_array() ? value->get_array() : none;
}

/// A string, or a number in decimal; empty otherwise.
std::string text(const json::value& value) {
  if (value.is_string()) return std::string(value.get_string());
  if (value.is_int64()) return std::to_string(value.get_int64());
  if (value.is_uint64()) return std::to_string(value.get_uint64());
  return {};
}

std::string text(const json::object& in, std::string_view key) {
  const auto* value = in.if_contains(key);
  return value ? text(*value) : std::string();
}

/// Seconds since 1970 as a number or in decimal, with fraction or without.
std::optional<Time> unix_time(const json::object& in, std::string_view key) {
  const auto* value = in.if_contains(key);
  if (!value) return std::nullopt;
  double seconds = 0;
  if (value->is_number()) {
    seconds = value->is_double() ? value->get_double() : value->is_int64() ? static_cast<double>(value->get_int64()) : 0;
  } else {
    const std::string digits = text(*value);
    if (std::from_chars(digits.data(), digits.data() + digits.size(), seconds).ec != std::errc{}) return std::nullopt;
  }
  if (!(seconds > 0 && seconds < 1e11)) return std::nullopt;
  return Time(Duration(std::llround(seconds * 1000)));
}

Time time_or(std::optional<Time> time, Time otherwise) {
  return time ? *time : otherwise;
}

/// An event with what all have in common; ids and our own are cut, not trusted.
struct Draft {
  EspEvent event;

  Draft(Kind kind, bool permanent) {
    event.kind = kind;
    event.permanent = permanent;
  }
  Draft& id(std::string_view value) {
    while (value.starts_with('<')) value.remove_prefix(1);
    while (value.ends_with('>')) value.remove_suffix(1);
    if (!value.empty() && value.size() <= max_id) event.esp_ids.push_back(line(value, max_id));
    return *this;
  }
  Draft& to(std::string_view address) {
    event.recipient = line(address, max_recipient);
    return *this;
  }
  Draft& at(Time time) {
    event.time = time;
    return *this;
  }
  Draft& said(std::string_view diagnostic, std::string_view status = {}) {
    event.diagnostic = line(diagnostic, max_diagnostic);
    event.status = line(status, 20);
    return *this;
  }
  Draft& tag(std::string_view value) {
    if (value.size() <= 64) event.our_id = line(value, 64);
    return *this;
  }
  /// What tells this event from all others; the kind and the recipient are part of it.
  EspEvent key(std::string_view value) {
    event.key = line(value, max_id) + '/' + std::string(to_string(event.kind)) + '/' + smtp::lower(event.recipient);
    return std::move(event);
  }
};

bool mentions(std::string_view in, std::initializer_list<std::string_view> words) {
  const std::string low = smtp::lower(in);
  return std::ranges::any_of(words, [&](std::string_view word) { return low.find(word) != std::string::npos; });
}

bool one_of(std::string_view value, std::initializer_list<std::string_view> words) {
  return std::ranges::find(words, value) != words.end();
}

// ---- Amazon SES --------------------------------------------------------------------------------------------------------

/// The value of the message tag "egret": tags are lists of values.
std::string ses_tag(const json::object& mail) {
  const json::array& values = array(object(mail, "tags"), "egret");
  return values.empty() ? std::string() : text(values.front());
}

/// Bounces of kind Transient: SES has given the message up too, but calls automatic answers (General) the same.
bool ses_lost(std::string_view type, std::string_view sub_type) {
  return type == "Permanent" ||
         (type == "Transient" && one_of(sub_type, {"MailboxFull", "MessageTooLarge", "ContentRejected", "AttachmentRejected"}));
}

void ses(const json::value& root, Time now, EspBatch& out) {
  const json::object& event = object(root);
  const json::object& mail = object(event, "mail");
  const std::string id = text(mail, "messageId");
  std::string type = text(event, "eventType");
  if (type.empty()) type = text(event, "notificationType");
  if (type.empty() || id.empty()) {
    out.malformed = true;
    return;
  }
  const auto add = [&](Kind kind, bool permanent, const json::object& part, std::string_view address, std::string_view said,
                       std::string_view status) {
    const std::string when = text(part, "timestamp");
    std::string key = text(part, "feedbackId");
    if (key.empty()) key = id + '@' + when;
    out.events.push_back(Draft(kind, permanent)
                             .id(id)
                             .to(address)
                             .at(time_or(parse_rfc3339(when), now))
                             .said(said, status)
                             .tag(ses_tag(mail))
                             .key(key));
  };
  if (type == "Delivery") {
    const json::object& part = object(event, "delivery");
    for (const auto& to : array(part, "recipients")) add(Kind::delivered, false, part, text(to), text(part, "smtpResponse"), "");
  } else if (type == "Bounce") {
    const json::object& part = object(event, "bounce");
    const std::string sub = text(part, "bounceSubType");
    const bool listed = sub == "Suppressed" || sub == "OnAccountSuppressionList";
    for (const auto& entry : array(part, "bouncedRecipients")) {
      const json::object& to = object(entry);
      std::string said = text(to, "diagnosticCode");
      if (said.empty()) said = text(part, "bounceType") + " " + sub;
      add(listed ? Kind::suppressed : Kind::bounced, listed || ses_lost(text(part, "bounceType"), sub), part,
          text(to, "emailAddress"), said, text(to, "status"));
    }
  } else if (type == "Complaint") {
    const json::object& part = object(event, "complaint");
    const bool listed = text(part, "complaintSubType") == "OnAccountSuppressionList";
    std::string said = text(part, "complaintFeedbackType");
    if (listed) said = "on the account's suppression list because of a complaint";
    for (const auto& entry : array(part, "complainedRecipients"))
      add(listed ? Kind::suppressed : Kind::complained, listed, part, text(object(entry), "emailAddress"), said, "");
  } else if (type == "DeliveryDelay") {
    const json::object& part = object(event, "deliveryDelay");
    for (const auto& entry : array(part, "delayedRecipients")) {
      const json::object& to = object(entry);
      const std::string said = text(to, "diagnosticCode");
      add(Kind::deferred, false, part, text(to, "emailAddress"), said.empty() ? text(part, "delayType") : said,
          text(to, "status"));
    }
  } else if (type == "Reject" || type == "Rendering Failure") {
    const json::object& part = object(event, type == "Reject" ? "reject" : "failure");
    const std::string said = type + ": " + text(part, type == "Reject" ? "reason" : "errorMessage");
    for (const auto& to : array(mail, "destination")) add(Kind::bounced, true, part, text(to), said, "");
  } else {
    ++out.left_out;
  }
}

// ---- SendGrid ----------------------------------------------------------------------------------------------------------

void sendgrid_one(const json::object& e, Time now, EspBatch& out) {
  const std::string name = text(e, "event"), reason = text(e, "reason");
  std::optional<Draft> draft;
  if (name == "delivered")
    draft.emplace(Kind::delivered, false);
  else if (name == "deferred")
    draft.emplace(Kind::deferred, false);
  else if (name == "bounce")  // type "blocked" is no word on the address, but this message is given up as well
    draft.emplace(Kind::bounced, true);
  else if (name == "dropped")
    draft.emplace(mentions(reason, {"bounced address", "spam reporting address", "unsubscribed address"}) ? Kind::suppressed
                                                                                                          : Kind::bounced,
                  true);
  else if (name == "spamreport")
    draft.emplace(Kind::complained, false);
  if (!draft) {
    ++out.left_out;
    return;
  }
  // sg_message_id is the id of the SMTP reply, a dot, and the parts that handled it. smtp-id is the Message-ID.
  const std::string id = text(e, "sg_message_id");
  const std::string when = text(e, "timestamp");
  std::string key = text(e, "sg_event_id");
  if (key.empty()) key = id + '@' + when;
  const std::string response = text(e, "response");
  out.events.push_back(draft->id(std::string_view(id).substr(0, id.find('.')))
                           .to(text(e, "email"))
                           .at(time_or(unix_time(e, "timestamp"), now))
                           .said(response.empty() ? reason : response, text(e, "status"))
                           .tag(text(e, "egret"))
                           .key(key));
}

// ---- Mailgun -----------------------------------------------------------------------------------------------------------

void mailgun(const json::value& root, Time now, EspBatch& out) {
  const json::object& e = object(object(root), "event-data");
  const std::string name = text(e, "event");
  if (name.empty()) {
    out.malformed = true;
    return;
  }
  const json::object& status = object(e, "delivery-status");
  const std::string reason = text(e, "reason");
  std::optional<Draft> draft;
  if (name == "delivered")
    draft.emplace(Kind::delivered, false);
  else if (name == "failed" && text(e, "severity") == "temporary")
    draft.emplace(Kind::deferred, false);
  else if (name == "failed")
    draft.emplace(reason.starts_with("suppress-") ? Kind::suppressed : Kind::bounced, true);
  else if (name == "rejected")
    draft.emplace(Kind::bounced, true);
  else if (name == "complained")
    draft.emplace(Kind::complained, false);
  if (!draft) {
    ++out.left_out;
    return;
  }
  std::string said = text(status, "message");
  if (said.empty()) said = text(status, "description");
  if (const std::string code = text(status, "code"); !code.empty() && !said.empty() && !said.starts_with(code))
    said = code + ' ' + said;
  if (said.empty()) said = name == "rejected" ? text(object(e, "reject"), "reason") : reason;
  const std::string id = text(object(object(e, "message"), "headers"), "message-id");
  std::string key = text(e, "id");
  if (key.empty()) key = id + '@' + text(e, "timestamp");
  out.events.push_back(draft->id(id)
                           .to(text(e, "recipient"))
                           .at(time_or(unix_time(e, "timestamp"), now))
                           .said(said, text(status, "enhanced-code"))
                           .tag(text(object(e, "user-variables"), "egret"))
                           .key(key));
}

// ---- Postmark ----------------------------------------------------------------------------------------------------------

/// What a bounce type says about the message; nullopt for those that are answers of a living mailbox.
std::optional<Draft> postmark_bounce(std::string_view type, std::string_view details) {
  if (one_of(type, {"AutoResponder", "ChallengeVerification", "AddressChange", "Subscribe", "Unsubscribe", "OpenRelayTest"}))
    return std::nullopt;
  if (type == "Transient") return Draft(Kind::deferred, false);
  if (type == "SpamComplaint") return Draft(Kind::complained, false);
  if (type == "SpamNotification" || type == "Unknown") return Draft(Kind::bounced, false);  // it may have arrived
  const bool listed = type == "ManuallyDeactivated" || type == "Unconfirmed" ||
                      (type == "SMTPApiError" && mentions(details, {"inactive", "406"}));
  return Draft(listed ? Kind::suppressed : Kind::bounced, true);
}

void postmark(const json::value& root, Time now, EspBatch& out) {
  const json::object& e = object(root);
  const std::string record = text(e, "RecordType"), type = text(e, "Type"), id = text(e, "MessageID");
  if (record.empty()) {
    out.malformed = true;
    return;
  }
  std::optional<Draft> draft;
  std::string address = text(e, "Email"), when = text(e, "BouncedAt"), said = text(e, "Details");
  if (said.empty()) said = text(e, "Description");
  if (record == "Delivery") {
    draft.emplace(Kind::delivered, false);
    address = text(e, "Recipient");
    when = text(e, "DeliveredAt");
  } else if (record == "SpamComplaint") {
    draft.emplace(Kind::complained, false);
  } else if (record == "Bounce") {
    draft = postmark_bounce(type, said);
    if (!type.empty()) said = type + ": " + said;
  }
  if (!draft) {
    ++out.left_out;
    return;
  }
  std::string key = text(e, "ID");
  if (key.empty()) key = when;
  out.events.push_back(draft->id(id)
                           .to(address)
                           .at(time_or(parse_rfc3339(when), now))
                           .said(said)
                           .tag(text(object(e, "Metadata"), "egret"))
                           .key(id + '@' + key));
}

// ---- SparkPost ---------------------------------------------------------------------------------------------------------

void sparkpost_one(const json::object& e, Time now, EspBatch& out) {
  const std::string type = text(e, "type"), klass = text(e, "bounce_class");
  std::string said = text(e, "raw_reason");
  if (said.empty()) said = text(e, "reason");
  const bool listed = klass == "26" || mentions(said, {"suppress"});
  const bool answer = one_of(klass, {"60", "80", "90", "100"});  // automatic answers, subscriptions, challenges
  std::optional<Draft> draft;
  if (type == "delivery")
    draft.emplace(Kind::delivered, false);
  else if (type == "delay")
    draft.emplace(Kind::deferred, false);
  else if (type == "spam_complaint")
    draft.emplace(Kind::complained, false);
  else if (type == "bounce" || (type == "out_of_band" && !answer))
    draft.emplace(listed ? Kind::suppressed : Kind::bounced, true);
  else if (type == "policy_rejection" || type == "generation_failure" || type == "generation_rejection")
    draft.emplace(listed ? Kind::suppressed : Kind::bounced, true);
  if (!draft) {
    ++out.left_out;
    return;
  }
  const std::string when = text(e, "timestamp");
  std::string key = text(e, "event_id");
  if (key.empty()) key = text(e, "message_id") + '@' + when;
  const auto seconds = unix_time(e, "timestamp");
  if (const std::string code = text(e, "error_code"); !code.empty() && !said.empty() && !said.starts_with(code))
    said = code + ' ' + said;
  out.events.push_back(draft->id(text(e, "message_id"))
                           .id(text(e, "transmission_id"))
                           .to(text(e, "rcpt_to"))
                           .at(time_or(seconds ? seconds : parse_rfc3339(when), now))
                           .said(said)
                           .tag(text(object(e, "rcpt_meta"), "egret"))
                           .key(key));
}

void sparkpost_entry(const json::value& value, Time now, EspBatch& out) {
  const json::object& msys = object(object(value), "msys");
  for (const std::string_view family : {"message_event", "gen_event"})
    if (msys.contains(family)) return sparkpost_one(object(msys, family), now, out);
  ++out.left_out;  // tracking, unsubscribing, and the empty entry that tests an endpoint
}

/// A batch: each entry for itself, so that one that is odd costs nothing but itself.
template <class Each>
void batch(const json::value& root, EspBatch& out, Each each) {
  if (!root.is_array()) {
    out.malformed = true;
    return;
  }
  for (const auto& entry : root.get_array()) {
    if (out.events.size() + out.left_out >= max_esp_events) break;
    each(entry);
  }
}

}  // namespace

std::string_view to_string(EspFormat format) {
  switch (format) {
    case EspFormat::ses:
      return "ses";
    case EspFormat::sendgrid:
      return "sendgrid";
    case EspFormat::mailgun:
      return "mailgun";
    case EspFormat::postmark:
      return "postmark";
    case EspFormat::sparkpost:
      return "sparkpost";
  }
  return {};
}

std::optional<EspFormat> parse_esp_format(std::string_view name) {
  for (const auto format : {EspFormat::ses, EspFormat::sendgrid, EspFormat::mailgun, EspFormat::postmark, EspFormat::sparkpost})
    if (to_string(format) == name) return format;
  return std::nullopt;
}

std::string_view to_string(EspEventKind kind) {
  switch (kind) {
    case Kind::delivered:
      return "delivered";
    case Kind::bounced:
      return "bounced";
    case Kind::complained:
      return "complained";
    case Kind::suppressed:
      return "suppressed";
    case Kind::deferred:
      return "deferred";
  }
  return {};
}

std::optional<EspEventKind> parse_esp_event_kind(std::string_view name) {
  for (const auto kind : {Kind::delivered, Kind::bounced, Kind::complained, Kind::suppressed, Kind::deferred})
    if (to_string(kind) == name) return kind;
  return std::nullopt;
}

EspBatch parse_esp_events(EspFormat format, std::string_view body, Time now) {
  EspBatch out;
  json::error_code error;
  const json::value root = json::parse(body, error);
  if (error) {
    out.malformed = true;
    return out;
  }
  switch (format) {
    case EspFormat::ses:
      ses(root, now, out);
      break;
    case EspFormat::sendgrid:
      batch(root, out, [&](const json::value& entry) { sendgrid_one(object(entry), now, out); });
      break;
    case EspFormat::mailgun:
      mailgun(root, now, out);
      break;
    case EspFormat::postmark:
      postmark(root, now, out);
      break;
    case EspFormat::sparkpost:
      batch(root, out, [&](const json::value& entry) { sparkpost_entry(entry, now, out); });
      break;
  }
  if (out.events.size() > max_esp_events) out.events.resize(max_esp_events);
  out.left_out += static_cast<std::size_t>(std::erase_if(out.events, [](const EspEvent& e) { return e.recipient.empty(); }));
  return out;
}

std::optional<Time> parse_rfc3339(std::string_view in) {
  const auto number = [&](std::size_t at, std::size_t digits) -> int {
    int value = -1;
    if (at + digits > in.size()) return -1;
    const auto [end, error] = std::from_chars(in.data() + at, in.data() + at + digits, value);
    return error == std::errc{} && end == in.data() + at + digits ? value : -1;
  };
  if (in.size() < 20 || in.size() > 40 || in[4] != '-' || in[7] != '-' || (in[10] != 'T' && in[10] != 't') || in[13] != ':' ||
      in[16] != ':')
    return std::nullopt;
  const std::array parts{number(0, 4), number(5, 2), number(8, 2), number(11, 2), number(14, 2), number(17, 2)};
  if (std::ranges::any_of(parts, [](int part) { return part < 0; })) return std::nullopt;
  const std::chrono::year_month_day day{std::chrono::year(parts[0]), std::chrono::month(static_cast<unsigned>(parts[1])),
                                        std::chrono::day(static_cast<unsigned>(parts[2]))};
  if (!day.ok() || parts[3] > 23 || parts[4] > 59 || parts[5] > 60) return std::nullopt;
  Time out =
      std::chrono::sys_days(day) + std::chrono::hours(parts[3]) + std::chrono::minutes(parts[4]) + std::chrono::seconds(parts[5]);
  std::size_t at = 19;
  if (in[at] == '.') {
    int scale = 100;
    for (++at; at < in.size() && in[at] >= '0' && in[at] <= '9'; ++at, scale /= 10) out += Duration((in[at] - '0') * scale);
  }
  const std::string_view zone = in.substr(at);
  if (zone == "Z" || zone == "z") return out;
  if (zone.size() != 6 || (zone[0] != '+' && zone[0] != '-') || zone[3] != ':') return std::nullopt;
  const int hours = number(at + 1, 2), minutes = number(at + 4, 2);
  if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) return std::nullopt;
  const auto offset = std::chrono::hours(hours) + std::chrono::minutes(minutes);
  return zone[0] == '+' ? out - offset : out + offset;
}

}  // namespace egret::routing
