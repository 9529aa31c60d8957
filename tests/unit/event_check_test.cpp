#include "relay/esp/event_check.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "config/config.hpp"
#include "relay/esp/esp_tag.hpp"
#include "tests/unit/webhook_keys.hpp"

namespace egret::relay {
namespace {

using config::EspEvents;
using routing::EspFormat;
using routing::Time;

const Time now = *routing::parse_rfc3339("2026-11-22T12:00:00Z");

std::string seconds(Time time) {
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count());
}

EspEvents settings(EspFormat format) {
  EspEvents out;
  out.format = format;
  return out;
}

EventRefusal check(const EspEvents& s, const EventRequest& request) {
  std::string token;
  return check_event_request(s, request, now, token);
}

TEST(EventCheck, OfSendGridWantsAFreshSignatureOfTheBody) {
  const SigningKey key(SigningKey::p256());
  EspEvents s = settings(EspFormat::sendgrid);
  std::string error;
  s.key = smtp::VerifyingKey::p256(key.public_key(), error);
  const auto request = [&](Time time, const std::string& body) {
    return EventRequest{{},
                        {{"x-twilio-email-event-webhook-signature", key.sign(seconds(time) + "[]")},
                         {"X-Twilio-Email-Event-Webhook-Timestamp", seconds(time)}},
                        body};
  };
  EXPECT_EQ(check(s, request(now, "[]")), EventRefusal::none);
  EXPECT_EQ(check(s, request(now, "[ ]")), EventRefusal::signature);
  EXPECT_EQ(check(s, request(now - std::chrono::minutes(6), "[]")), EventRefusal::old);
  EXPECT_EQ(check(s, request(now + std::chrono::minutes(6), "[]")), EventRefusal::old);
  EXPECT_EQ(check(s, {{}, {}, "[]"}), EventRefusal::signature);
}

TEST(EventCheck, OfMailgunGivesTheToken) {
  EspEvents s = settings(EspFormat::mailgun);
  s.signing_key = "key";
  const auto body = [](const std::string& timestamp, const std::string& signature) {
    return R"({"signature":{"timestamp":")" + timestamp + R"(","token":"abc","signature":")" + signature +
           R"("},"event-data":{}})";
  };
  const std::string good = "bd2f1af294b8152534265a2dada145799d31c54cb9bab55bf4ea75be1770a0e3";
  std::string token;
  EXPECT_EQ(check_event_request(s, {{}, {}, body("1700000000", good)}, Time(std::chrono::seconds(1700000000)), token),
            EventRefusal::none);
  EXPECT_EQ(token, "abc");
  EXPECT_EQ(check(s, {{}, {}, body("1700000000", good)}), EventRefusal::old);
  EXPECT_EQ(check(s, {{}, {}, body("1700000001", good)}), EventRefusal::signature);
  for (const char* rubbish : {"", "{}", "[]", "{\"signature\":7}", "{\"signature\":{}}"})
    EXPECT_EQ(check(s, {{}, {}, rubbish}), EventRefusal::malformed) << rubbish;
}

TEST(EventCheck, OfPostmarkAndSparkPostWantsTheSecret) {
  for (const auto format : {EspFormat::postmark, EspFormat::sparkpost}) {
    EspEvents s = settings(format);
    s.username = "u";
    s.password = "p4ssw0rd";
    EXPECT_EQ(check(s, {{}, {{"Authorization", "Basic " + smtp::base64_encode("u:p4ssw0rd")}}, ""}), EventRefusal::none);
    EXPECT_EQ(check(s, {{}, {{"Authorization", "Basic " + smtp::base64_encode("u:p4ssw0re")}}, ""}), EventRefusal::credentials);
    for (const char* value : {"", "Basic ", "Basic ???", "Bearer p4ssw0rd"})
      EXPECT_EQ(check(s, {{}, {{"Authorization", value}}, ""}), EventRefusal::credentials) << value;
    EXPECT_EQ(check(s, {{}, {}, ""}), EventRefusal::credentials);
    s = settings(format);
    s.header = "X-Secret";
    s.secret = "s3cr3t-01";
    EXPECT_EQ(check(s, {{}, {{"x-secret", "s3cr3t-01"}}, ""}), EventRefusal::none);
    EXPECT_EQ(check(s, {{}, {{"x-secret", "s3cr3t-02"}}, ""}), EventRefusal::credentials);
  }
}

smtp::SnsMessage sns() {
  smtp::SnsMessage m;
  m.type = "Notification";
  m.message_id = "m1";
  m.topic = "arn:aws:sns:eu-west-1:123456789012:ses";
  m.timestamp = "2026-11-22T11:30:00.000Z";
  m.certificate_url = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem";
  return m;
}

