#include "routing/esp_event.hpp"

#include <gtest/gtest.h>

namespace egret::routing {
namespace {

using Kind = EspEventKind;

const Time now = *parse_rfc3339("2026-11-22T12:00:00Z");

EspBatch parse(EspFormat format, std::string_view body) {
  return parse_esp_events(format, body, now);
}

EspEvent only(EspFormat format, std::string_view body) {
  const EspBatch out = parse(format, body);
  EXPECT_FALSE(out.malformed);
  EXPECT_EQ(out.events.size(), 1u);
  return out.events.empty() ? EspEvent{} : out.events.front();
}

TEST(EspEvent, OfSesIsAPermanentBounceWithItsDiagnosis) {
  const auto e = only(EspFormat::ses, R"({"eventType":"Bounce","bounce":{"feedbackId":"0102-f","bounceType":"Permanent",
    "bounceSubType":"General","bouncedRecipients":[{"emailAddress":"user@shop.test","action":"failed","status":"5.1.1",
    "diagnosticCode":"smtp; 550 5.1.1 user unknown"}],"timestamp":"2026-11-22T11:00:01.250Z"},
    "mail":{"messageId":"0102018f-aa-000000","destination":["user@shop.test"],"tags":{"egret":["0ABC"],"ses:from-domain":["x"]}}})");
  EXPECT_EQ(e.kind, Kind::bounced);
  EXPECT_TRUE(e.permanent);
  EXPECT_EQ(e.esp_ids, std::vector<std::string>{"0102018f-aa-000000"});
  EXPECT_EQ(e.recipient, "user@shop.test");
  EXPECT_EQ(e.status, "5.1.1");
  EXPECT_EQ(e.diagnostic, "smtp; 550 5.1.1 user unknown");
  EXPECT_EQ(e.our_id, "0ABC");
  EXPECT_EQ(to_rfc3339(e.time), "2026-11-22T11:00:01.250Z");
  EXPECT_EQ(e.key, "0102-f/bounced/user@shop.test");
}

TEST(EspEvent, OfSesKnowsItsKinds) {
  const std::string mail = R"("mail":{"messageId":"m1","destination":["a@b.test","c@d.test"]}})";
  const auto kind = [&](const std::string& head) { return parse(EspFormat::ses, head + mail); };
  auto out = kind(R"({"notificationType":"Delivery","delivery":{"recipients":["a@b.test","c@d.test"],"smtpResponse":"250 ok"},)");
  ASSERT_EQ(out.events.size(), 2u);
  EXPECT_EQ(out.events[1].kind, Kind::delivered);
  EXPECT_EQ(out.events[1].diagnostic, "250 ok");
  EXPECT_EQ(out.events[0].time, now);
  EXPECT_NE(out.events[0].key, out.events[1].key);
  out = kind(R"({"eventType":"Bounce","bounce":{"bounceType":"Permanent","bounceSubType":"OnAccountSuppressionList",
                 "bouncedRecipients":[{"emailAddress":"a@b.test"}]},)");
  EXPECT_EQ(out.events.at(0).kind, Kind::suppressed);
  EXPECT_TRUE(out.events.at(0).permanent);
  out = kind(R"({"eventType":"Bounce","bounce":{"bounceType":"Transient","bounceSubType":"General",
                 "bouncedRecipients":[{"emailAddress":"a@b.test"}]},)");
  EXPECT_FALSE(out.events.at(0).permanent) << "automatic answers look like this";
  out = kind(R"({"eventType":"Bounce","bounce":{"bounceType":"Transient","bounceSubType":"MailboxFull",
                 "bouncedRecipients":[{"emailAddress":"a@b.test"}]},)");
  EXPECT_TRUE(out.events.at(0).permanent);
  out = kind(
      R"({"eventType":"Complaint","complaint":{"complaintFeedbackType":"abuse","complainedRecipients":[{"emailAddress":"a@b.test"}]},)");
  EXPECT_EQ(out.events.at(0).kind, Kind::complained);
  EXPECT_EQ(out.events.at(0).diagnostic, "abuse");
  out = kind(
      R"({"eventType":"DeliveryDelay","deliveryDelay":{"delayType":"MailboxFull","delayedRecipients":[{"emailAddress":"a@b.test","status":"4.2.2"}]},)");
  EXPECT_EQ(out.events.at(0).kind, Kind::deferred);
  out = kind(R"({"eventType":"Reject","reject":{"reason":"Bad content"},)");
  ASSERT_EQ(out.events.size(), 2u);
  EXPECT_TRUE(out.events[0].permanent);
  out = kind(R"({"eventType":"Open","open":{},)");
  EXPECT_EQ(out.events.size(), 0u);
  EXPECT_EQ(out.left_out, 1u);
}

