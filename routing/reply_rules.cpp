#include "routing/reply_rules.hpp"

#include <re2/re2.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <cstdlib>
#include <mutex>
#include <set>

#include "routing/literal_filter.hpp"
#include "smtp/text.hpp"

namespace egret::routing {
namespace {

RE2::Options pattern_options() {
  RE2::Options options;
  options.set_case_sensitive(false);
  options.set_log_errors(false);
  options.set_never_nl(false);
  return options;
}

/// What is wrong with a pattern; empty when it is valid.
std::string error_of(const std::string& pattern) {
  const RE2 compiled(pattern, pattern_options());
  return compiled.ok() ? "" : compiled.error();
}

/// A valid pattern, compiled when it is first needed: of some hundred that are shipped a relay meets a dozen, and each takes
/// a start some tenths of a millisecond, and ten kilobytes.
class Pattern {
 public:
  explicit Pattern(std::string text) : text_(std::move(text)) {}
  bool found_in(std::string_view text) const {
    std::call_once(once_, [this] { compiled_ = std::make_unique<RE2>(text_, pattern_options()); });
    return RE2::PartialMatch(text, *compiled_);
  }

 private:
  std::string text_;
  mutable std::once_flag once_;
  mutable std::unique_ptr<RE2> compiled_;
};

/// Reply codes from `low` to `high`, both included.
struct CodeRange {
  int low = 0, high = 0;
};

std::vector<CodeRange> code_ranges(const std::vector<std::string>& wanted) {
  std::vector<CodeRange> out;
  for (const std::string& code : wanted) {
    const bool hundred = code.size() == 3 && code.ends_with("xx");
    const int value = std::atoi(code.c_str());
    out.push_back(hundred ? CodeRange{value * 100, value * 100 + 99} : CodeRange{value, value});
  }
  return out;
}

bool code_holds(const std::vector<CodeRange>& wanted, int code) {
  return wanted.empty() || std::ranges::any_of(wanted, [&](CodeRange r) { return code >= r.low && code <= r.high; });
}

/// The three numbers of an enhanced status code; `any` for an x.
struct EnhancedPattern {
  static constexpr int any = -1;
  int klass = any, subject = any, detail = any;
};

std::vector<EnhancedPattern> enhanced_patterns(const std::vector<std::string>& wanted) {
  std::vector<EnhancedPattern> out;
  for (std::string_view text : wanted) {
    const auto part = [&] {
      const std::string digits(text.substr(0, text.find('.')));
      text.remove_prefix(std::min(text.size(), digits.size() + 1));
      return digits == "x" ? EnhancedPattern::any : std::atoi(digits.c_str());
    };
    EnhancedPattern pattern;
    pattern.klass = part();
    pattern.subject = part();
    pattern.detail = part();
    out.push_back(pattern);
  }
  return out;
}

bool enhanced_holds(const std::vector<EnhancedPattern>& wanted, const std::optional<smtp::EnhancedCode>& code) {
  if (wanted.empty()) return true;
  if (!code) return false;
  const auto holds = [](int pattern, int value) { return pattern == EnhancedPattern::any || pattern == value; };
  return std::ranges::any_of(wanted, [&](const EnhancedPattern& w) {
    return holds(w.klass, code->klass) && holds(w.subject, code->subject) && holds(w.detail, code->detail);
  });
}

/// What the text says about addresses; worked out once per reply and only where a rule asks.
class NamedAddress {
 public:
  NamedAddress(std::string_view text, const std::optional<IpAddress>& egress) : text_(text), egress_(egress) {}

  bool holds(IpCondition condition) {
    if (condition == IpCondition::any) return true;
    if (!known_) {
      const auto found = addresses_in(text_);
      any_ = !found.empty();
      own_ = any_ &&
             (!egress_ || std::ranges::any_of(found, [&](const IpAddress& a) { return a.unmapped() == egress_->unmapped(); }));
      known_ = true;
    }
    switch (condition) {
      case IpCondition::own:
        return own_;
      case IpCondition::other:
        return any_ && !own_ && egress_;
      case IpCondition::none:
        return !any_;
      case IpCondition::any:
        break;
    }
    return true;
  }