TEST(EventCheck, OfSnsLooksAtTopicAgeAndHostsBeforeAnythingIsFetched) {
  EspEvents s = settings(EspFormat::ses);
  s.topics = {"arn:aws:sns:eu-west-1:123456789012:ses"};
  s.max_age = std::chrono::hours(1);
  EXPECT_EQ(check_sns(s, sns(), now), EventRefusal::none);
  auto m = sns();
  m.topic = "arn:aws:sns:eu-west-1:999999999999:ses";
  EXPECT_EQ(check_sns(s, m, now), EventRefusal::topic);
  m = sns();
  m.timestamp = "2026-11-22T10:59:00.000Z";
  EXPECT_EQ(check_sns(s, m, now), EventRefusal::old);
  m.timestamp = "soon";
  EXPECT_EQ(check_sns(s, m, now), EventRefusal::malformed);
  for (const char* url : {"https://evil.example/x.pem", "https://sns.us-east-1.amazonaws.com/x.pem",
                          "https://sns.eu-west-1.amazonaws.com/x.pem", "https://sns.eu-west-1.amazonaws.com/?Action=X&x=.pem",
                          "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-x/../y.pem", ""}) {
    m = sns();
    m.certificate_url = url;
    EXPECT_EQ(check_sns(s, m, now), EventRefusal::url) << url;
  }
  m = sns();
  m.type = "SubscriptionConfirmation";
  m.subscribe_url = "https://evil.example/?Action=ConfirmSubscription";
  EXPECT_EQ(check_sns(s, m, now), EventRefusal::url);
  m.subscribe_url = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription";
  EXPECT_EQ(check_sns(s, m, now), EventRefusal::none);
}

TEST(EventCheck, ReadsTheOuterObjectOfSns) {
  const auto m = parse_sns(R"({"Type":"Notification","MessageId":"m1","TopicArn":"t","Subject":"s","Message":"{}",
    "Timestamp":"2026","SignatureVersion":"1","Signature":"AA==","SigningCertURL":"u","UnsubscribeURL":"v"})");
  ASSERT_TRUE(m);
  EXPECT_EQ(m->subject, "s");
  EXPECT_EQ(m->message, "{}");
  for (const char* rubbish : {"", "[]", "{}", R"({"Type":"Other","MessageId":"m","TopicArn":"t","Signature":"s"})"})
    EXPECT_FALSE(parse_sns(rubbish)) << rubbish;
}

TEST(EspTag, IsAFieldOfTheEspUnlessTheOperatorHasHisOwn) {
  const std::vector<std::string> strip{"X-SES-*", "X-SMTPAPI", "X-Mailgun-*", "X-MSYS-API", "X-PM-*"};
  const auto id = static_cast<smtp::MessageId>(77);
  config::Smarthost host;
  EXPECT_FALSE(esp_tag(host, strip, id));
  const std::pair<EspFormat, std::string> fields[] = {
      {EspFormat::ses, "X-SES-MESSAGE-TAGS: egret=" + smtp::to_string(id)},
      {EspFormat::sendgrid, "X-SMTPAPI: {\"unique_args\":{\"egret\":\"" + smtp::to_string(id) + "\"}}"},
      {EspFormat::mailgun, "X-Mailgun-Variables: {\"egret\":\"" + smtp::to_string(id) + "\"}"},
      {EspFormat::postmark, "X-PM-Metadata-egret: " + smtp::to_string(id)},
      {EspFormat::sparkpost, "X-MSYS-API: {\"metadata\":{\"egret\":\"" + smtp::to_string(id) + "\"}}"}};
  for (const auto& [format, expected] : fields) {
    host.events = std::make_shared<EspEvents>(settings(format));
    const auto tag = esp_tag(host, strip, id);
    ASSERT_TRUE(tag);
    EXPECT_EQ(tag->first + ": " + tag->second, expected);
    EXPECT_FALSE(esp_tag(host, {}, id)) << "the application's own may be there";
    host.add_headers = {{tag->first, "own"}};
    EXPECT_FALSE(esp_tag(host, strip, id));
    host.add_headers.clear();
    host.keep_headers = {"X-*"};
    EXPECT_FALSE(esp_tag(host, strip, id));
    host.keep_headers.clear();
  }
  EspEvents off = settings(EspFormat::ses);
  off.tag = false;
  host.events = std::make_shared<EspEvents>(off);
  EXPECT_FALSE(esp_tag(host, strip, id));
}

// ---- configuration -----------------------------------------------------------------------------------------------------

