#include "routing/esp_api.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "config/config.hpp"
#include "routing/blame.hpp"
#include "routing/esp_id.hpp"

namespace egret::routing {
namespace {

using namespace std::chrono_literals;

ApiVerdict read(std::string_view preset, unsigned status, std::string_view body, std::string_view type = {},
                std::size_t recipients = 1, std::string_view retry_after = {}) {
  return read_api_answer(preset, {status, type, retry_after, body}, recipients);
}

std::string reply(std::string_view preset, unsigned status, std::string_view body, std::string_view type = {}) {
  return read(preset, status, body, type).outcome.reply.to_string();
}

/// What the shipped rules and blame make of it.
Blame blamed(std::string_view preset, unsigned status, std::string_view body, std::string_view type = {}) {
  config::Problems problems;
  static const auto rules = config::shipped_reply_rules(problems);
  const auto outcome = read(preset, status, body, type).outcome;
  const auto verdict = rules->classify(smtp::reply_text(outcome.reply.to_string()), {outcome.phase, std::string(preset), {}});
  return blame_smarthost(outcome, verdict);
}

TEST(EspApi, KnowsTheIdOfATakenMessage) {
  const auto id = [](std::string_view preset, std::string_view body) {
    const auto verdict = read(preset, 200, body);
    EXPECT_TRUE(verdict.outcome.delivered());
    return esp_message_id(preset, verdict.outcome.reply);
  };
  EXPECT_EQ(id("ses", R"({"MessageId":"0102018f3c2a1b4d-7e1f-000000"})"), "0102018f3c2a1b4d-7e1f-000000");
  EXPECT_EQ(id("mailgun", R"({"id":"<2024.1@mg.example.com>","message":"Queued. Thank you."})"), "2024.1@mg.example.com");
  EXPECT_EQ(
      id("sparkpost-eu", R"({"results":{"total_rejected_recipients":0,"total_accepted_recipients":1,"id":"11668787484950529"}})"),
      "11668787484950529");
}

TEST(EspApi, TakesASuccessWithoutAnIdForOne) {
  for (const char* body : {"{}", "{\"MessageId\":[]}", "{\"MessageId\":\"\"}"}) {
    const auto verdict = read("ses", 200, body);
    EXPECT_TRUE(verdict.outcome.delivered()) << body;
    EXPECT_FALSE(verdict.ambiguous) << body;
    EXPECT_EQ(esp_message_id("ses", verdict.outcome.reply), "") << body;
  }
}

TEST(EspApi, BelievesNoSuccessThatIsNotTheApis) {
  for (const char* preset : {"ses", "mailgun-eu", "sparkpost"})
    for (const char* body : {"", "taken", "[]", "null", "{", "<html>We will be back soon</html>"}) {
      const auto verdict = read(preset, 200, body);
      EXPECT_FALSE(verdict.outcome.delivered()) << body;
      EXPECT_TRUE(verdict.ambiguous) << body;
    }
}

TEST(EspApi, RefusesTheRecipientThatSparkPostRejects) {
  const auto verdict =
      read("sparkpost", 200, R"({"results":{"total_rejected_recipients":1,"total_accepted_recipients":0,"id":"1"}})");
  EXPECT_FALSE(verdict.outcome.delivered());
  EXPECT_EQ(verdict.outcome.reply.code, 550);
}

TEST(EspApi, SaysTheErrorInTheWordsOfTheEsp) {
  EXPECT_EQ(reply("ses", 400, R"({"message":"Email address is not verified."})", "MessageRejected:http://internal.amazon.com/"),
            "554 5.6.0 MessageRejected: Email address is not verified. (HTTP 400)");
  EXPECT_EQ(reply("ses", 400, R"({"__type":"com.amazonaws#BadRequestException","message":"x"})"),
            "554 5.6.0 BadRequestException: x (HTTP 400)");
  EXPECT_EQ(reply("mailgun", 401, "Forbidden"), "535 5.7.8 Forbidden (HTTP 401)");
  EXPECT_EQ(reply("sparkpost", 422, R"({"errors":[{"message":"invalid","description":"why","code":1300}]})"),
            "554 5.6.0 invalid: why (code 1300) (HTTP 422)");
  EXPECT_EQ(reply("ses", 503, "<html><body>Service Unavailable</body></html>"), "451 4.3.0 refused (HTTP 503)");
}

TEST(EspApi, BoundsAndCleansWhatItIsTold) {
  const std::string text = reply("mailgun", 400, std::string(100'000, 'x'));
  EXPECT_LT(text.size(), 600u);
  EXPECT_EQ(reply("mailgun", 400, "a\r\n250 b\x01"), "554 5.6.0 a??250 b? (HTTP 400)");
  EXPECT_EQ(read("ses", 400, std::string(50'000, '[')).outcome.reply.code, 554);
}

TEST(EspApi, CallsAGatewaysLostAnswerUnknown) {
  for (const unsigned status : {499u, 502u, 504u, 520u, 524u, 598u, 599u})
    EXPECT_TRUE(read("mailgun", status, "").ambiguous) << status;
  for (const unsigned status : {400u, 408u, 429u, 500u, 503u, 521u}) EXPECT_FALSE(read("ses", status, "").ambiguous) << status;
}

TEST(EspApi, WantsRecipientsOnTheirOwnWhereOneOfSeveralIsRefused) {
  constexpr auto text = R"({"message":"to parameter is not a valid address. please check documentation"})";
  EXPECT_TRUE(read("mailgun", 400, text, {}, 2).one_by_one);
  EXPECT_FALSE(read("mailgun", 400, text, {}, 1).one_by_one);
  EXPECT_FALSE(read("mailgun", 401, text, {}, 2).one_by_one);
  EXPECT_TRUE(read("ses", 400, R"({"message":"Missing final '@domain'"})", "BadRequestException", 3).one_by_one);
  EXPECT_FALSE(read("ses", 400, R"({"message":"Duplicate header"})", "BadRequestException", 3).one_by_one);
}

TEST(EspApi, TakesRetryAfterInSecondsForADayAtMost) {
  const auto pause = [](std::string_view text) { return read("mailgun", 429, "", {}, 1, text).retry_after; };
  EXPECT_EQ(pause("30"), 30s);
  EXPECT_EQ(pause("99999999"), 24h);
  for (const char* text : {"", "0", "-5", "soon", "5 s", "99999999999999999999", "Wed, 21 Oct 2026 07:28:00 GMT"})
    EXPECT_EQ(pause(text), 0s) << text;
  EXPECT_EQ(read("mailgun", 400, "", {}, 1, "30").retry_after, 0s);
}

TEST(EspApi, LeavesTheAccountsTroublesToTheAccount) {
  using enum AccountTrouble;
  const auto trouble = [](std::string_view preset, unsigned status, std::string_view body, std::string_view type = {}) {
    const Blame blame = blamed(preset, status, body, type);
    EXPECT_EQ(blame.action, Action::next_egress) << status << body << type;
    EXPECT_TRUE(blame.egress_at_fault);
    return blame.trouble;
  };
  EXPECT_EQ(trouble("ses", 429, R"({"message":"Maximum sending rate exceeded."})", "TooManyRequestsException"), rate);
  EXPECT_EQ(trouble("ses", 429, R"({"message":"Daily message quota exceeded"})", "TooManyRequestsException"), quota);
  EXPECT_EQ(trouble("ses", 400, "{}", "LimitExceededException"), quota);
  EXPECT_EQ(trouble("ses", 400, "{}", "AccountSuspendedException"), paused);
  EXPECT_EQ(trouble("ses", 400, R"({"message":"Sending paused for this account."})", "MessageRejected"), paused);
  EXPECT_EQ(trouble("ses", 400, "{}", "MailFromDomainNotVerifiedException"), sender);
  EXPECT_EQ(trouble("ses", 403, "{}", "InvalidSignatureException"), authentication);
  EXPECT_EQ(
      trouble(
          "ses", 403,
          R"({"message":"User is not authorized to perform `ses:SendEmail' on resource `arn:aws:ses:eu-west-1:1:identity/a.com'"})",
          "AccessDeniedException"),
      sender);
  EXPECT_EQ(trouble("ses", 404, R"({"message":"Configuration set <x> does not exist."})", "NotFoundException"), none);
  EXPECT_EQ(trouble("ses", 302, ""), none);
  EXPECT_EQ(trouble("mailgun", 402, ""), paused);
  EXPECT_EQ(trouble("mailgun", 403, "Forbidden"), authentication);
  EXPECT_EQ(trouble("mailgun-eu", 404, R"({"message":"Domain not found: mg.example.com"})"), none);
  EXPECT_EQ(trouble("sparkpost", 420, "{}"), quota);
  EXPECT_EQ(trouble("sparkpost", 403, "{}"), authentication);
  EXPECT_EQ(trouble("sparkpost", 500, "{}"), none);
}

TEST(EspApi, FailsWhatIsAboutTheMessage) {
  for (const char* type : {"BadRequestException", "MessageRejected"}) {
    const Blame blame = blamed("ses", 400, R"({"message":"Message contains something"})", type);
    EXPECT_EQ(blame.action, Action::fail) << type;
    EXPECT_FALSE(blame.egress_at_fault);
  }
  EXPECT_EQ(blamed("mailgun", 413, "").action, Action::fail);
  EXPECT_EQ(blamed("sparkpost", 422, "{}").action, Action::fail);
}

TEST(SesAccount, IsReadFromGetAccount) {
  SesAccount account;
  ASSERT_TRUE(read_ses_account(R"({"EnforcementStatus":"PROBATION","ProductionAccessEnabled":false,"SendingEnabled":true,
      "SendQuota":{"Max24HourSend":200.0,"MaxSendRate":1,"SentLast24Hours":200}})",
                               account));
  EXPECT_EQ(account, (SesAccount{200, 200, 1, false, true, "PROBATION"}));
  EXPECT_TRUE(account.used_up());
  EXPECT_FALSE(account.paused());
  ASSERT_TRUE(
      read_ses_account(R"({"ProductionAccessEnabled":true,"SendingEnabled":false,"SendQuota":{"Max24HourSend":-1}})", account));
  EXPECT_TRUE(account.paused());
  EXPECT_FALSE(account.used_up());
}

TEST(SesAccount, IsNotMadeUp) {
  SesAccount account;
  for (const char* text : {"", "{}", "[]", "null", R"({"SendQuota":{},"SendingEnabled":"yes","ProductionAccessEnabled":true})",
                           R"({"SendingEnabled":true,"ProductionAccessEnabled":true})"})
    EXPECT_FALSE(read_ses_account(text, account)) << text;
}

}  // namespace
}  // namespace egret::routing
