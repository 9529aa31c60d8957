// What is wrong with reply rules that compile: rules that can never judge, that name what nobody knows, or whose own
// examples say otherwise.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "routing/reply_rules.hpp"

namespace egret::routing {

struct LintFinding {
  std::string rule;
  std::string what;
  bool impossible = false;  ///< the rule cannot do what it is for; otherwise only untidy
};

/// The names that rules may use.
struct LintNames {
  std::function<bool(std::string_view)> provider;
  std::function<bool(std::string_view)> blocklist;
};

/// Looks at every rule, in order of priority.
std::vector<LintFinding> lint(const ReplyRules& rules, const LintNames& names);

/// A connection on which a rule's conditions about the connection hold.
ReplyContext context_for(const ReplyRule& rule);

}  // namespace egret::routing
