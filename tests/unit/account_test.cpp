// What a smarthost's refusal means for the account there: rules, blame and rests together.
#include "routing/account.hpp"

#include <gtest/gtest.h>

#include "config/config.hpp"
#include "routing/blame.hpp"
#include "routing/route.hpp"

namespace egret::routing {
namespace {

using namespace std::chrono_literals;
using smtp::Phase;
using enum AccountTrouble;

const ReplyRules& rules() {
  static config::Problems problems;
  static const auto shipped = config::shipped_reply_rules(problems);
  return *shipped;
}

Blame judged(std::string_view preset, std::string_view reply, Phase phase = Phase::final_dot) {
  const ReplyContext context{phase, preset, {}};
  return blame_smarthost({smtp::parse_reply(reply), phase}, rules().classify(smtp::reply_text(reply), context));
}

/// 2026-03-01 22:30 UTC.
const Time evening{std::chrono::sys_days(std::chrono::year(2026) / 3 / 1) + 22h + 30min};
const Time midnight{std::chrono::sys_days(std::chrono::year(2026) / 3 / 2)};

// ---- what is said ------------------------------------------------------------------------------------------------

struct Said {
  const char* preset;
  Phase phase;
  const char* reply;
  AccountTrouble trouble;
};

const Said about_the_account[] = {
    {"ses", Phase::final_dot, "454 Throttling failure: Maximum sending rate exceeded.", rate},
    {"ses", Phase::final_dot, "454 Throttling failure: Daily message quota exceeded.", quota},
    {"ses", Phase::auth, "454 Temporary authentication failure", authentication_temporary},
    {"ses", Phase::connect, "421 Too many concurrent SMTP connections", rate},
    {"ses", Phase::mail, "530 Authentication required", authentication},
    {"ses", Phase::auth, "535 Authentication Credentials Invalid", authentication},
    {"ses", Phase::auth, "535 Account not subscribed to SES", authentication},
    {"ses", Phase::final_dot, "554 Access denied: User is not authorized to perform ses:SendRawEmail", authentication},
    {"ses", Phase::final_dot,
     "554 Message rejected: Email address is not verified. The following identities failed the check in region "
     "EU-WEST-1: app@example.com",
     sender},
    {"ses", Phase::final_dot, "554 Message rejected: Sending paused for this account.", paused},
    {"sendgrid", Phase::auth, "451 Authentication failed: Maximum credits exceeded", quota},
    {"sendgrid-eu", Phase::final_dot, "451 Maximum credits exceeded", quota},
    {"sendgrid", Phase::final_dot, "550 The from address does not match a verified Sender Identity.", sender},
    {"sendgrid", Phase::rcpt, "452 Too many recipients received this hour", hourly_quota},
    {"sendgrid", Phase::connect, "450 too frequent connects from 192.0.2.1, please try again later.", rate},
    {"sendgrid", Phase::auth, "535 Authentication failed: Bad username / password", authentication},
    {"sendgrid", Phase::auth, "451 Authentication failed: Could not authenticate", authentication_temporary},
    {"sendgrid", Phase::mail, "550 Unauthenticated senders not allowed", authentication},
    {"mailgun", Phase::final_dot, "550 5.7.1 Domain mg.example.com is not allowed to send", paused},
    {"mailgun-eu", Phase::rcpt,
     "421 Domain sandbox1.mailgun.org is not allowed to send: Sandbox subdomains are for test "
     "purposes only.",
     paused},
    {"mailgun", Phase::final_dot, "550 Account is disabled", paused},
    {"mailgun", Phase::final_dot, "421 Daily message limit reached", quota},
    {"mailgun", Phase::final_dot, "420 Message quota exceeded", quota},
    {"mailgun", Phase::final_dot, "450 Domain mg.example.com is exceeding its limit of 100 messages/hour", hourly_quota},
    {"postmark", Phase::final_dot,
     "550 The 'From' address you supplied (app@example.com) is not a Sender Signature on your account.", sender},
    {"postmark-broadcast", Phase::final_dot, "550 405 Not allowed to send: your account ran out of credits", quota},
    {"postmark", Phase::final_dot, "550 While your account is pending approval, all recipients must share a domain", paused},
    {"sparkpost", Phase::rcpt, "550 5.7.1 relaying denied: Unconfigured Sending Domain <example.com>", sender},
    {"sparkpost", Phase::final_dot, "420 Exceed Sending Limit (daily)", quota},
    {"sparkpost-eu", Phase::final_dot, "420 Exceed Sending Limit (hourly)", hourly_quota},
    {"brevo", Phase::auth, "525 5.7.1 Unauthorized IP address", authentication},
    {"brevo", Phase::final_dot, "452 You have reached your daily sending limit", quota},
    {"brevo", Phase::final_dot,
     "550 5.7.1 Sending has been rejected because the sender you used a@example.com is not valid. Validate your sender", sender},
    {"brevo", Phase::mail, "502 5.7.0 Your SMTP account is not yet activated", paused},
    {"mailjet", Phase::final_dot, "550 5.7.1 The sender address app@example.com is not validated", sender},
    {"mailjet", Phase::mail, "550 5.7.1 Your account is temporarily blocked", paused},
    {"mailjet", Phase::final_dot, "450 Daily sending limit exceeded", quota},
    {"generic", Phase::final_dot, "454 Throttling failure: Daily message quota exceeded.", quota},
    {"generic", Phase::final_dot, "554 Sending paused for this account.", paused},
    {"generic", Phase::auth, "535 5.7.8 Error: authentication failed", authentication},
    {"generic", Phase::auth, "454 4.7.0 Temporary trouble", authentication_temporary},
    {"generic", Phase::mail, "550 5.7.1 No", sender},
    {"generic", Phase::connect, "554 No", none}};

TEST(EspReplies, AboutTheAccountMoveTheMessageOnAndAreNeverFinal) {
  for (const Said& said : about_the_account) {
    const Blame blame = judged(said.preset, said.reply, said.phase);
    EXPECT_EQ(blame.action, Action::next_egress) << said.preset << " " << said.reply;
    EXPECT_TRUE(blame.egress_at_fault) << said.reply;
    EXPECT_EQ(to_string(blame.trouble), to_string(said.trouble)) << said.preset << " " << said.reply;
  }
}

TEST(EspReplies, AboutRecipientsAreFinal) {
  for (const auto& [preset, reply] : std::vector<std::pair<const char*, const char*>>{
           {"ses", "554 Message rejected: Address is on the suppression list for your account"},
           {"sendgrid", "550 Bounced Address"},
           {"mailgun", "550 Not delivering to previously bounced address"},
           {"postmark", "550 406 Inactive recipient"},
           {"postmark", "450 406 Inactive recipient"},
           {"sparkpost", "554 5.7.1 recipient address suppressed due to customer policy"},
           {"brevo", "550 5.1.1 The contact is blocklisted"},
           {"mailjet", "550 Recipient is preblocked"}}) {
    const Blame blame = judged(preset, reply, Phase::rcpt);
    EXPECT_EQ(blame.action, Action::fail) << preset << " " << reply;
    EXPECT_FALSE(blame.egress_at_fault) << reply;
  }
}

TEST(EspReplies, AboutMailboxesAreNotAboutTheAccount) {
  for (const char* preset : {"ses", "sendgrid", "mailgun", "postmark", "sparkpost", "brevo", "mailjet", "generic"})
    for (const char* reply :
         {"550 5.1.1 User unknown", "552 5.2.2 mailbox quota exceeded", "552 5.3.4 message size limit exceeded",
          "550 5.2.1 The email account that you tried to reach is disabled"})
      EXPECT_EQ(judged(preset, reply, Phase::rcpt).action, Action::fail) << preset << " " << reply;
}

TEST(EspReplies, MeanNothingWhereNoEspSaysThem) {
  const char* reply = "550 5.7.1 Domain mg.example.com is not allowed to send";
  const ReplyContext receiver{Phase::rcpt, "google", {}};
  EXPECT_EQ(rules().classify(smtp::reply_text(reply), receiver).account, none);
}

TEST(EspReplies, ARefusedLoginIsNeverFinal) {
  for (const char* preset : {"ses", "sendgrid", "mailgun", "postmark", "sparkpost", "brevo", "mailjet", "generic"})
    for (const char* reply : {"535 5.7.8 Authentication credentials invalid", "530 5.7.0 Authentication required",
                              "535 Suppressed", "535 5.1.1 User unknown", "535 Inactive recipient"})
      for (const Phase phase : {Phase::auth, Phase::connect, Phase::ehlo})
        EXPECT_EQ(judged(preset, reply, phase).action, Action::next_egress) << preset << " " << reply;
}

// ---- what follows ------------------------------------------------------------------------------------------------

TEST(SmarthostRest, ForARateIsSecondsAndGrows) {
  SmarthostState s;
  Time now = evening;
  for (const auto wanted : {5s, 10s, 20s, 40s, 80s, 160s, 300s, 300s}) {
    ASSERT_TRUE(smarthost_refused(s, "slow", now, rate));
    EXPECT_EQ(*s.resting_until - now, wanted);
    now = *s.resting_until;
  }
}

TEST(SmarthostRest, ForAQuotaLastsUntilItRenews) {
  SmarthostState s;
  smarthost_refused(s, "quota", evening, quota, QuotaRenewal::midnight);
  EXPECT_EQ(s.resting_until, midnight);
  s = {};
  smarthost_refused(s, "quota", evening, quota, QuotaRenewal::rolling);
  EXPECT_EQ(s.resting_until, evening + 1h);
  s = {};
  smarthost_refused(s, "quota", evening, hourly_quota, QuotaRenewal::rolling);
  EXPECT_EQ(s.resting_until, evening + 30min);
  EXPECT_NE(rest_action(s).find("2026-03-01T23:00:00"), std::string::npos) << rest_action(s);
}

TEST(SmarthostRest, ForAQuotaRefusedJustBeforeMidnightIsNotNothing) {
  SmarthostState s;
  smarthost_refused(s, "quota", midnight - 1s, quota);
  EXPECT_EQ(s.resting_until, midnight - 1s + 1min);
}

TEST(SmarthostRest, IsAsLongAsTheSmarthostAsksForAndADayAtMost) {
  const auto rest = [](Duration at_least) {
    SmarthostState s;
    smarthost_refused(s, "slow", evening, rate, QuotaRenewal::midnight, at_least);
    return *s.resting_until - evening;
  };
  EXPECT_EQ(rest(0s), 5s);
  EXPECT_EQ(rest(1s), 5s);
  EXPECT_EQ(rest(10min), 10min);
  EXPECT_EQ(rest(1000h), 24h);
  EXPECT_EQ(rest(-5s), 5s);
}

TEST(SmarthostRest, ForALoginStartsAtFiveMinutesAndGrowsToAnHour) {
  SmarthostState s;
  Time now = evening;
  for (const auto wanted : {5min, 10min, 20min, 40min, 60min, 60min}) {
    smarthost_refused(s, "535", now, authentication);
    EXPECT_EQ(*s.resting_until - now, wanted);
    now = *s.resting_until;
  }
}

TEST(SmarthostRest, WhenPausedIsAnHour) {
  SmarthostState s;
  smarthost_refused(s, "paused", evening, paused);
  EXPECT_EQ(s.resting_until, evening + 1h);
}

TEST(SmarthostRest, OfAShortTroubleIsReplacedByTheLongerOneOfAnother) {
  SmarthostState s;
  smarthost_refused(s, "slow", evening, rate);
  EXPECT_TRUE(smarthost_refused(s, "quota", evening + 1s, quota));
  EXPECT_EQ(s.resting_until, midnight);
  EXPECT_FALSE(smarthost_refused(s, "slow", evening + 2s, rate));
  EXPECT_EQ(s.resting_until, midnight);
  EXPECT_EQ(s.reason, "quota");
}

TEST(SmarthostRest, IsNotEndedByADeliveryThatWasUnderWay) {
  SmarthostState s;
  smarthost_refused(s, "535", evening, authentication);
  smarthost_delivered(s, evening + 1s);
  EXPECT_EQ(s.resting_until, evening + 5min);
  smarthost_delivered(s, evening + 6min);
  EXPECT_FALSE(s.resting_until);
}

// ---- senders -----------------------------------------------------------------------------------------------------

TEST(RefusedSender, IsKnownForADay) {
  SmarthostState s;
  EXPECT_TRUE(sender_refused(s, "shop.example", "550 not verified", evening));
  EXPECT_FALSE(sender_refused(s, "shop.example", "550 again", evening + 1h)) << "no news";
  ASSERT_TRUE(find_refused(s.senders, "shop.example", evening + 23h));
  EXPECT_EQ(find_refused(s.senders, "shop.example", evening + 23h)->reason, "550 not verified");
  EXPECT_FALSE(find_refused(s.senders, "shop.example", evening + 24h));
  EXPECT_FALSE(find_refused(s.senders, "other.example", evening));
  EXPECT_FALSE(s.resting_until) << "others go on";
}

TEST(RefusedSender, OutlivesDeliveriesOfOthers) {
  SmarthostState s;
  sender_refused(s, "shop.example", "550", evening);
  smarthost_delivered(s, evening + 1s);
  EXPECT_TRUE(find_refused(s.senders, "shop.example", evening + 1min));
}

TEST(RefusedSender, TakesABoundedPlace) {
  SmarthostState s;
  for (std::size_t i = 0; i < max_refused_senders + 10; ++i)
    sender_refused(s, "d" + std::to_string(i) + ".example", "550", evening + std::chrono::seconds(i));
  EXPECT_EQ(s.senders->size(), max_refused_senders);
  EXPECT_FALSE(find_refused(s.senders, "d0.example", evening + 1h)) << "the one that ends first gives way";
  EXPECT_TRUE(find_refused(s.senders, "d1009.example", evening + 1h));
}

TEST(RefusedSender, IsRoutedToTheNextSmarthostAndHeldWithoutOne) {
  Topology topology;
  topology.smarthosts = {"esp1", "esp2"};
  topology.pools.push_back({"p", {}, {0, 1}, WhenExhausted::fallback});
  SmarthostState refusing;
  sender_refused(refusing, "shop.example", "550 not verified", evening);
  Snapshot snapshot;
  snapshot.smarthosts = {{{}, "", refusing.senders}, {}};
  Request request;
  request.sender = "shop.example";
  Route r = route(topology, snapshot, request, evening, 1);
  ASSERT_EQ(r.candidates.size(), 1u);
  EXPECT_EQ(r.candidates[0].egress.index, 1u);
  request.sender = "other.example";
  EXPECT_EQ(route(topology, snapshot, request, evening, 1).candidates.size(), 2u);
  request.sender = "shop.example";
  snapshot.smarthosts[1].senders = refusing.senders;
  r = route(topology, snapshot, request, evening, 1);
  ASSERT_TRUE(r.hold);
  EXPECT_EQ(r.hold->until, evening + 24h);
  request.only_smarthost = 0;
  EXPECT_TRUE(route(topology, snapshot, request, evening, 1).hold);
}

}  // namespace
}  // namespace egret::routing