TEST(EspEvent, OfSendGridComeInBatches) {
  const auto out = parse(EspFormat::sendgrid, R"([
    {"email":"a@b.test","timestamp":1700000000,"smtp-id":"<x@y>","event":"processed","sg_event_id":"e0","sg_message_id":"m1.f2.0"},
    {"email":"a@b.test","timestamp":1700000001,"event":"delivered","sg_event_id":"e1","sg_message_id":"m1.f2.0","response":"250 OK","egret":"0ABC"},
    {"email":"a@b.test","timestamp":1700000002,"event":"bounce","type":"bounce","status":"5.1.1","reason":"550 5.1.1 no","sg_event_id":"e2","sg_message_id":"m1.f2.0"},
    {"email":"a@b.test","timestamp":1700000002,"event":"bounce","type":"blocked","reason":"550 5.7.1 blocked","sg_event_id":"e3"},
    {"email":"a@b.test","timestamp":1700000003,"event":"dropped","reason":"Bounced Address","sg_event_id":"e4"},
    {"email":"a@b.test","timestamp":1700000003,"event":"dropped","reason":"Spam Content","sg_event_id":"e5"},
    {"email":"a@b.test","timestamp":1700000004,"event":"deferred","response":"451 later","attempt":"3","sg_event_id":"e6"},
    {"email":"a@b.test","timestamp":1700000005,"event":"spamreport","sg_event_id":"e7"},
    {"email":"a@b.test","timestamp":1700000006,"event":"open"}, 17, null])");
  ASSERT_EQ(out.events.size(), 7u);
  EXPECT_EQ(out.left_out, 4u);
  const Kind kinds[] = {Kind::delivered, Kind::bounced,  Kind::bounced,   Kind::suppressed,
                        Kind::bounced,   Kind::deferred, Kind::complained};
  for (std::size_t i = 0; i < 7; ++i) EXPECT_EQ(out.events[i].kind, kinds[i]) << i;
  EXPECT_EQ(out.events[0].esp_ids, std::vector<std::string>{"m1"});
  EXPECT_EQ(out.events[0].our_id, "0ABC");
  EXPECT_EQ(out.events[0].time, Time(std::chrono::seconds(1700000001)));
  EXPECT_EQ(out.events[1].diagnostic, "550 5.1.1 no");
  EXPECT_TRUE(out.events[2].permanent);
  EXPECT_FALSE(out.events[5].permanent);
}

