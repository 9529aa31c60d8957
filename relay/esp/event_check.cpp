#include "relay/esp/event_check.hpp"

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>

#include "smtp/text.hpp"

namespace egret::relay {
namespace {

namespace json = boost::json;
using routing::EspFormat;

constexpr std::size_t max_token = 200;
constexpr routing::Duration max_ahead{std::chrono::minutes(5)};  // of the maker's clock

std::string text(const json::object& in, std::string_view key) {
  const auto* value = in.if_contains(key);
  if (!value) return {};
  if (value->is_string()) return std::string(value->get_string());
  return value->is_int64() ? std::to_string(value->get_int64()) : std::string();
}

bool in_time(routing::Time signed_at, routing::Time now, routing::Duration max_age) {
  return now - signed_at <= max_age && signed_at - now <= max_ahead;
}

/// Seconds since 1970 in decimal, as makers write them; in time or not.
bool in_time(std::string_view seconds, routing::Time now, routing::Duration max_age) {
  long long value = 0;
  const auto [end, error] = std::from_chars(seconds.data(), seconds.data() + seconds.size(), value);
  if (error != std::errc{} || end != seconds.data() + seconds.size() || value < 0 || value > 100'000'000'000) return false;
  return in_time(routing::Time(std::chrono::seconds(value)), now, max_age);
}

EventRefusal sendgrid(const config::EspEvents& settings, const EventRequest& request, routing::Time now) {
  const std::string_view signature = request.field("X-Twilio-Email-Event-Webhook-Signature");
  const std::string_view timestamp = request.field("X-Twilio-Email-Event-Webhook-Timestamp");
  if (timestamp.size() > 20 || !smtp::sendgrid_signature_fits(*settings.key, signature, timestamp, request.body))
    return EventRefusal::signature;
  return in_time(timestamp, now, settings.max_age) ? EventRefusal::none : EventRefusal::old;
}

EventRefusal mailgun(const config::EspEvents& settings, const EventRequest& request, routing::Time now, std::string& token) {
  json::error_code error;
  const json::value root = json::parse(request.body, error);
  if (error || !root.is_object()) return EventRefusal::malformed;
  const auto* part = root.get_object().if_contains("signature");
  if (!part || !part->is_object()) return EventRefusal::malformed;
  const json::object& object = part->get_object();
  const std::string timestamp = text(object, "timestamp"), given = text(object, "token");
  if (timestamp.size() > 20 || given.empty() || given.size() > max_token) return EventRefusal::malformed;
  if (!smtp::mailgun_signature_fits(settings.signing_key, timestamp, given, text(object, "signature")))
    return EventRefusal::signature;
  if (!in_time(timestamp, now, settings.max_age)) return EventRefusal::old;
  token = given;
  return EventRefusal::none;
}

EventRefusal shown_secret(const config::EspEvents& settings, const EventRequest& request) {
  if (!settings.secret.empty())
    return smtp::same_secret(request.field(settings.header), settings.secret) ? EventRefusal::none : EventRefusal::credentials;
  const std::string_view given = request.field("Authorization");
  if (!smtp::istarts_with(given, "Basic ")) return EventRefusal::credentials;
  const auto login = smtp::base64_decode(smtp::trim(given.substr(6)));
  const bool right = login && smtp::same_secret(*login, settings.username + ':' + settings.password);
  return right ? EventRefusal::none : EventRefusal::credentials;
}

}  // namespace

std::string_view EventRequest::field(std::string_view name) const {
  for (const auto& [key, value] : fields)
    if (smtp::iequals(key, name)) return value;
  return {};
}

std::string_view to_string(EventRefusal refusal) {
  switch (refusal) {
    case EventRefusal::none:
      return "none";
    case EventRefusal::address:
      return "address";
    case EventRefusal::credentials:
      return "credentials";
    case EventRefusal::signature:
      return "signature";
    case EventRefusal::topic:
      return "topic";
    case EventRefusal::url:
      return "url";
    case EventRefusal::old:
      return "old";
    case EventRefusal::replayed:
      return "replayed";
    case EventRefusal::malformed:
      return "malformed";
    case EventRefusal::path:
      return "path";
    case EventRefusal::method:
      return "method";
    case EventRefusal::too_large:
      return "too-large";
  }
  return {};
}

EventRefusal check_event_request(const config::EspEvents& settings, const EventRequest& request, routing::Time now,
                                 std::string& token) {
  switch (settings.format) {
    case EspFormat::ses:
      return EventRefusal::malformed;  // judged in two steps, see below
    case EspFormat::sendgrid:
      return sendgrid(settings, request, now);
    case EspFormat::mailgun:
      return mailgun(settings, request, now, token);
    case EspFormat::postmark:
    case EspFormat::sparkpost:
      return shown_secret(settings, request);
  }
  return EventRefusal::malformed;
}

std::optional<smtp::SnsMessage> parse_sns(std::string_view body) {
  json::error_code error;
  const json::value root = json::parse(body, error);
  if (error || !root.is_object()) return std::nullopt;
  const json::object& object = root.get_object();
  smtp::SnsMessage out;
  out.type = text(object, "Type");
  out.message = text(object, "Message");
  out.message_id = text(object, "MessageId");
  if (const auto* subject = object.if_contains("Subject"); subject && subject->is_string()) out.subject = text(object, "Subject");
  out.timestamp = text(object, "Timestamp");
  out.topic = text(object, "TopicArn");
  out.token = text(object, "Token");
  out.subscribe_url = text(object, "SubscribeURL");
  out.signature = text(object, "Signature");
  out.signature_version = text(object, "SignatureVersion");
  out.certificate_url = text(object, "SigningCertURL");
  if (out.message_id.empty() || out.topic.empty() || out.signature.empty() || !smtp::sns_signed_text(out)) return std::nullopt;
  return out;
}

EventRefusal check_sns(const config::EspEvents& settings, const smtp::SnsMessage& message, routing::Time now) {
  if (std::ranges::find(settings.topics, message.topic) == settings.topics.end()) return EventRefusal::topic;
  const auto time = routing::parse_rfc3339(message.timestamp);
  if (!time) return EventRefusal::malformed;
  if (!in_time(*time, now, settings.max_age)) return EventRefusal::old;
  const std::string region = smtp::sns_topic_region(message.topic);
  if (!smtp::sns_certificate_target(message.certificate_url, region)) return EventRefusal::url;
  if (message.type == "SubscriptionConfirmation" && !smtp::sns_url_target(message.subscribe_url, region))
    return EventRefusal::url;
  return EventRefusal::none;
}

}  // namespace egret::relay
