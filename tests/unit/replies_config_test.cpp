#include <gtest/gtest.h>

#include "config/config.hpp"

namespace egret::config {
namespace {

constexpr std::string_view head = R"(
hostname: relay.example.com
listeners: [{address: "127.0.0.1:2525", class: mail}]
sources: {a: {address: 192.0.2.1}}
pools: {p: {sources: [a]}}
classes: {mail: {pool: p}}
reputation:
  replies:
)";

struct Loaded {
  std::shared_ptr<const Config> config;
  Problems problems;
};

Loaded load(std::string_view rules) {
  Loaded out;
  const auto none = [](const std::string&) -> std::optional<std::string> { return std::nullopt; };
  out.config = load_text(std::string(head) + std::string(rules), "egret.yaml", none, out.problems);
  return out;
}

/// The only problem's text.
std::string problem(std::string_view rules) {
  const Loaded loaded = load(rules);
  EXPECT_EQ(loaded.problems.size(), 1u);
  EXPECT_FALSE(loaded.config);
  return loaded.problems.empty() ? "" : loaded.problems.front().to_string();
}

std::string_view judge(const Loaded& loaded, std::string_view reply) {
  return loaded.config->replies->classify(smtp::reply_text(reply), {}).rule;
}

TEST(OwnReplyRules, ComeBeforeTheShippedOnes) {
  const Loaded loaded = load("    - {name: mine, match: 'user unknown', label: temporary}\n");
  ASSERT_TRUE(loaded.config) << loaded.problems.front().to_string();
  EXPECT_EQ(judge(loaded, "550 5.1.1 User unknown"), "mine");
  EXPECT_EQ(judge(loaded, "554 5.7.1 Spam message rejected"), "spam-phrases");
}

TEST(OwnReplyRules, ReplaceAShippedOneOfTheSameName) {
  const Loaded loaded = load("    - {name: psbl-listed, match: 'never seen', label: other}\n");
  ASSERT_TRUE(loaded.config) << loaded.problems.front().to_string();
  EXPECT_NE(judge(loaded, "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using psbl.surriel.com"),
            "psbl-listed");
}

TEST(OwnReplyRules, ThatObserveLeaveTheJudgementToOthers) {
  const Loaded loaded = load("    - {name: mine, match: 'user unknown', label: temporary, mode: observe}\n");
  ASSERT_TRUE(loaded.config) << loaded.problems.front().to_string();
  const auto verdict = loaded.config->replies->classify(smtp::reply_text("550 5.1.1 User unknown"), {});
  EXPECT_EQ(verdict.label, routing::Label::recipient);
  EXPECT_EQ(verdict.observe, "mine");
  EXPECT_EQ(verdict.observe_label, routing::Label::temporary);
}

TEST(OwnReplyRules, ThatCannotWorkAreProblemsAtTheirPlace) {
  EXPECT_TRUE(problem("    - {name: ok, match: zzz, label: other}\n    - {name: mine, match: '(', label: other}\n")
                  .starts_with("egret.yaml:10:"));
  EXPECT_NE(problem("    - {name: mine, match: x, label: other, provider: [gogle]}\n").find("no provider is called gogle"),
            std::string::npos);
  EXPECT_NE(problem("    - {name: mine, match: x, label: other, blocklist: zan}\n").find("no blocklist is called zan"),
            std::string::npos);
  EXPECT_NE(problem("    - {name: a, code: [5xx], label: other}\n    - {name: b, match: x, code: ['550'], label: other}\n")
                .find("never judges"),
            std::string::npos);
}

TEST(OwnReplyRules, HaveCheckedKeys) {
  EXPECT_NE(problem("    - {name: a, code: [250], label: other}\n").find("expected codes such as 550"), std::string::npos);
  EXPECT_NE(problem("    - {name: a, enhanced: ['5.7'], label: other}\n").find("expected codes such as 5.7.1"),
            std::string::npos);
  EXPECT_NE(problem("    - {name: a, match: x, label: other, mode: maybe}\n").find("expected enforce or observe"),
            std::string::npos);
}

}  // namespace
}  // namespace egret::config