TEST(EspEvent, OfMailgun) {
  const auto event = [](const std::string& data) {
    return R"({"signature":{"timestamp":"1","token":"t","signature":"s"},"event-data":{)" + data +
           R"(,"id":"E1","timestamp":1529006854.329574,"recipient":"a@b.test","message":{"headers":{"message-id":"2013.1@mg.test"}},
              "user-variables":{"egret":"0ABC"}}})";
  };
  auto e = only(EspFormat::mailgun, event(R"("event":"failed","severity":"permanent","reason":"bounce","delivery-status":
    {"code":550,"message":"5.1.1 The account does not exist","enhanced-code":"5.1.1"})"));
  EXPECT_EQ(e.kind, Kind::bounced);
  EXPECT_TRUE(e.permanent);
  EXPECT_EQ(e.diagnostic, "550 5.1.1 The account does not exist");
  EXPECT_EQ(e.esp_ids, std::vector<std::string>{"2013.1@mg.test"});
  EXPECT_EQ(e.our_id, "0ABC");
  EXPECT_EQ(to_rfc3339(e.time), "2018-06-14T20:07:34.330Z");
  e = only(EspFormat::mailgun, event(R"("event":"failed","severity":"permanent","reason":"suppress-bounce")"));
  EXPECT_EQ(e.kind, Kind::suppressed);
  e = only(EspFormat::mailgun, event(R"("event":"failed","severity":"temporary","reason":"generic")"));
  EXPECT_EQ(e.kind, Kind::deferred);
  EXPECT_FALSE(e.permanent);
  EXPECT_EQ(only(EspFormat::mailgun, event(R"("event":"delivered")")).kind, Kind::delivered);
  EXPECT_EQ(only(EspFormat::mailgun, event(R"("event":"complained")")).kind, Kind::complained);
  EXPECT_EQ(only(EspFormat::mailgun, event(R"("event":"rejected","reject":{"reason":"loop"})")).diagnostic, "loop");
  EXPECT_EQ(parse(EspFormat::mailgun, event(R"("event":"opened")")).left_out, 1u);
}

TEST(EspEvent, OfPostmark) {
  auto e = only(EspFormat::postmark, R"({"RecordType":"Bounce","ID":42,"Type":"HardBounce","TypeCode":1,"Email":"a@b.test",
    "BouncedAt":"2026-11-22T06:00:00-05:00","Details":"smtp;550 5.1.1 unknown","MessageID":"883953f4","Metadata":{"egret":"0ABC"}})");
  EXPECT_EQ(e.kind, Kind::bounced);
  EXPECT_TRUE(e.permanent);
  EXPECT_EQ(to_rfc3339(e.time), "2026-11-22T11:00:00.000Z");
  EXPECT_EQ(e.our_id, "0ABC");
  EXPECT_EQ(e.key, "883953f4@42/bounced/a@b.test");
  const auto bounce = [](const std::string& type, const std::string& details = "") {
    return parse(EspFormat::postmark, R"({"RecordType":"Bounce","ID":1,"MessageID":"m","Email":"a@b.test","Type":")" + type +
                                          R"(","Details":")" + details + "\"}");
  };
  EXPECT_EQ(bounce("Transient").events.at(0).kind, Kind::deferred);
  EXPECT_EQ(bounce("AutoResponder").left_out, 1u);
  EXPECT_EQ(bounce("SMTPApiError", "Inactive recipient").events.at(0).kind, Kind::suppressed);
  EXPECT_EQ(bounce("SMTPApiError", "attachment type").events.at(0).kind, Kind::bounced);
  EXPECT_FALSE(bounce("SpamNotification").events.at(0).permanent);
  EXPECT_EQ(only(EspFormat::postmark, R"({"RecordType":"SpamComplaint","ID":3,"MessageID":"m","Email":"a@b.test"})").kind,
            Kind::complained);
  EXPECT_EQ(only(EspFormat::postmark, R"({"RecordType":"Delivery","MessageID":"m","Recipient":"a@b.test"})").kind,
            Kind::delivered);
  EXPECT_EQ(parse(EspFormat::postmark, R"({"RecordType":"SubscriptionChange","Recipient":"a@b.test"})").left_out, 1u);
}

