#include "routing/reply_lint.hpp"

#include <algorithm>

namespace egret::routing {
namespace {

/// Whether what `wide` asks holds wherever what `narrow` asks does; an empty list asks nothing.
template <typename T>
bool includes(const std::vector<T>& wide, const std::vector<T>& narrow) {
  if (wide.empty()) return true;
  if (narrow.empty()) return false;
  return std::ranges::all_of(narrow, [&](const T& item) { return std::ranges::find(wide, item) != wide.end(); });
}

/// "5xx" includes "550".
bool codes_include(const std::vector<std::string>& wide, const std::vector<std::string>& narrow) {
  if (wide.empty()) return true;
  if (narrow.empty()) return false;
  return std::ranges::all_of(narrow, [&](const std::string& code) {
    return std::ranges::any_of(wide, [&](const std::string& w) { return w == code || (w.ends_with("xx") && w[0] == code[0]); });
  });
}

/// Whether `earlier` holds wherever `later` does, as far as their conditions show: patterns are only compared as text.
bool covers(const ReplyRule& earlier, const ReplyRule& later) {
  return (earlier.match.empty() || earlier.match == later.match) &&
         (earlier.not_match.empty() || earlier.not_match == later.not_match) && codes_include(earlier.codes, later.codes) &&
         includes(earlier.enhanced, later.enhanced) && includes(earlier.phases, later.phases) &&
         includes(earlier.providers, later.providers) && (earlier.ip == IpCondition::any || earlier.ip == later.ip);
}

class Linter {
 public:
  Linter(const ReplyRules& rules, const LintNames& names) : rules_(rules), names_(names) {}

  std::vector<LintFinding> run() {
    for (std::size_t i = 0; i < rules_.rules().size(); ++i) {
      const ReplyRule& rule = rules_.rules()[i];
      names(rule);
      if (!covered(rule, i)) examples(rule);
    }
    return std::move(findings_);
  }

 private:
  void add(const ReplyRule& rule, std::string what, bool impossible) {
    findings_.push_back({rule.name, std::move(what), impossible});
  }

  void names(const ReplyRule& rule) {
    for (const std::string& provider : rule.providers)
      if (!names_.provider(provider)) add(rule, "no provider is called " + provider, true);
    if (!rule.blocklist.empty() && !names_.blocklist(rule.blocklist)) add(rule, "no blocklist is called " + rule.blocklist, true);
  }

  bool covered(const ReplyRule& rule, std::size_t index) {
    for (std::size_t i = 0; i < index; ++i) {
      const ReplyRule& earlier = rules_.rules()[i];
      // An observing rule takes nothing from the others.
      if ((earlier.observe && !rule.observe) || !covers(earlier, rule)) continue;
      add(rule, "never judges: rule " + earlier.name + " comes first and holds wherever it does", true);
      return true;
    }
    return false;
  }

  /// The name of the first rule that holds, observing ones included: an observing rule is tried as if it judged.
  std::string_view judge(const ReplyRule& rule, const std::string& reply) const {
    for (const Verdict& verdict : rules_.candidates(smtp::reply_text(reply), context_for(rule)))
      if (verdict.observe.empty() || verdict.rule == rule.name) return verdict.rule;
    return "none";
  }

  void examples(const ReplyRule& rule) {
    if (rule.matches.empty()) return add(rule, "has no examples (matches)", false);
    std::size_t won = 0;
    std::vector<std::string> lost;
    for (const std::string& reply : rule.matches) {
      const std::string_view winner = judge(rule, reply);
      if (winner == rule.name)
        ++won;
      else
        lost.push_back("does not judge its example, rule " + std::string(winner) + " does: " + reply);
    }
    if (won == 0)
      add(rule, "shadowed: it judges none of its examples; " + lost.front(), true);
    else
      for (std::string& what : lost) add(rule, std::move(what), false);
    for (const std::string& reply : rule.rejects)
      if (judge(rule, reply) == rule.name) add(rule, "judges a reply that it must not: " + reply, false);
  }

  const ReplyRules& rules_;
  const LintNames& names_;
  std::vector<LintFinding> findings_;
};

}  // namespace

std::vector<LintFinding> lint(const ReplyRules& rules, const LintNames& names) {
  return Linter(rules, names).run();
}

ReplyContext context_for(const ReplyRule& rule) {
  ReplyContext out;
  if (!rule.phases.empty()) out.phase = rule.phases.front();
  if (!rule.providers.empty()) out.provider = rule.providers.front();
  // An address for examples, which no example names (RFC 5737 addresses are other ones).
  if (rule.ip == IpCondition::other) out.egress = IpAddress::parse("203.0.113.250");
  return out;
}

}  // namespace egret::routing
