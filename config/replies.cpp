// The reply rules of a configuration: the shipped ones, with the operator's laid over them. A rule with a shipped
// rule's name stands in its place; an operator's rule without a priority comes before all shipped ones.
#include "config/replies.hpp"

#include <algorithm>
#include <mutex>

#include "config/shipped.hpp"

namespace egret::config {
namespace {

struct Shipped {
  ReplyData data;
  std::shared_ptr<const routing::ReplyRules> compiled;
  Problems problems;
};

/// Compiling them takes a few tenths of a second, and they never change within one program.
const Shipped& shipped() {
  static const Shipped once = [] {
    Shipped out;
    const std::string file = "replies.yaml";
    out.data = read_replies(parse_yaml(shipped_replies, file, out.problems), file, out.problems);
    std::vector<std::string> bad;
    out.compiled = std::make_shared<routing::ReplyRules>(out.data.rules, bad);
    for (const auto& text : bad) out.problems.push_back({file, 0, 0, "", text});
    return out;
  }();
  return once;
}

}  // namespace

std::shared_ptr<const routing::ReplyRules> shipped_reply_rules(Problems& problems) {
  problems.insert(problems.end(), shipped().problems.begin(), shipped().problems.end());
  return shipped().compiled;
}

std::vector<routing::LintFinding> lint_replies(const routing::ReplyRules& rules, const routing::Blocklists& blocklists) {
  Problems ignored;  // they are reported where these files are loaded
  static const routing::Providers providers(
      read_providers(parse_yaml(shipped_providers, "providers.yaml", ignored), "providers.yaml", ignored));
  static const BlocklistData lists =
      read_blocklists(parse_yaml(shipped_blocklists, "blocklists.yaml", ignored), "blocklists.yaml", ignored);
  const auto known_list = [&](std::string_view name) {
    const auto& spoken_of = shipped().data.lists;
    return blocklists.find(name) != blocklists.end() || lists.lists.contains(std::string(name)) ||
           std::ranges::find(spoken_of, name) != spoken_of.end();
  };
  static const auto smarthosts =
      read_smarthosts(parse_yaml(shipped_smarthosts, "smarthosts.yaml", ignored), "smarthosts.yaml", ignored);
  // A site of no known provider has its first MX host's name; what a smarthost says is its preset's.
  const auto known_provider = [&](std::string_view name) {
    return name.find('.') != std::string_view::npos || providers.named(name) || smarthosts.contains(std::string(name));
  };
  return routing::lint(rules, {known_provider, known_list});
}

std::shared_ptr<const routing::ReplyRules> read_own_replies(Section& reputation, const routing::Blocklists& blocklists,
                                                            Problems& problems) {
  const Tree* tree = reputation.take("replies");
  if (!tree) return shipped_reply_rules(problems);
  std::vector<routing::ReplyRule> own;
  reputation.sections("replies", [&](Section& section) { own.push_back(read_reply_rule(section)); });
  if (tree->kind != Tree::Kind::sequence || own.size() != tree->items.size()) return shipped_reply_rules(problems);

  const auto at = [&](std::string_view name) -> const Tree& {
    const auto it = std::ranges::find(own, name, &routing::ReplyRule::name);
    return it == own.end() ? *tree : tree->items[static_cast<std::size_t>(it - own.begin())];
  };
  std::vector<routing::ReplyRule> all = own;
  for (const auto& rule : shipped().data.rules)
    if (std::ranges::find(own, rule.name, &routing::ReplyRule::name) == own.end()) all.push_back(rule);
  std::vector<std::string> bad;
  auto rules = std::make_shared<routing::ReplyRules>(std::move(all), bad);
  for (const std::string& text : bad) {
    const std::string name = text.substr(std::min<std::size_t>(5, text.size()), text.find(": ") - 5);  // "rule NAME: ..."
    reputation.problem_at(at(name), "replies", text);
  }
  if (bad.empty())
    for (const auto& finding : lint_replies(*rules, blocklists))
      if (finding.impossible && &at(finding.rule) != tree)
        reputation.problem_at(at(finding.rule), "replies", "rule " + finding.rule + ": " + finding.what);
  return rules;
}

}  // namespace egret::config