 private:
  std::string_view text_;
  const std::optional<IpAddress>& egress_;
  bool known_ = false, any_ = false, own_ = false;
};

}  // namespace

std::string_view to_string(Confidence confidence) {
  switch (confidence) {
    case Confidence::high:
      return "high";
    case Confidence::medium:
      return "medium";
    case Confidence::low:
      return "low";
  }
  return "low";
}

struct ReplyRules::Compiled {
  /// What the rule of the same index asks, ready to be asked.
  struct Conditions {
    std::vector<CodeRange> codes;
    std::vector<EnhancedPattern> enhanced;
    std::unique_ptr<Pattern> match, not_match;  // null: no such condition
  };

  std::vector<ReplyRule> rules;  // by priority
  std::vector<Conditions> conditions;
  // A text is searched once for the literal strings that patterns cannot match without; only the patterns that have
  // theirs are tried, in order of priority, until one matches. One automaton of all patterns would be too large to
  // build lazily: milliseconds for every reply unlike those before.
  std::unique_ptr<LiteralFilter> filter;

  bool holds(std::size_t i, const smtp::ReplyText& reply, const ReplyContext& context, NamedAddress& named) const {
    const ReplyRule& rule = rules[i];
    const Conditions& c = conditions[i];
    if (!code_holds(c.codes, reply.code) || !enhanced_holds(c.enhanced, reply.enhanced)) return false;
    if (!rule.phases.empty() && (!context.phase || std::ranges::find(rule.phases, *context.phase) == rule.phases.end()))
      return false;
    if (!rule.providers.empty() && std::ranges::find(rule.providers, context.provider) == rule.providers.end()) return false;
    if (c.match && !c.match->found_in(reply.text)) return false;
    if (!named.holds(rule.ip)) return false;
    return !c.not_match || !c.not_match->found_in(reply.text);
  }

  Verdict verdict(std::size_t i) const {
    const ReplyRule& rule = rules[i];
    Verdict out;
    out.label = rule.label;
    out.rule = rule.name;
    out.blocklist = rule.blocklist;
    out.delist = rule.delist;
    out.confidence = rule.confidence;
    out.account = rule.account;
    out.fallback = rule.priority >= fallback_priority;
    if (rule.observe) {
      out.observe = rule.name;
      out.observe_label = rule.label;
    }
    return out;
  }

