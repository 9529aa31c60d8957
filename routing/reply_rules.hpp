// Reply classification by data: which label a negative reply deserves, decided by the first rule whose every
// condition holds. Rules come from config/replies.yaml and the operator; this file only evaluates them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "routing/account.hpp"
#include "routing/address.hpp"
#include "routing/types.hpp"
#include "smtp/client_session.hpp"
#include "smtp/reply.hpp"

namespace egret::routing {

enum class Confidence { high, medium, low };
std::string_view to_string(Confidence confidence);

/// Whose IP address a reply must name for a rule to hold.
enum class IpCondition { any, own, other, none };

/// One rule, as written. Empty conditions hold always.
struct ReplyRule {
  std::string name;
  int priority = 0;                   ///< lower is looked at first; equal ones in the order given
  std::string match;                  ///< RE2, searched in the text, ASCII case-insensitive
  std::string not_match;              ///< RE2 that must not be found
  std::vector<std::string> codes;     ///< "550", "4xx", "5xx"
  std::vector<std::string> enhanced;  ///< "5.7.1", "x.7.25", "4.7.x"
  std::vector<smtp::Phase> phases;
  std::vector<std::string> providers;
  IpCondition ip = IpCondition::any;
  Label label = Label::other;
  std::string blocklist;
  std::string delist;
  Confidence confidence = Confidence::high;
  AccountTrouble account = AccountTrouble::none;  ///< what it says of our account, when a smarthost says it
  bool observe = false;                           ///< judges nothing: only reported as what would have judged
  std::vector<std::string> matches;               ///< replies that this rule must judge
  std::vector<std::string> rejects;               ///< replies that it must not
};

/// What is known about the connection a reply came from. Unknown things satisfy no condition about them, but for the
/// egress address: while it is unknown, an IP address in the text counts as ours.
struct ReplyContext {
  std::optional<smtp::Phase> phase;
  std::string_view provider;
  std::optional<IpAddress> egress;
};

/// The judgement of one reply.
struct Verdict {
  Label label = Label::other;
  std::string_view rule = "unmatched";  ///< points into the rule set
  std::string_view blocklist;           ///< points into the rule set; empty: none named
  std::string_view delist;
  Confidence confidence = Confidence::low;
  bool fallback = true;  ///< no word of the text was understood, only its codes (or nothing)
  AccountTrouble account = AccountTrouble::none;
  std::string_view observe;  ///< the observing rule that would have judged instead; empty: none
  Label observe_label = Label::other;
};

/// From this priority on, rules only know codes: what they judge is an unknown reply.
inline constexpr int fallback_priority = 300;

/// An immutable, compiled set of rules. Matching is thread-safe and linear in the length of the text.
class ReplyRules {
 public:
  /// Compiles `rules`. What is wrong with them (bad pattern, no condition, a name twice) is added to `problems` as
  /// "rule NAME: ...", and such rules are left out.
  ReplyRules(std::vector<ReplyRule> rules, std::vector<std::string>& problems);
  ~ReplyRules();
  ReplyRules(ReplyRules&&) noexcept;
  ReplyRules& operator=(ReplyRules&&) noexcept;

  Verdict classify(const smtp::ReplyText& reply, const ReplyContext& context) const;
  /// All rules that hold, in order of priority, observing ones too: what `egret classify --explain` shows.
  std::vector<Verdict> candidates(const smtp::ReplyText& reply, const ReplyContext& context) const;
  const std::vector<ReplyRule>& rules() const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

/// Every IP address literal in `text` (at most 16).
std::vector<IpAddress> addresses_in(std::string_view text);

}  // namespace egret::routing
