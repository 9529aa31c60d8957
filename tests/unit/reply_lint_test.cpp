#include "routing/reply_lint.hpp"

#include <gtest/gtest.h>

#include "config/config.hpp"

namespace egret::routing {
namespace {

ReplyRule rule(std::string name, std::string match, std::vector<std::string> matches) {
  ReplyRule out;
  out.name = std::move(name);
  out.match = std::move(match);
  out.matches = std::move(matches);
  return out;
}

std::vector<LintFinding> findings(std::vector<ReplyRule> rules) {
  std::vector<std::string> problems;
  const ReplyRules compiled(std::move(rules), problems);
  EXPECT_TRUE(problems.empty());
  return lint(compiled,
              {[](std::string_view name) { return name == "google"; }, [](std::string_view name) { return name == "zen"; }});
}

TEST(ReplyLint, HasNothingToSayOfGoodRules) {
  ReplyRule good = rule("a", "x", {"550 x"});
  good.providers = {"google"};
  good.blocklist = "zen";
  EXPECT_TRUE(findings({good, rule("b", "y", {"550 y"})}).empty());
}

TEST(ReplyLint, FindsUnknownProvidersAndBlocklists) {
  ReplyRule bad = rule("a", "x", {"550 x"});
  bad.providers = {"gogle"};
  bad.blocklist = "zan";
  const auto found = findings({bad});
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].what, "no provider is called gogle");
  EXPECT_EQ(found[1].what, "no blocklist is called zan");
  EXPECT_TRUE(found[0].impossible && found[1].impossible);
}

TEST(ReplyLint, FindsRulesWithoutExamples) {
  const auto found = findings({rule("a", "x", {})});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_FALSE(found[0].impossible);
}

TEST(ReplyLint, FindsTheSameConditionsTwice) {
  const auto found = findings({rule("a", "x", {"550 x"}), rule("b", "x", {"550 x"})});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].rule, "b");
  EXPECT_TRUE(found[0].impossible);
}

TEST(ReplyLint, FindsConditionsThatAnEarlierRuleIncludes) {
  ReplyRule wide = rule("wide", "", {"550 z"}), narrow = rule("narrow", "x", {"550 x"});
  wide.codes = {"5xx"};
  narrow.codes = {"550", "554"};
  EXPECT_EQ(findings({wide, narrow}).size(), 1u);
  EXPECT_TRUE(findings({narrow, wide}).empty());
  narrow.codes = {"450"};
  narrow.matches = {"450 x"};
  EXPECT_TRUE(findings({wide, narrow}).empty());
}

TEST(ReplyLint, FindsRulesWhoseExamplesAllGoToAnother) {
  const auto found = findings({rule("a", "x|y", {"550 x"}), rule("b", "xy", {"550 xy"})});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].rule, "b");
  EXPECT_TRUE(found[0].impossible);
}

TEST(ReplyLint, FindsSingleExamplesThatSayOtherwise) {
  ReplyRule b = rule("b", "y", {"550 y", "550 x y"});
  b.rejects = {"550 yy"};
  const auto found = findings({rule("a", "x", {"550 x"}), b});
  ASSERT_EQ(found.size(), 2u);
  EXPECT_FALSE(found[0].impossible || found[1].impossible);
}

TEST(ReplyLint, TriesAnObservingRuleAsIfItJudged) {
  ReplyRule observing = rule("a", "x", {"550 x"});
  observing.observe = true;
  EXPECT_TRUE(findings({observing, rule("b", "x", {"550 x"})}).empty());
}

TEST(ReplyLint, HasNothingToSayOfTheShippedRules) {
  config::Problems problems;
  const auto rules = config::shipped_reply_rules(problems);
  EXPECT_TRUE(problems.empty());
  for (const auto& finding : config::lint_replies(*rules, {})) ADD_FAILURE() << "rule " << finding.rule << ": " << finding.what;
}

}  // namespace
}  // namespace egret::routing