  /// Calls `found` with the index of every rule that holds, in order of priority, until it returns false.
  template <typename Found>
  void each(const smtp::ReplyText& reply, const ReplyContext& context, Found found) const {
    thread_local LiteralFilter::Bits scratch, possible;
    filter->possible(reply.text, scratch, possible);
    NamedAddress named(reply.text, context.egress);
    for (std::size_t word = 0; word < possible.size(); ++word)
      for (std::uint64_t rest = possible[word]; rest != 0; rest &= rest - 1) {
        const std::size_t i = word * 64 + static_cast<std::size_t>(std::countr_zero(rest));
        if (i >= rules.size()) return;
        if (holds(i, reply, context, named) && !found(i)) return;
      }
  }
};

ReplyRules::ReplyRules(std::vector<ReplyRule> rules, std::vector<std::string>& problems)
    : compiled_(std::make_unique<Compiled>()) {
  std::ranges::stable_sort(rules, {}, &ReplyRule::priority);
  Compiled& c = *compiled_;
  std::set<std::string, std::less<>> names;
  std::vector<std::string> patterns, kept;
  for (const ReplyRule& rule : rules) patterns.push_back(rule.match);
  std::vector<std::size_t> invalid;
  c.filter = std::make_unique<LiteralFilter>(patterns, invalid);
  for (std::size_t i = 0; i < rules.size(); ++i) {
    ReplyRule& rule = rules[i];
    const auto problem = [&](const std::string& what) { problems.push_back("rule " + rule.name + ": " + what); };
    if (!names.insert(rule.name).second) {
      problem("the name is used twice");
      continue;
    }
    if (rule.match.empty() && rule.codes.empty() && rule.enhanced.empty() && rule.phases.empty() && rule.providers.empty() &&
        rule.ip == IpCondition::any) {
      problem("has no condition");
      continue;
    }
    Compiled::Conditions conditions{code_ranges(rule.codes), enhanced_patterns(rule.enhanced), nullptr, nullptr};
    const std::string bad_match = std::ranges::binary_search(invalid, i) ? error_of(rule.match) : "";
    const std::string bad_not = rule.not_match.empty() ? "" : error_of(rule.not_match);
    if (!bad_match.empty()) problem("match: " + bad_match);
    if (!bad_not.empty()) problem("not: " + bad_not);
    if (!bad_match.empty() || !bad_not.empty()) continue;
    if (!rule.match.empty()) conditions.match = std::make_unique<Pattern>(rule.match);
    if (!rule.not_match.empty()) conditions.not_match = std::make_unique<Pattern>(rule.not_match);
    kept.push_back(rule.match);
    c.conditions.push_back(std::move(conditions));
    c.rules.push_back(std::move(rule));
  }
  if (kept.size() < patterns.size()) c.filter = std::make_unique<LiteralFilter>(kept, invalid);
}

ReplyRules::~ReplyRules() = default;
ReplyRules::ReplyRules(ReplyRules&&) noexcept = default;
ReplyRules& ReplyRules::operator=(ReplyRules&&) noexcept = default;

const std::vector<ReplyRule>& ReplyRules::rules() const {
  return compiled_->rules;
}

Verdict ReplyRules::classify(const smtp::ReplyText& reply, const ReplyContext& context) const {
  Verdict out;
  // Nothing known: the first digit decides (RFC 5321 section 4.2.1).
  out.label = reply.code >= 400 && reply.code < 500 ? Label::temporary : Label::other;
  Verdict observed;
  compiled_->each(reply, context, [&](std::size_t i) {
    const bool observing = compiled_->rules[i].observe;
    if (!observing)
      out = compiled_->verdict(i);
    else if (observed.observe.empty())
      observed = compiled_->verdict(i);
    return observing;
  });
  out.observe = observed.observe;
  out.observe_label = observed.observe_label;
  return out;
}

std::vector<Verdict> ReplyRules::candidates(const smtp::ReplyText& reply, const ReplyContext& context) const {
  std::vector<Verdict> out;
  compiled_->each(reply, context, [&](std::size_t i) {
    out.push_back(compiled_->verdict(i));
    return true;
  });
  return out;
}

std::vector<IpAddress> addresses_in(std::string_view text) {
  std::vector<IpAddress> out;
  const auto part = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || c == '.' || c == ':';
  };
  const auto word_char = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '-'; };
  for (std::size_t i = 0; i < text.size() && out.size() < 16;) {
    if (!part(text[i])) {
      ++i;
      continue;
    }
    std::size_t end = i;
    while (end < text.size() && part(text[end])) ++end;
    std::size_t start = i;
    i = end;
    // "IPv6:2001:db8::1", "IP:192.0.2.1", "...": tags and punctuation are not part of the literal.
    if (start >= 3 && text.substr(start, 2) == "6:" && smtp::iequals(text.substr(start - 3, 3), "IPv")) start += 2;
    while (start < end && (text[start] == '.' || (text[start] == ':' && text.substr(start, 2) != "::"))) ++start;
    std::string_view word = text.substr(start, end - start);
    while (!word.empty() && (word.back() == '.' || (word.back() == ':' && !word.ends_with("::")))) word.remove_suffix(1);
    // A literal inside a longer word (a host name, a queue id) is not an address of its own.
    if ((start > 0 && word_char(text[start - 1])) || (end < text.size() && word_char(text[end]))) continue;
    if (const auto address = IpAddress::parse(word)) {
      out.push_back(*address);
      continue;
    }
    // "192.0.2.1:25": an IPv4 literal with a tag before or a port behind it.
    while (!word.empty() && out.size() < 16) {
      const std::string_view piece = word.substr(0, word.find(':'));
      word.remove_prefix(std::min(word.size(), piece.size() + 1));
      if (const auto address = IpAddress::parse(piece)) out.push_back(*address);
    }
  }
  return out;
}

}  // namespace egret::routing
