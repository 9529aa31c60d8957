// A YAML document as a plain tree with places, so that only one file needs the YAML library, and Section, which reads
// a mapping key by key and reports whatever it does not know.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "config/problem.hpp"
#include "config/units.hpp"
#include "routing/types.hpp"

namespace egret::config {

struct Tree {
  enum class Kind { null, scalar, sequence, mapping };
  Kind kind = Kind::null;
  std::string scalar;
  std::vector<Tree> items;        ///< of a sequence, or a mapping's values in order
  std::vector<std::string> keys;  ///< of a mapping, parallel to items
  int line = 0;                   ///< of the value
  int column = 0;
  int key_line = 0;  ///< of the key that it is the value of
  int key_column = 0;

  const Tree* find(std::string_view key) const;
};

/// Looks up what `${NAME}` stands for: the value, or nullopt.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;

/// Parses YAML text. Syntax errors and keys that stand twice become problems.
Tree parse_yaml(std::string_view text, const std::string& file, Problems& problems);

/// Replaces ${NAME} and ${file:PATH} in every scalar; a missing one is a problem that names the key.
void expand(Tree& tree, const std::string& file, const std::string& key, const Environment& environment, Problems& problems);

/// One mapping being read. The destructor does nothing: call finish() to report unknown keys.
class Section {
 public:
  /// `tree` may be null (the section is absent): every getter then leaves its target alone.
  Section(const Tree* tree, std::string key, const std::string& file, Problems& problems);

  bool present() const { return tree_ != nullptr; }
  const Tree* take(std::string_view key);  ///< the raw value, marked as known
  Section section(std::string_view key);
  /// Reports that `key` of the contract is not available in this version, if it is there.
  void unavailable(std::string_view key, std::string_view why = "");

  void text(std::string_view key, std::string& out);
  void required_text(std::string_view key, std::string& out);
  void boolean(std::string_view key, bool& out);
  void integer(std::string_view key, int& out, int least, int most);
  void number(std::string_view key, double& out, double least, double most);
  void duration(std::string_view key, routing::Duration& out);
  void size(std::string_view key, std::uint64_t& out);
  void texts(std::string_view key, std::vector<std::string>& out);
  /// Calls `each` with the section of every item (sequence of mappings).
  void sections(std::string_view key, const std::function<void(Section&)>& each);
  /// Calls `each(name, section)` for every entry (mapping of mappings).
  void named(std::string_view key, const std::function<void(const std::string&, Section&)>& each);

  void problem(std::string_view key, std::string text);  ///< at the key's value, or the section
  void problem_at(const Tree& where, std::string_view key, std::string text);
  const std::string& key() const { return key_; }
  std::string path(std::string_view key) const;
  void finish();

 private:
  const std::string* scalar(std::string_view key);

  const Tree* tree_;
  const Tree* place_ = nullptr;
  std::string key_;
  const std::string* file_;
  Problems* problems_;
  std::set<std::string, std::less<>> known_;
};

}  // namespace egret::config
