#include "routing/reply_rules.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "config/config.hpp"
#include "routing/reply_lint.hpp"

namespace egret::routing {
namespace {

IpAddress ip(std::string_view text) {
  return *IpAddress::parse(text);
}

ReplyRule rule(std::string name, std::string match, Label label = Label::ip_blocked, int priority = 0) {
  ReplyRule out;
  out.name = std::move(name);
  out.match = std::move(match);
  out.label = label;
  out.priority = priority;
  return out;
}

ReplyRules compiled(std::vector<ReplyRule> rules) {
  std::vector<std::string> problems;
  ReplyRules out(std::move(rules), problems);
  EXPECT_TRUE(problems.empty()) << problems.front();
  return out;
}

std::vector<std::string> problems_of(std::vector<ReplyRule> rules) {
  std::vector<std::string> problems;
  ReplyRules(std::move(rules), problems);
  return problems;
}

/// The name of the rule that judges.
std::string judge_of(const ReplyRules& rules, std::string_view reply, const ReplyContext& context = {}) {
  return std::string(rules.classify(smtp::reply_text(reply), context).rule);
}

// ---- conditions
// --------------------------------------------------------------------------------------------------

TEST(ReplyRules, MatchAnywhereWithoutCase) {
  EXPECT_EQ(judge_of(compiled({rule("a", "black ?list")}), "550 Your IP is on a BlackList, sorry"), "a");
}

TEST(ReplyRules, MatchTheTextWithoutCodes) {
  const ReplyRules rules = compiled({rule("a", "^no$")});
  EXPECT_EQ(judge_of(rules, "550 5.7.1 no"), "a");
  EXPECT_EQ(judge_of(rules, "550 5.7.1 no no"), "unmatched");
}

TEST(ReplyRules, MatchAcrossLines) {
  EXPECT_EQ(judge_of(compiled({rule("a", "your ip is listed")}), "550-5.7.1 your ip\n550 5.7.1 is listed"), "a");
}

TEST(ReplyRules, MayExcludeAPattern) {
  ReplyRule r = rule("a", "listed");
  r.not_match = "not listed";
  const ReplyRules rules = compiled({r});
  EXPECT_EQ(judge_of(rules, "550 listed"), "a");
  EXPECT_EQ(judge_of(rules, "550 NOT LISTED"), "unmatched");
}

TEST(ReplyRules, MayAskForACode) {
  ReplyRule exact = rule("exact", "x"), hundred = rule("hundred", "x");
  exact.codes = {"550"};
  hundred.codes = {"4xx"};
  const ReplyRules rules = compiled({exact, hundred});
  EXPECT_EQ(judge_of(rules, "550 x"), "exact");
  EXPECT_EQ(judge_of(rules, "451 x"), "hundred");
  EXPECT_EQ(judge_of(rules, "554 x"), "unmatched");
  EXPECT_EQ(judge_of(rules, "x"), "unmatched");
}

TEST(ReplyRules, MayAskForAnEnhancedCode) {
  ReplyRule r = rule("a", "");
  r.enhanced = {"5.7.1", "x.7.25", "4.2.x"};
  const ReplyRules rules = compiled({r});
  for (const auto reply : {"550 5.7.1 z", "450 4.7.25 z", "550 5.7.25 z", "450 4.2.9 z"})
    EXPECT_EQ(judge_of(rules, reply), "a") << reply;
  for (const auto reply : {"550 5.7.2 z", "550 5.2.1 z", "550 z", "450 4.7.1 z"})
    EXPECT_EQ(judge_of(rules, reply), "unmatched") << reply;
}

TEST(ReplyRules, MayAskForAPhase) {
  ReplyRule r = rule("a", "x");
  r.phases = {smtp::Phase::connect, smtp::Phase::mail};
  const ReplyRules rules = compiled({r});
  EXPECT_EQ(judge_of(rules, "550 x", {smtp::Phase::mail, "", {}}), "a");
  EXPECT_EQ(judge_of(rules, "550 x", {smtp::Phase::rcpt, "", {}}), "unmatched");
  EXPECT_EQ(judge_of(rules, "550 x"), "unmatched");
}

TEST(ReplyRules, MayAskForAProvider) {
  ReplyRule r = rule("a", "x");
  r.providers = {"google"};
  const ReplyRules rules = compiled({r});
  EXPECT_EQ(judge_of(rules, "550 x", {{}, "google", {}}), "a");
  EXPECT_EQ(judge_of(rules, "550 x", {{}, "yahoo", {}}), "unmatched");
  EXPECT_EQ(judge_of(rules, "550 x"), "unmatched");
}

TEST(ReplyRules, MayAskWhoseAddressIsNamed) {
  ReplyRule own = rule("own", "x"), other = rule("other", "x"), none = rule("none", "x");
  own.ip = IpCondition::own;
  other.ip = IpCondition::other;
  none.ip = IpCondition::none;
  const ReplyRules rules = compiled({own, other, none});
  const ReplyContext us{{}, "", ip("192.0.2.1")};
  EXPECT_EQ(judge_of(rules, "550 x 192.0.2.1", us), "own");
  EXPECT_EQ(judge_of(rules, "550 x [198.51.100.7] and [192.0.2.1]", us), "own");
  EXPECT_EQ(judge_of(rules, "550 x 198.51.100.7", us), "other");
  EXPECT_EQ(judge_of(rules, "550 x", us), "none");
}

TEST(ReplyRules, TakeAnyAddressForOursWhileTheEgressIsUnknown) {
  ReplyRule own = rule("own", "x"), other = rule("other", "x");
  own.ip = IpCondition::own;
  other.ip = IpCondition::other;
  EXPECT_EQ(judge_of(compiled({other, own}), "550 x 198.51.100.7"), "own");
}

TEST(ReplyRules, KnowAMappedAddressAsOurs) {
  ReplyRule own = rule("own", "x");
  own.ip = IpCondition::own;
  EXPECT_EQ(judge_of(compiled({own}), "550 x ::ffff:192.0.2.1", {{}, "", ip("192.0.2.1")}), "own");
}

// ---- order
// -------------------------------------------------------------------------------------------------------

TEST(ReplyRules, TheLowestPriorityWins) {
  EXPECT_EQ(judge_of(compiled({rule("late", "x", Label::other, 20), rule("early", "x", Label::other, 10)}), "550 x"), "early");
}

TEST(ReplyRules, EqualPrioritiesKeepTheirOrder) {
  EXPECT_EQ(judge_of(compiled({rule("first", "x"), rule("second", "x")}), "550 x"), "first");
  ReplyRule by_code = rule("by-code", "");
  by_code.codes = {"550"};
  EXPECT_EQ(judge_of(compiled({by_code, rule("by-text", "x")}), "550 x"), "by-code");
  EXPECT_EQ(judge_of(compiled({rule("by-text", "x"), by_code}), "550 x"), "by-text");
}

TEST(ReplyRules, TheFirstWhoseEveryConditionHoldsDecides) {
  ReplyRule narrow = rule("narrow", "x", Label::other, 1);
  narrow.codes = {"421"};
  EXPECT_EQ(judge_of(compiled({narrow, rule("wide", "x", Label::other, 2)}), "550 x"), "wide");
}

TEST(ReplyRules, ListAllThatHoldTheWinnerFirst) {
  const ReplyRules rules = compiled(
      {rule("c", "x", Label::other, 3), rule("a", "x", Label::other, 1), rule("no", "y"), rule("b", "x", Label::other, 2)});
  std::string names;
  for (const Verdict& v : rules.candidates(smtp::reply_text("550 x"), {})) names += v.rule;
  EXPECT_EQ(names, "abc");
}

TEST(ReplyRules, GiveEverythingTheRuleSays) {
  ReplyRule r = rule("a", "x", Label::ip_blocked);
  r.blocklist = "zen";
  r.delist = "https://example.net/";
  r.confidence = Confidence::medium;
  const ReplyRules rules = compiled({r});
  const Verdict v = rules.classify(smtp::reply_text("550 x"), {});
  EXPECT_EQ(v.label, Label::ip_blocked);
  EXPECT_EQ(v.blocklist, "zen");
  EXPECT_EQ(v.delist, "https://example.net/");
  EXPECT_EQ(v.confidence, Confidence::medium);
}

TEST(ReplyRules, ThatObserveLeaveTheJudgementToOthers) {
  ReplyRule observing = rule("observing", "x", Label::content);
  observing.observe = true;
  const ReplyRules rules = compiled({observing, rule("judging", "x", Label::ip_blocked)});
  const Verdict v = rules.classify(smtp::reply_text("550 x"), {});
  EXPECT_EQ(v.rule, "judging");
  EXPECT_EQ(v.observe, "observing");
  EXPECT_EQ(v.observe_label, Label::content);
}

TEST(ReplyRules, ThatObserveAloneJudgeNothing) {
  ReplyRule observing = rule("observing", "x");
  observing.observe = true;
  const Verdict v = compiled({observing}).classify(smtp::reply_text("550 x"), {});
  EXPECT_EQ(v.rule, "unmatched");
  EXPECT_EQ(v.label, Label::other);
  EXPECT_EQ(v.observe, "observing");
}

TEST(ReplyRules, SayWhenNoWordWasUnderstood) {
  const ReplyRules rules = compiled({rule("words", "x"), rule("code", "z", Label::other, fallback_priority)});
  EXPECT_FALSE(rules.classify(smtp::reply_text("550 x"), {}).fallback);
  EXPECT_TRUE(rules.classify(smtp::reply_text("550 z"), {}).fallback);
  EXPECT_TRUE(rules.classify(smtp::reply_text("550 y"), {}).fallback);
}

TEST(ReplyRules, WithoutAMatchTheFirstDigitDecides) {
  const ReplyRules rules = compiled({rule("a", "x")});
  EXPECT_EQ(rules.classify(smtp::reply_text("451 z"), {}).label, Label::temporary);
  EXPECT_EQ(rules.classify(smtp::reply_text("550 z"), {}).label, Label::other);
  EXPECT_EQ(rules.classify(smtp::reply_text("550 z"), {}).confidence, Confidence::low);
}

// ---- what is wrong with rules
// ------------------------------------------------------------------------------------

TEST(ReplyRules, ReportBadPatterns) {
  ReplyRule negative = rule("b", "x");
  negative.not_match = "[";
  const auto problems = problems_of({rule("a", "("), negative});
  ASSERT_EQ(problems.size(), 2u);
  EXPECT_TRUE(problems[0].starts_with("rule a: "));
  EXPECT_TRUE(problems[1].starts_with("rule b: "));
}

TEST(ReplyRules, ReportARuleWithoutConditions) {
  EXPECT_EQ(problems_of({rule("a", "")}).size(), 1u);
}

TEST(ReplyRules, ReportANameUsedTwice) {
  EXPECT_EQ(problems_of({rule("a", "x"), rule("a", "y")}).size(), 1u);
}

TEST(ReplyRules, LeaveBadRulesOutAndKeepTheRest) {
  std::vector<std::string> problems;
  const ReplyRules rules({rule("bad", "("), rule("good", "x")}, problems);
  EXPECT_EQ(judge_of(rules, "550 ( x"), "good");
  EXPECT_EQ(rules.rules().size(), 1u);
}

// ---- addresses in text
// -------------------------------------------------------------------------------------------

std::string addresses(std::string_view text) {
  std::string out;
  for (const IpAddress& a : addresses_in(text)) out += (out.empty() ? "" : " ") + a.to_string();
  return out;
}

TEST(AddressesIn, FindsThemInProse) {
  EXPECT_EQ(addresses("Client host [192.0.2.1] blocked (198.51.100.7), see 203.0.113.9."), "192.0.2.1 198.51.100.7 203.0.113.9");
  EXPECT_EQ(addresses("ip=192.0.2.1; 192.0.2.2: bad"), "192.0.2.1 192.0.2.2");
}

TEST(AddressesIn, FindsIpv6) {
  EXPECT_EQ(addresses("[2001:db8::1] and IPv6:2001:db8::2 and 2001:DB8:0:0:0:0:0:3,"), "2001:db8::1 2001:db8::2 2001:db8::3");
}

TEST(AddressesIn, IgnoresNamesNumbersAndTimes) {
  for (const auto text : {"", "5.7.1", "mail-192.0.2.1.example.com", "1.2.0.192.in-addr.arpa", "192.0.2.256", "1.2.3.4.5",
                          "at 12:30:59", "id a192.0.2.1b", "192.0.2.1-x"})
    EXPECT_EQ(addresses(text), "") << text;
}

TEST(AddressesIn, IsBounded) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "192.0.2.1 ";
  EXPECT_EQ(addresses_in(text).size(), 16u);
}

// ---- the shipped rules
// -------------------------------------------------------------------------------------------

const ReplyRules& shipped() {
  static const auto rules = [] {
    config::Problems problems;
    auto out = config::shipped_reply_rules(problems);
    for (const auto& problem : problems) ADD_FAILURE() << problem.to_string();
    return out;
  }();
  return *rules;
}

TEST(ShippedRules, HaveNoProblems) {
  EXPECT_GT(shipped().rules().size(), 100u);
}

TEST(ShippedRules, EachHasAReplyThatItJudges) {
  for (const ReplyRule& r : shipped().rules()) EXPECT_FALSE(r.matches.empty()) << r.name;
}

TEST(ShippedRules, JudgeTheirMatches) {
  for (const ReplyRule& r : shipped().rules())
    for (const std::string& reply : r.matches) EXPECT_EQ(judge_of(shipped(), reply, context_for(r)), r.name) << reply;
}

TEST(ShippedRules, DoNotJudgeTheirRejects) {
  for (const ReplyRule& r : shipped().rules())
    for (const std::string& reply : r.rejects) EXPECT_NE(judge_of(shipped(), reply, context_for(r)), r.name) << reply;
}

struct Row {
  std::string id, reply;
  Label label;
};

/// The rows of a labelled set that are not ambiguous. The first line names the columns.
std::vector<Row> clear_rows(const std::string& name) {
  std::ifstream file(EGRET_SOURCE_DIR "/tests/replies/" + name);
  std::vector<Row> out;
  std::string line;
  const auto cells_of = [](const std::string& text) {
    std::vector<std::string> cells;
    std::istringstream in(text);
    for (std::string cell; std::getline(in, cell, '\t');) cells.push_back(cell);
    return cells;
  };
  std::getline(file, line);
  const auto head = cells_of(line);
  const auto column = [&](std::string_view wanted) {
    return static_cast<std::size_t>(std::ranges::find(head, wanted) - head.begin());
  };
  const std::size_t reply = column("reply"), label = column("label"), ambiguous = column("ambiguous");
  while (std::getline(file, line)) {
    auto cells = cells_of(line);
    if (cells.size() <= std::max({reply, label, ambiguous}) || cells[ambiguous] != "n") continue;
    std::string& text = cells[reply];
    for (std::size_t at; (at = text.find("\\n")) != std::string::npos;) text.replace(at, 2, "\n");
    const auto parsed = parse_label(cells[label]);
    EXPECT_TRUE(parsed) << line;
    if (parsed) out.push_back({cells[0], text, *parsed});
  }
  return out;
}

bool egress_at_fault(Label label) {
  return label == Label::ip_blocked || label == Label::ip_config || label == Label::ip_throttled;
}

struct Score {
  int rows = 0, right = 0, fault = 0, found = 0, found_right = 0;
  std::string wrong;
};

Score score_of(const std::string& name) {
  Score out;
  for (const Row& row : clear_rows(name)) {
    const Verdict v = shipped().classify(smtp::reply_text(row.reply), {});
    ++out.rows;
    out.right += v.label == row.label;
    out.fault += egress_at_fault(row.label);
    out.found += egress_at_fault(v.label);
    out.found_right += egress_at_fault(v.label) && egress_at_fault(row.label);
    if (v.label != row.label)
      out.wrong += row.id + " " + std::string(to_string(v.label)) + " by " + std::string(v.rule) + ": " + row.reply + "\n";
  }
  return out;
}

/// dev.tsv: replies collected from receivers and programs. more.tsv: others, written down from knowledge of theirs.
class LabelledReplies : public testing::TestWithParam<const char*> {};

TEST_P(LabelledReplies, AreJudgedRightly) {
  const Score score = score_of(GetParam());
  ASSERT_GT(score.rows, 400);
  EXPECT_GE(score.right, 0.95 * score.rows) << score.right << " of " << score.rows << "\n" << score.wrong;
}

TEST_P(LabelledReplies, SeldomBlameAnInnocentEgress) {
  const Score score = score_of(GetParam());
  EXPECT_GE(score.found_right, 0.98 * score.found) << score.wrong;
}

TEST_P(LabelledReplies, SeldomMissAGuiltyEgress) {
  const Score score = score_of(GetParam());
  EXPECT_GE(score.found_right, 0.97 * score.fault) << score.wrong;
}

INSTANTIATE_TEST_SUITE_P(ShippedRules, LabelledReplies, testing::Values("dev.tsv", "more.tsv"));

}  // namespace
}  // namespace egret::routing
