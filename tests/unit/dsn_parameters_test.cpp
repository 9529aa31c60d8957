#include "smtp/dsn_parameters.hpp"

#include <gtest/gtest.h>

#include "smtp/xtext.hpp"

namespace egret::smtp {
namespace {

using namespace std::string_view_literals;

/// The ORCPT that is kept for `value`; "refused" when it is not taken.
std::string orcpt(std::string_view value) {
  DsnRcpt out;
  return parse_orcpt(value, out) ? out.orcpt : "refused";
}

/// The parameters that RCPT gets from the NOTIFY `value`.
std::string notify(std::string_view value) {
  DsnRcpt out;
  return parse_notify(value, out) ? rcpt_parameters(out) : "refused";
}

TEST(DsnMail, KeepsTheEnvelopeIdAsReceived) {
  DsnMail out;
  EXPECT_TRUE(parse_envid("QQ314159+2B+20x", out));
  EXPECT_EQ(out.envid, "QQ314159+2B+20x");
}

TEST(DsnMail, RefusesEnvelopeIdsThatAreNotPrintableAscii) {
  for (const auto value :
       std::initializer_list<std::string_view>{"", "a b", "a=b", "a+0D+0A", "a+2b", "+", "+C3+A4", "\xC3\xA4", "a\0b"sv}) {
    DsnMail out;
    EXPECT_FALSE(parse_envid(value, out)) << value;
    EXPECT_EQ(out, DsnMail{});
  }
}

TEST(DsnMail, TakesAHundredOctetsOfEnvelopeId) {
  DsnMail out;
  EXPECT_FALSE(parse_envid(std::string(101, 'x'), out));
  EXPECT_TRUE(parse_envid(std::string(100, 'x'), out));
}

TEST(DsnMail, ReadsRetInAnyCase) {
  DsnMail full, headers, bad;
  EXPECT_TRUE(parse_ret("full", full));
  EXPECT_TRUE(parse_ret("HDRS", headers));
  EXPECT_EQ(full.ret, DsnMail::Ret::full);
  EXPECT_EQ(headers.ret, DsnMail::Ret::headers);
  for (const auto value : {"", "HEADERS", "FULL ", "NONE", "FULL,HDRS"}) EXPECT_FALSE(parse_ret(value, bad)) << value;
}

TEST(DsnMail, TakesEachParameterOnce) {
  DsnMail out;
  EXPECT_TRUE(parse_ret("FULL", out) && parse_envid("a", out));
  EXPECT_FALSE(parse_ret("HDRS", out));
  EXPECT_FALSE(parse_envid("b", out));
  EXPECT_EQ(mail_parameters(out), " RET=FULL ENVID=a");
}

TEST(DsnMail, WritesOnlyWhatWasGiven) {
  EXPECT_EQ(mail_parameters({}), "");
  EXPECT_EQ(mail_parameters({"QQ314159", DsnMail::Ret::none}), " ENVID=QQ314159");
  EXPECT_EQ(mail_parameters({"", DsnMail::Ret::headers}), " RET=HDRS");
}

TEST(DsnNotify, ReadsEveryCombination) {
  EXPECT_EQ(notify("NEVER"), " NOTIFY=NEVER");
  EXPECT_EQ(notify("success"), " NOTIFY=SUCCESS");
  EXPECT_EQ(notify("Failure"), " NOTIFY=FAILURE");
  EXPECT_EQ(notify("DELAY"), " NOTIFY=DELAY");
  EXPECT_EQ(notify("delay,FAILURE,success"), " NOTIFY=SUCCESS,FAILURE,DELAY");
}

TEST(DsnNotify, ToleratesARepeatedKeyword) {
  EXPECT_EQ(notify("FAILURE,FAILURE"), " NOTIFY=FAILURE");
}

TEST(DsnNotify, RefusesNeverInCompanyAndUnknownOrEmptyKeywords) {
  for (const auto value :
       std::initializer_list<std::string_view>{"", ",", "NEVER,FAILURE", "FAILURE,NEVER", "NEVER,NEVER", "FAILURE,", ",FAILURE",
                                               "FAILURE,,DELAY", "FAILURE, DELAY", "FAILURES", "ALWAYS", "FAILURE\0"sv})
    EXPECT_EQ(notify(value), "refused") << value;
}

TEST(DsnNotify, IsTakenOnceAndLeavesTheRestAlone) {
  DsnRcpt out;
  EXPECT_TRUE(parse_orcpt("rfc822;a@b.example", out));
  EXPECT_FALSE(parse_notify("DELAY,NEVER", out));
  EXPECT_FALSE(out.delay || out.notify_given);
  EXPECT_TRUE(parse_notify("DELAY", out));
  EXPECT_FALSE(parse_notify("DELAY", out));
  EXPECT_EQ(rcpt_parameters(out), " NOTIFY=DELAY ORCPT=rfc822;a@b.example");
}

TEST(DsnOrcpt, KeepsTypeAndAddressAsReceived) {
  for (const auto value : {"rfc822;Dana@Ivory.EDU", "RFC822;a+2Bb@c.example", "x400;/c+3Dus/", "rfc822;+22a+20b+22@c.example"})
    EXPECT_EQ(orcpt(value), value);
}

TEST(DsnOrcpt, NeedsATypeAndAnAddress) {
  for (const auto value :
       std::initializer_list<std::string_view>{"", ";", "rfc822", "rfc822;", ";a@b.example", "rfc 822;a@b", "a.b;a@b", "a@b;a@b",
                                               "a+b;a@b", "a=b;a@b", "\xC3\xA4;a@b", "\"x\";a@b", "a\0b;a@b"sv})
    EXPECT_EQ(orcpt(value), "refused") << value;
}

TEST(DsnOrcpt, RefusesWhatIsNotPrintableAscii) {
  for (const auto value : {"rfc822;a+0D+0A@b", "rfc822;a+00@b", "rfc822;a b@c", "rfc822;a@b\r\n", "rfc822;+C3+A4@b",
                           "rfc822;\xC3\xA4@b", "rfc822;a+2b@c", "rfc822;a+"})
    EXPECT_EQ(orcpt(value), "refused") << value;
}

TEST(DsnOrcpt, TakesFiveHundredOctets) {
  EXPECT_EQ(orcpt("rfc822;" + std::string(493, 'x')).size(), 500u);
  EXPECT_EQ(orcpt("rfc822;" + std::string(494, 'x')), "refused");
}

TEST(DsnOrcpt, TakesUtf8AddressesInTheir7BitForm) {
  EXPECT_EQ(orcpt("utf-8;\\x{E4}@b.example"), "utf-8;\\x{E4}@b.example");
  EXPECT_EQ(orcpt("UTF-8;a\\x{2B}b\\x{10FFFF}@b"), "UTF-8;a\\x{2B}b\\x{10FFFF}@b");
  EXPECT_EQ(orcpt("utf-8;+C3+A4@b"), "utf-8;+C3+A4@b");
}

TEST(DsnOrcpt, RewritesRawUtf8ToThe7BitForm) {
  EXPECT_EQ(orcpt("utf-8;\xC3\xA4@b"), "utf-8;\\x{E4}@b");
  EXPECT_EQ(orcpt("utf-8;\xC4\x80\xE4\xB8\xAD\xF0\x9F\x98\x80\xF4\x8F\xBF\xBF"), "utf-8;\\x{100}\\x{4E2D}\\x{1F600}\\x{10FFFF}");
}

TEST(DsnOrcpt, BoundsTheRewrittenUtf8) {
  std::string value = "utf-8;";
  for (int i = 0; i < 100; ++i) value += "\xC3\xA4";
  EXPECT_EQ(orcpt(value), "refused");
}

TEST(DsnOrcpt, RefusesUtf8EscapesThatAreControlsSurrogatesOrMalformed) {
  for (const auto escape :
       {"\\x{0D}",       "\\x{0A}",  "\\x{00}", "\\x{7F}",      "\\x{85}",   "\\x{D800}", "\\x{DFFF}", "\\x{110000}",
        "\\x{FFFFFFFF}", "\\x{}",    "\\x{4}",  "\\x{-1}",      "\\x{0x41}", "\\x{41",    "\\x",       "\\",
        "\\u0041",       "\xC2\x85", "\xC3",    "\xED\xA0\x80", "+C2+85",    "+5Cx{0D}",  "+ED+A0+80"})
    EXPECT_EQ(orcpt("utf-8;a" + std::string(escape) + "@b"), "refused") << escape;
}

TEST(DsnOrcpt, IsTakenOnce) {
  DsnRcpt out;
  EXPECT_TRUE(parse_orcpt("rfc822;a@b", out));
  EXPECT_FALSE(parse_orcpt("rfc822;c@d", out));
  EXPECT_EQ(out.orcpt, "rfc822;a@b");
}

TEST(DsnOrcpt, NeverKeepsAnOctetThatCouldEndACommand) {
  for (int c = 0; c < 256; ++c) {
    for (const std::string type : {"rfc822", "utf-8"}) {
      const std::string kept = orcpt(type + ";x" + std::string(1, static_cast<char>(c)) + "\xA4y");
      EXPECT_TRUE(kept == "refused" || xtext_decode(kept)) << c;
    }
  }
}

TEST(DsnParameters, RoundTrip) {
  const DsnRcpt given{.success = true, .delay = true, .notify_given = true, .orcpt = "rfc822;a@b"};
  const std::string text = rcpt_parameters(given);
  DsnRcpt back;
  EXPECT_EQ(text, " NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a@b");
  EXPECT_TRUE(parse_notify("SUCCESS,DELAY", back) && parse_orcpt("rfc822;a@b", back));
  EXPECT_EQ(back, given);
  EXPECT_EQ(rcpt_parameters({}), "");
}

}  // namespace
}  // namespace egret::smtp
