// The traffic class of a message: the first rule that fits decides (design: `classify`).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace egret::routing {

/// One rule; every condition that is set must hold.
struct ClassRule {
  std::string user;           ///< the authenticated user
  std::string header;         ///< present, and matching `matches` where that is set
  std::string matches;        ///< RE2, searched in the header's value
  std::string sender_domain;  ///< the domain itself, or "*.example.com" for those below it
  std::string class_name;
  bool from_value = false;  ///< the header's value names the class
};

struct MessageFacts {
  std::string_view user;
  std::string_view sender_domain;
  const std::vector<std::pair<std::string, std::string>>* headers = nullptr;  ///< lower-case names
};

struct Classified {
  std::optional<std::string> class_name;  ///< none: the listener's class
  std::string unknown_class;              ///< a header named a class that does not exist
};

class MessageClassifier {
 public:
  /// `classes` are the names that exist. Bad patterns are added to `problems` and never match.
  MessageClassifier(std::vector<ClassRule> rules, std::vector<std::string> classes, std::vector<std::string>& problems);
  ~MessageClassifier();
  MessageClassifier(MessageClassifier&&) noexcept;
  MessageClassifier& operator=(MessageClassifier&&) noexcept;

  Classified classify(const MessageFacts& facts) const;
  /// Lower-case names of the header fields that the rules look at.
  std::vector<std::string> headers() const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

/// True when `domain` is `pattern`, or lies below it where the pattern starts with "*.".
bool domain_matches(std::string_view pattern, std::string_view domain);

}  // namespace egret::routing