std::string problems_of(const std::string& events, const std::string& listener,
                        std::shared_ptr<const config::Config>* out = nullptr, const std::string& provider = "generic") {
  const std::string text =
      "hostname: relay.example.com\nlisteners: [{address: \"127.0.0.1:2525\"}]\n"
      "sources: {out1: {address: 192.0.2.1}}\npools: {main: {sources: [out1]}}\n"
      "classes: {transactional: {pool: main}}\nsmarthosts: {esp: {provider: " +
      provider + ", address: \"smtp.example.net:587\", username: u, password: p, events: " + events + "}}\n" + listener;
  config::Problems problems;
  const auto config = config::load_text(
      text, "f", [](const std::string&) { return std::nullopt; }, problems);
  if (out) *out = config;
  std::string joined;
  for (const auto& problem : problems) joined += problem.to_string() + "\n";
  return joined;
}

constexpr const char* loopback = "esp_events: {address: \"127.0.0.1:8443\"}\n";

TEST(EspEventsConfig, TakesItsFormatFromTheProvider) {
  std::shared_ptr<const config::Config> config;
  ASSERT_EQ(problems_of("{signing_key: k, max_age: 2m, allow: [192.0.2.0/24]}", loopback, &config, "mailgun-eu"), "");
  EXPECT_EQ(config->smarthosts[0].events->format, EspFormat::mailgun);
  EXPECT_EQ(config->smarthosts[0].events->max_age, std::chrono::minutes(2));
  EXPECT_EQ(config->event_listener->port, 8443);
  ASSERT_EQ(problems_of("{format: ses, topic: \"arn:aws:sns:eu-west-1:123456789012:x\"}", loopback, &config), "");
  EXPECT_EQ(config->smarthosts[0].events->max_age, std::chrono::hours(1));
}

TEST(EspEventsConfig, RefusesWhatCannotBeMeant) {
  const std::pair<const char*, const char*> bad[] = {
      {"{}", "events.format: is required"},
      {"{format: brevo}", "expected ses, sendgrid"},
      {"{format: ses}", "topic: is required"},
      {"{format: ses, topic: \"arn:aws:sqs:eu-west-1:123456789012:x\"}", "expected arn:aws:sns"},
      {"{format: ses, topic: \"arn:aws:sns:eu-west-1:123456789012:x\", certificate: /nowhere}", "cannot be read"},
      {"{format: sendgrid}", "public_key: is required"},
      {"{format: sendgrid, public_key: AAAA}", "P-256"},
      {"{format: mailgun}", "signing_key: is required"},
      {"{format: mailgun, signing_key: k, max_age: 1s}", "expected 10s to 3d"},
      {"{format: mailgun, signing_key: k, allow: [nonsense]}", "events.allow"},
      {"{format: mailgun, signing_key: k, public_key: k}", "public_key"},
      {"{format: postmark}", "anybody could report bounces"},
      {"{format: postmark, username: u}", "go together"},
      {"{format: postmark, username: u, password: short}", "at least 8"},
      {"{format: sparkpost, header: X-S, secret: 0123456789, username: u, password: 0123456789}", "expected username"},
      {"{format: sparkpost, header: \"X S\", secret: 0123456789}", "expected a field name"},
  };
  for (const auto& [events, problem] : bad) {
    const std::string said = problems_of(events, loopback);
    EXPECT_NE(said.find(problem), std::string::npos) << events << ": " << said;
  }
}

TEST(EspEventsConfig, ListensInClearOnLoopbackOnly) {
  const char* events = "{format: mailgun, signing_key: k}";
  const std::pair<const char*, const char*> bad[] = {
      {"", "esp_events: is required: smarthost esp has events"},
      {"esp_events: {address: \"0.0.0.0:8443\"}\n", "esp_events.tls: is required"},
      {"esp_events: {address: \"localhost:8443\"}\n", "expected an IP address and a port"},
      {"esp_events: {address: \"127.0.0.1:8025\"}\n", "admin address"},
      {"esp_events: {address: \"127.0.0.1:8443\", tls: {certificate: /nowhere, key: /nowhere}}\n", "cannot be read"},
      {"esp_events: {address: \"127.0.0.1:8443\", retention: 1m}\n", "expected 1h to 90d"},
      {"esp_events: {address: \"127.0.0.1:8443\", forward: {webhook: \"http://hooks.example.com/\", secret: s}}\n", "use https"},
      {"esp_events: {address: \"127.0.0.1:8443\", forward: {webhook: \"https://hooks.example.com/\"}}\n",
       "forward.secret: is required"},
      {"esp_events: {address: \"127.0.0.1:8443\", forward: {webhook: \"https://hooks.example.com/\", secret: s, on: [opened]}}\n",
       "expected delivered, bounced"},
  };
  for (const auto& [listener, problem] : bad) {
    const std::string said = problems_of(events, listener);
    EXPECT_NE(said.find(problem), std::string::npos) << listener << ": " << said;
  }
}

}  // namespace
}  // namespace egret::relay
