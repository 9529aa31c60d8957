#include "routing/message_class.hpp"

#include <re2/re2.h>

#include <algorithm>

#include "smtp/text.hpp"

namespace egret::routing {

struct MessageClassifier::Compiled {
  struct Rule {
    ClassRule spec;
    std::unique_ptr<RE2> pattern;  // null: no pattern
  };
  std::vector<Rule> rules;
  std::vector<std::string> classes;
};

MessageClassifier::MessageClassifier(std::vector<ClassRule> rules, std::vector<std::string> classes,
                                     std::vector<std::string>& problems)
    : compiled_(std::make_unique<Compiled>()) {
  compiled_->classes = std::move(classes);
  for (ClassRule& rule : rules) {
    std::unique_ptr<RE2> pattern;
    if (!rule.matches.empty()) {
      pattern = std::make_unique<RE2>(rule.matches, RE2::Quiet);
      if (!pattern->ok()) {
        problems.push_back("matches: " + pattern->error());
        continue;
      }
    }
    rule.header = smtp::lower(rule.header);
    compiled_->rules.push_back({std::move(rule), std::move(pattern)});
  }
}

MessageClassifier::~MessageClassifier() = default;
MessageClassifier::MessageClassifier(MessageClassifier&&) noexcept = default;
MessageClassifier& MessageClassifier::operator=(MessageClassifier&&) noexcept = default;

Classified MessageClassifier::classify(const MessageFacts& facts) const {
  Classified out;
  for (const auto& [rule, pattern] : compiled_->rules) {
    if (!rule.user.empty() && rule.user != facts.user) continue;
    if (!rule.sender_domain.empty() && !domain_matches(rule.sender_domain, facts.sender_domain)) continue;
    std::string_view value;
    if (!rule.header.empty()) {
      const auto fits = [&](const auto& header) {
        return header.first == rule.header && (!pattern || RE2::PartialMatch(header.second, *pattern));
      };
      const auto it = facts.headers ? std::ranges::find_if(*facts.headers, fits) : decltype(facts.headers->begin()){};
      if (!facts.headers || it == facts.headers->end()) continue;
      value = it->second;
    }
    if (!rule.from_value) {
      out.class_name = rule.class_name;
      return out;
    }
    const std::string_view name = smtp::trim(value);
    const auto known = std::ranges::find_if(compiled_->classes, [&](const std::string& c) { return smtp::iequals(c, name); });
    if (known == compiled_->classes.end())
      out.unknown_class = smtp::printable(name.substr(0, 64));
    else
      out.class_name = *known;
    return out;
  }
  return out;
}

std::vector<std::string> MessageClassifier::headers() const {
  std::vector<std::string> out;
  for (const auto& rule : compiled_->rules)
    if (!rule.spec.header.empty() && std::ranges::find(out, rule.spec.header) == out.end()) out.push_back(rule.spec.header);
  return out;
}

bool domain_matches(std::string_view pattern, std::string_view domain) {
  if (pattern.starts_with("*.")) {
    pattern.remove_prefix(1);
    return domain.size() > pattern.size() && smtp::iequals(domain.substr(domain.size() - pattern.size()), pattern);
  }
  return smtp::iequals(pattern, domain);
}

}  // namespace egret::routing
