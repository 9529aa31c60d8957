#include "routing/blame.hpp"

#include <gtest/gtest.h>

#include <ostream>

namespace egret::routing {

static bool operator==(const Blame& a, const Blame& b) {
  return a.action == b.action && a.egress_at_fault == b.egress_at_fault;
}
static void PrintTo(const Blame& b, std::ostream* out) {
  *out << static_cast<int>(b.action) << (b.egress_at_fault ? " egress" : "");
}

namespace {

using smtp::Phase;

smtp::RecipientOutcome outcome(int code, std::string text = "no", Phase phase = Phase::rcpt) {
  return {smtp::make_reply(code, std::move(text)), phase};
}

Verdict labelled(Label label) {
  Verdict out;
  out.label = label;
  return out;
}

Blame source(int code, Label label, bool spill = false) {
  return blame_source(outcome(code), labelled(label), spill);
}
Blame smarthost(const smtp::RecipientOutcome& o, Label label) {
  return blame_smarthost(o, labelled(label));
}

constexpr Blame fails{Action::fail, false}, retries{Action::retry, false}, keeps{Action::retry_same_egress, false},
    moves{Action::next_egress, true}, is_delivered{Action::delivered, false};

constexpr Label about_message_or_recipient[] = {Label::auth_failed,  Label::domain_blocked, Label::recipient,
                                                Label::mailbox_full, Label::policy_other,   Label::other};

TEST(BlameSource, ADeliveryBlamesNobody) {
  EXPECT_EQ(blame_source(outcome(250, "queued", Phase::final_dot), labelled(Label::other), true), is_delivered);
}

TEST(BlameSource, AStray250IsNoDelivery) {
  for (const auto phase : {Phase::mail, Phase::rcpt, Phase::data})
    EXPECT_NE(blame_source(outcome(250, "ok", phase), labelled(Label::other), true).action, Action::delivered);
}

TEST(BlameSource, ABlockMovesOnWhateverTheCode) {
  for (const int code : {421, 450, 550, 554})
    for (const auto label : {Label::ip_blocked, Label::ip_config}) EXPECT_EQ(source(code, label), moves) << code;
}

TEST(BlameSource, ThrottlingMovesOnOnlyWhereTheClassSpills) {
  EXPECT_EQ(source(421, Label::ip_throttled, true), moves);
  EXPECT_EQ(source(421, Label::ip_throttled, false), (Blame{Action::retry, true}));
}

TEST(BlameSource, MessageAndRecipientAreFinalAndNobodysFault) {
  for (const auto label : about_message_or_recipient) EXPECT_EQ(source(550, label, true), fails) << to_string(label);
}

TEST(BlameSource, TemporaryRefusalsOfThemAreRetried) {
  for (const auto label : about_message_or_recipient) EXPECT_EQ(source(450, label, true), retries) << to_string(label);
}

TEST(BlameSource, GreylistingKeepsTheSource) {
  EXPECT_EQ(source(451, Label::greylisted, true), keeps);
  EXPECT_EQ(source(554, Label::greylisted, true), keeps);
}

TEST(BlameSource, ContentIsNeverOfferedToAnotherIp) {
  EXPECT_EQ(source(550, Label::content, true), fails);
  EXPECT_EQ(source(451, Label::content, true), keeps);
}

TEST(BlameSource, AReceiversOwnTroubleIsRetriedEvenWith5xx) {
  EXPECT_EQ(source(554, Label::temporary, true), retries);
  EXPECT_EQ(source(451, Label::temporary, true), retries);
}

TEST(BlameSource, OnlyLabelsOfTheEgressBlameIt) {
  for (int i = 0; i <= static_cast<int>(Label::other); ++i) {
    const auto label = static_cast<Label>(i);
    const bool egress = label == Label::ip_blocked || label == Label::ip_config || label == Label::ip_throttled;
    for (const int code : {450, 550}) EXPECT_EQ(source(code, label).egress_at_fault, egress) << to_string(label);
  }
}

TEST(BlameSmarthost, ADeliveryBlamesNobody) {
  EXPECT_EQ(smarthost(outcome(250, "queued", Phase::final_dot), Label::other), is_delivered);
}

TEST(BlameSmarthost, AnyRefusalBeforeTheEnvelopeMovesOn) {
  for (const auto phase : {Phase::connect, Phase::ehlo, Phase::tls, Phase::auth})
    for (const int code : {421, 454, 535, 554}) EXPECT_EQ(smarthost(outcome(code, "no", phase), Label::other), moves);
}

TEST(BlameSmarthost, ItsRefusalsOfUsAsACustomerMoveOn) {
  for (const auto trouble :
       {AccountTrouble::rate, AccountTrouble::quota, AccountTrouble::hourly_quota, AccountTrouble::authentication,
        AccountTrouble::authentication_temporary, AccountTrouble::sender, AccountTrouble::paused}) {
    Verdict verdict = labelled(Label::content);  // the trouble counts more than the label
    verdict.account = trouble;
    for (const auto phase : {Phase::mail, Phase::rcpt, Phase::data, Phase::final_dot})
      for (const int code : {451, 554}) {
        const Blame blame = blame_smarthost(outcome(code, "no", phase), verdict);
        EXPECT_EQ(blame, moves) << to_string(trouble);
        EXPECT_EQ(blame.trouble, trouble);
      }
  }
}

TEST(BlameSmarthost, NoWordBeforeTheEnvelopeIsAboutIt) {
  for (const auto trouble : {AccountTrouble::sender, AccountTrouble::recipient, AccountTrouble::content}) {
    Verdict verdict = labelled(Label::recipient);
    verdict.account = trouble;
    EXPECT_EQ(blame_smarthost(outcome(535, "no", Phase::auth), verdict).trouble, AccountTrouble::authentication);
    EXPECT_EQ(blame_smarthost(outcome(554, "no", Phase::connect), verdict).trouble, AccountTrouble::none);
  }
}

TEST(BlameSmarthost, RecipientsAreFinal) {
  EXPECT_EQ(smarthost(outcome(550, "5.1.1 user unknown"), Label::recipient), fails);
  EXPECT_EQ(smarthost(outcome(450, "4.2.1 try later"), Label::mailbox_full), retries);
}

TEST(BlameSmarthost, ContentIsFinal) {
  EXPECT_EQ(smarthost(outcome(554, "spam", Phase::final_dot), Label::content), fails);
  EXPECT_EQ(smarthost(outcome(451, "looks like spam", Phase::final_dot), Label::content), keeps);
}

TEST(BlameSmarthost, GreylistingKeepsTheSmarthost) {
  EXPECT_EQ(smarthost(outcome(451), Label::greylisted), keeps);
}

TEST(BlameSmarthost, ItsOwnBlocksMoveOn) {
  for (const auto label : {Label::ip_blocked, Label::ip_throttled, Label::ip_config})
    EXPECT_EQ(smarthost(outcome(450), label), moves);
}

TEST(BlameSmarthost, GenericTroubleIsNotItsFault) {
  EXPECT_EQ(smarthost(outcome(451, "try later"), Label::temporary), retries);
  EXPECT_EQ(smarthost(outcome(550, "no"), Label::other), fails);
}

}  // namespace
}  // namespace egret::routing