TEST(EspEvent, OfSparkPost) {
  const auto out = parse(EspFormat::sparkpost, R"([{"msys":{}},
    {"msys":{"message_event":{"type":"bounce","bounce_class":"10","error_code":"550","raw_reason":"5.1.1 no such user",
      "rcpt_to":"a@b.test","message_id":"65f1","transmission_id":"7788","event_id":"92","timestamp":"1700000000","rcpt_meta":{"egret":"0ABC"}}}},
    {"msys":{"message_event":{"type":"out_of_band","bounce_class":"60","rcpt_to":"a@b.test"}}},
    {"msys":{"message_event":{"type":"policy_rejection","reason":"554 5.7.1 recipient address suppressed","rcpt_to":"a@b.test"}}},
    {"msys":{"message_event":{"type":"delay","rcpt_to":"a@b.test"}}},
    {"msys":{"message_event":{"type":"delivery","rcpt_to":"a@b.test"}}},
    {"msys":{"message_event":{"type":"spam_complaint","rcpt_to":"a@b.test"}}},
    {"msys":{"gen_event":{"type":"generation_rejection","rcpt_to":"a@b.test"}}},
    {"msys":{"track_event":{"type":"open","rcpt_to":"a@b.test"}}}])");
  ASSERT_EQ(out.events.size(), 6u);
  EXPECT_EQ(out.left_out, 3u);
  EXPECT_EQ(out.events[0].kind, Kind::bounced);
  EXPECT_EQ(out.events[0].esp_ids, (std::vector<std::string>{"65f1", "7788"}));
  EXPECT_EQ(out.events[0].diagnostic, "550 5.1.1 no such user");
  EXPECT_EQ(out.events[0].our_id, "0ABC");
  EXPECT_EQ(out.events[1].kind, Kind::suppressed);
  EXPECT_EQ(out.events[2].kind, Kind::deferred);
  EXPECT_EQ(out.events[3].kind, Kind::delivered);
  EXPECT_EQ(out.events[4].kind, Kind::complained);
  EXPECT_EQ(out.events[5].kind, Kind::bounced);
}

TEST(EspEvent, OfRubbishIsMalformedOrNothing) {
  for (const auto format : {EspFormat::ses, EspFormat::sendgrid, EspFormat::mailgun, EspFormat::postmark, EspFormat::sparkpost}) {
    for (const char* body : {"", "{", "null", "17", "\"x\"", "{}", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]"})
      EXPECT_TRUE(parse(format, body).malformed) << to_string(format) << ' ' << body;
    const EspBatch odd = parse(format, R"([{"event":7,"email":{}},{"msys":[]},{"event":"bounce","email":[],"timestamp":"x"}])");
    EXPECT_TRUE(odd.events.empty());
  }
  EXPECT_TRUE(parse(EspFormat::ses, R"({"eventType":"Bounce","mail":{"messageId":"m"},"bounce":{"bouncedRecipients":[7,{}]}})")
                  .events.empty());
}

TEST(EspEvent, IsCutAndCleaned) {
  const std::string longer(5000, 'x');
  const auto e = only(EspFormat::sendgrid, R"([{"event":"bounce","email":"a@b.test","reason":"line\r\n)" + longer +
                                               R"(","sg_event_id":")" + longer + R"(","sg_message_id":")" + longer + R"("}])");
  EXPECT_EQ(e.diagnostic.size(), 1000u);
  EXPECT_EQ(e.diagnostic.find('\n'), std::string::npos);
  EXPECT_TRUE(e.esp_ids.empty());
  EXPECT_LE(e.key.size(), 240u);
}

TEST(EspEvent, TooManyInOneRequestAreCutOff) {
  std::string body = "[";
  for (int i = 0; i < 6000; ++i) body += std::string(i ? "," : "") + R"({"event":"delivered","email":"a@b.test"})";
  EXPECT_EQ(parse(EspFormat::sendgrid, body + "]").events.size(), max_esp_events);
}

TEST(Rfc3339, IsReadWithFractionAndOffset) {
  EXPECT_EQ(to_rfc3339(*parse_rfc3339("2026-11-22T03:14:15Z")), "2026-11-22T03:14:15.000Z");
  EXPECT_EQ(to_rfc3339(*parse_rfc3339("2026-11-22T03:14:15.9265Z")), "2026-11-22T03:14:15.926Z");
  EXPECT_EQ(to_rfc3339(*parse_rfc3339("2026-11-22T03:14:15+02:00")), "2026-11-22T01:14:15.000Z");
  for (const char* text : {"", "2026-11-22", "2026-11-22T03:14:15", "2026-02-30T03:14:15Z", "2026-11-22T24:14:15Z",
                           "2026-11-22T03:14:15.", "2026-11-22T03:14:15+2:00", "-026-11-22T03:14:15Z"})
    EXPECT_FALSE(parse_rfc3339(text)) << text;
}

}  // namespace
}  // namespace egret::routing
