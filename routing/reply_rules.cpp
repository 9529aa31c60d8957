#include "routing/reply_rules.hpp"

#include <re2/filtered_re2.h>
#include <re2/re2.h>
#include <re2/set.h>

#include <algorithm>
#include <cctype>
#include <set>

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

bool code_holds(const std::vector<std::string>& wanted, int code) {
  if (wanted.empty()) return true;
  const std::string digits = std::to_string(code);
  return std::ranges::any_of(
      wanted, [&](const std::string& w) { return w == digits || (w.size() == 3 && w.ends_with("xx") && w[0] == digits[0]); });
}

bool enhanced_holds(const std::vector<std::string>& wanted, const std::optional<smtp::EnhancedCode>& code) {
  if (wanted.empty()) return true;
  if (!code) return false;
  const auto part = [](std::string_view& text) {
    const std::size_t dot = text.find('.');
    const std::string_view out = text.substr(0, dot);
    text.remove_prefix(dot == std::string_view::npos ? text.size() : dot + 1);
    return out;
  };
  const auto holds = [](std::string_view pattern, int value) { return pattern == "x" || pattern == std::to_string(value); };
  return std::ranges::any_of(wanted, [&](std::string_view w) {
    const auto klass = part(w), subject = part(w), detail = part(w);
    return holds(klass, code->klass) && holds(subject, code->subject) && holds(detail, code->detail);
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
  std::vector<ReplyRule> rules;                 // by priority
  std::vector<std::unique_ptr<RE2>> not_match;  // parallel to rules; null: no such condition
  std::vector<int> pattern_of_rule;             // parallel to rules: index in `patterns`, -1 without one
  std::vector<std::size_t> rule_of_pattern;
  std::vector<std::size_t> unconditional_text;  // rules without a match pattern
  // A text is searched once for the literal strings (atoms) that patterns cannot match without; only the patterns
  // whose atoms are there are tried. One automaton of all patterns would be too large to build lazily: milliseconds
  // for every reply unlike those before.
  re2::FilteredRE2 patterns{4};
  std::unique_ptr<RE2::Set> atoms;

  bool holds(std::size_t i, const smtp::ReplyText& reply, const ReplyContext& context, NamedAddress& named) const {
    const ReplyRule& rule = rules[i];
    if (!code_holds(rule.codes, reply.code) || !enhanced_holds(rule.enhanced, reply.enhanced)) return false;
    if (!rule.phases.empty() && (!context.phase || std::ranges::find(rule.phases, *context.phase) == rule.phases.end()))
      return false;
    if (!rule.providers.empty() && std::ranges::find(rule.providers, context.provider) == rule.providers.end()) return false;
    if (const int id = pattern_of_rule[i]; id >= 0 && !RE2::PartialMatch(reply.text, patterns.GetRE2(id))) return false;
    if (!named.holds(rule.ip)) return false;
    return !not_match[i] || !RE2::PartialMatch(reply.text, *not_match[i]);
  }

  Verdict verdict(std::size_t i) const {
    const ReplyRule& rule = rules[i];
    return {rule.label, rule.name, rule.blocklist, rule.delist, rule.confidence};
  }

  /// Indices of the rules that can match this text, in order of priority.
  std::vector<std::size_t> possible(const std::string& text) const {
    std::vector<int> present, found;
    atoms->Match(smtp::lower(text), &present);
    patterns.AllPotentials(present, &found);
    std::vector<std::size_t> out(unconditional_text);
    for (const int pattern : found) out.push_back(rule_of_pattern[static_cast<std::size_t>(pattern)]);
    std::ranges::sort(out);
    return out;
  }
};

ReplyRules::ReplyRules(std::vector<ReplyRule> rules, std::vector<std::string>& problems)
    : compiled_(std::make_unique<Compiled>()) {
  std::ranges::stable_sort(rules, {}, &ReplyRule::priority);
  Compiled& c = *compiled_;
  std::set<std::string, std::less<>> names;
  for (ReplyRule& rule : rules) {
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
    std::unique_ptr<RE2> negative;
    if (!rule.not_match.empty()) {
      negative = std::make_unique<RE2>(rule.not_match, pattern_options());
      if (!negative->ok()) {
        problem("not: " + negative->error());
        continue;
      }
    }
    if (rule.match.empty()) {
      c.unconditional_text.push_back(c.rules.size());
      c.pattern_of_rule.push_back(-1);
    } else {
      int id = 0;
      if (const auto code = c.patterns.Add(rule.match, pattern_options(), &id); code != RE2::NoError) {
        problem("match: " + RE2(rule.match, pattern_options()).error());
        continue;
      }
      c.pattern_of_rule.push_back(id);
      c.rule_of_pattern.push_back(c.rules.size());
    }
    c.not_match.push_back(std::move(negative));
    c.rules.push_back(std::move(rule));
  }
  std::vector<std::string> atoms;
  c.patterns.Compile(&atoms);
  RE2::Options literal;
  literal.set_literal(true);
  literal.set_max_mem(64 << 20);
  c.atoms = std::make_unique<RE2::Set>(literal, RE2::UNANCHORED);
  for (const auto& atom : atoms) c.atoms->Add(atom, nullptr);
  if (!c.atoms->Compile()) problems.push_back("reply rules: patterns need too much memory together");
}

ReplyRules::~ReplyRules() = default;
ReplyRules::ReplyRules(ReplyRules&&) noexcept = default;
ReplyRules& ReplyRules::operator=(ReplyRules&&) noexcept = default;

const std::vector<ReplyRule>& ReplyRules::rules() const {
  return compiled_->rules;
}

Verdict ReplyRules::classify(const smtp::ReplyText& reply, const ReplyContext& context) const {
  NamedAddress named(reply.text, context.egress);
  for (const std::size_t i : compiled_->possible(reply.text))
    if (compiled_->holds(i, reply, context, named)) return compiled_->verdict(i);
  // Nothing known: the first digit decides (RFC 5321 section 4.2.1).
  Verdict out;
  out.label = reply.code >= 400 && reply.code < 500 ? Label::temporary : Label::other;
  return out;
}

std::vector<Verdict> ReplyRules::candidates(const smtp::ReplyText& reply, const ReplyContext& context) const {
  std::vector<Verdict> out;
  NamedAddress named(reply.text, context.egress);
  for (const std::size_t i : compiled_->possible(reply.text))
    if (compiled_->holds(i, reply, context, named)) out.push_back(compiled_->verdict(i));
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
