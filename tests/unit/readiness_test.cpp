#include "routing/readiness.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace egret::routing {
namespace {

EspRecords sendgrid() {
  EspRecords out;
  out.selectors = {{"s1", "s2"}};
  out.zone = "sendgrid.net";
  out.spf = "sendgrid.net";
  return out;
}

/// What DNS said of example.com, where all names of `published` have a live key.
ReadinessFacts facts(const EspRecords& records, const std::string& dmarc, const std::vector<std::string>& published,
                     const std::string& domain = "example.com") {
  ReadinessFacts out;
  out.domain = domain;
  out.organization = "example.com";
  out.policy_known = true;
  if (const auto record = find_dmarc({dmarc})) out.policy = DmarcPolicy{record->policy, "example.com", *record};
  for (const auto& set : esp_key_names(records, out.domain, out.organization)) {
    auto& entry = out.keys.emplace_back();
    for (const auto& key : set) {
      const bool there = std::ranges::find(published, key.name) != published.end();
      entry.push_back({key, there ? RecordState::present : RecordState::missing});
    }
  }
  return out;
}

const std::string reject = "v=DMARC1; p=reject";

TEST(Readiness, AllKeysOfASetMakeADomainReady) {
  const auto verdict =
      judge_readiness(facts(sendgrid(), reject, {"s1._domainkey.example.com", "s2._domainkey.example.com"}), sendgrid());
  EXPECT_EQ(verdict.ready, true);
  EXPECT_EQ(verdict.dkim, Alignment::yes);
  EXPECT_EQ(verdict.reason, "");
}

TEST(Readiness, AMissingKeyUnderRejectIsNamedWithWhatToSet) {
  const auto verdict = judge_readiness(facts(sendgrid(), reject, {"s1._domainkey.example.com"}), sendgrid());
  EXPECT_EQ(verdict.ready, false);
  EXPECT_EQ(
      verdict.reason,
      "no DKIM record at s2._domainkey.example.com, and its return path is not the domain's; DMARC p=reject of example.com");
  EXPECT_NE(verdict.advice.find("publish s2._domainkey.example.com"), std::string::npos);
  EXPECT_NE(verdict.advice.find("CNAME into sendgrid.net"), std::string::npos);
}

TEST(Readiness, QuarantineCountsLikeRejectAndNoneOnlyWarns) {
  EXPECT_EQ(judge_readiness(facts(sendgrid(), "v=DMARC1; p=quarantine", {}), sendgrid()).ready, false);
  const auto none = judge_readiness(facts(sendgrid(), "v=DMARC1; p=none", {}), sendgrid());
  EXPECT_EQ(none.ready, true);
  EXPECT_NE(none.reason.find("does not mind yet"), std::string::npos);
  EXPECT_EQ(judge_readiness(facts(sendgrid(), "", {}), sendgrid()).ready, true);
}

TEST(Readiness, OurOwnSignatureThatSurvivesIsEnough) {
  auto what = facts(sendgrid(), reject, {});
  what.own_key = RecordState::present;
  EXPECT_EQ(judge_readiness(what, sendgrid()).ready, true);
}

TEST(Readiness, AReturnPathOfTheDomainIsEnoughUnlessAspfIsStrict) {
  auto what = facts(sendgrid(), reject, {});
  what.return_paths = {{"em1.example.com", RecordState::present}};
  EXPECT_EQ(judge_readiness(what, sendgrid()).ready, true);
  what = facts(sendgrid(), reject + "; aspf=s", {});
  what.return_paths = {{"em1.example.com", RecordState::present}};
  EXPECT_EQ(judge_readiness(what, sendgrid()).ready, false);
}

TEST(Readiness, AReturnPathOfAnotherOrganizationDoesNotAlign) {
  auto what = facts(sendgrid(), reject, {});
  what.return_paths = {{"em1.example.org", RecordState::present}};
  EXPECT_EQ(judge_readiness(what, sendgrid()).ready, false);
}

TEST(Readiness, TheOrganizationsKeysServeTheNamesBelowItUnlessAdkimIsStrict) {
  const std::vector<std::string> keys{"s1._domainkey.example.com", "s2._domainkey.example.com"};
  EXPECT_EQ(judge_readiness(facts(sendgrid(), reject, keys, "bounces.example.com"), sendgrid()).ready, true);
  EXPECT_EQ(judge_readiness(facts(sendgrid(), reject + "; adkim=s", keys, "bounces.example.com"), sendgrid()).ready, false);
}

TEST(Readiness, OneCompleteSetOfSeveralIsEnough) {
  EspRecords brevo;
  brevo.selectors = {{"brevo1", "brevo2"}, {"mail"}};
  EXPECT_EQ(judge_readiness(facts(brevo, reject, {"mail._domainkey.example.com"}), brevo).ready, true);
  EXPECT_EQ(judge_readiness(facts(brevo, reject, {"brevo2._domainkey.example.com"}), brevo).ready, false);
}

TEST(Readiness, WhatDnsDidNotAnswerDecidesNothing) {
  auto what = facts(sendgrid(), reject, {"s1._domainkey.example.com"});
  what.keys[0][1].state = RecordState::unknown;
  EXPECT_EQ(judge_readiness(what, sendgrid()).ready, std::nullopt);
  what.keys[0][0].state = RecordState::missing;  // the set cannot become complete
  EXPECT_EQ(judge_readiness(what, sendgrid()).ready, false);
  what.policy_known = false;
  EXPECT_EQ(judge_readiness(what, sendgrid()).ready, std::nullopt);
}

TEST(Readiness, RecordsThatNobodyNamedHoldNoMail) {
  EspRecords ses;
  ses.zone = "amazonses.com";
  const auto verdict = judge_readiness(facts(ses, reject, {}), ses);
  EXPECT_EQ(verdict.ready, true);
  EXPECT_EQ(verdict.dkim, Alignment::untold);
  EXPECT_NE(verdict.advice.find("dkim_selectors"), std::string::npos);
}

TEST(Readiness, SelectorsOfADomainReplaceTheCommonOnes) {
  EspRecords ses;
  ses.selectors = {{"aaa"}};
  ses.domain_selectors["example.com"] = {"bbb", "ccc._domainkey.mg.example.com"};
  const auto names = esp_key_names(ses, "example.com", "example.com");
  ASSERT_EQ(names.size(), 1u);
  EXPECT_EQ(names[0][0].name, "bbb._domainkey.example.com");
  EXPECT_EQ(names[0][1].name, "ccc._domainkey.mg.example.com");
  EXPECT_EQ(names[0][1].domain, "mg.example.com");
}

TEST(Readiness, ARevokedKeyIsNotALiveOne) {
  auto what = facts(sendgrid(), reject, {"s1._domainkey.example.com"});
  what.keys[0][1].trouble = "is revoked (an empty p=)";
  const auto verdict = judge_readiness(what, sendgrid());
  EXPECT_EQ(verdict.ready, false);
  EXPECT_TRUE(verdict.reason.starts_with("s2._domainkey.example.com is revoked"));
}

TEST(Readiness, TheTreeWalkFindsTheOrganization) {
  const auto record = [](const char* text) { return find_dmarc({text}); };
  const std::vector<std::string> walk{"a.mail.example.co.uk", "mail.example.co.uk", "example.co.uk", "co.uk", "uk"};
  EXPECT_EQ(organizational_domain(walk, {{}, {}, record("v=DMARC1; p=reject"), {}, {}}), "example.co.uk");
  EXPECT_EQ(organizational_domain(walk, {record("v=DMARC1; p=none"), {}, record("v=DMARC1; p=reject"), {}, {}}), "example.co.uk");
  EXPECT_EQ(organizational_domain(walk, {{}, record("v=DMARC1; psd=n"), record("v=DMARC1; p=reject"), {}, {}}),
            "mail.example.co.uk");
  EXPECT_EQ(organizational_domain(walk, {{}, {}, {}, record("v=DMARC1; psd=y"), {}}), "example.co.uk");
  EXPECT_EQ(organizational_domain(walk, {{}, {}, {}, {}, {}}), "a.mail.example.co.uk");
}

TEST(Readiness, RelaxedAlignmentIsWithinTheOrganization) {
  EXPECT_TRUE(aligned("mg.example.com", "news.example.com", "example.com", false));
  EXPECT_FALSE(aligned("mg.example.com", "news.example.com", "example.com", true));
  EXPECT_FALSE(aligned("badexample.com", "example.com", "example.com", false));
  EXPECT_TRUE(aligned("Example.com", "example.com", "example.com", true));
}

}  // namespace
}  // namespace egret::routing
