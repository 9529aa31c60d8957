#include "config/users.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "config/units.hpp"
#include "smtp/sasl_server.hpp"
#include "smtp/text.hpp"

namespace egret::config {
namespace {

constexpr std::size_t max_problems = 100;
constexpr std::string_view scram_prefix = "SCRAM-SHA-256$";
constexpr std::string_view crypt_alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A crypt(3) method that is strong enough. In all of them the digest stands behind the last '$'.
struct Method {
  std::string_view prefix;
  std::size_t digest;  ///< characters behind the last '$'; bcrypt's begin with 22 of salt
  int parts;           ///< parameters and salts between prefix and digest, at least
};
constexpr std::array<Method, 7> methods{
    {{"$y$", 43, 2}, {"$gy$", 43, 2}, {"$7$", 43, 1}, {"$6$", 86, 1}, {"$5$", 43, 1}, {"$2b$", 53, 1}, {"$2y$", 53, 1}}};

/// Whether `rest`, what follows the prefix, is made of non-empty parts and ends in a digest of the right length.
bool complete_hash(std::string_view rest, const Method& method) {
  const auto printable_ascii = [](char c) {
    return c > 0x20 && c < 0x7F && std::string_view(":;*!\\").find(c) == std::string_view::npos;
  };
  const std::size_t last = rest.rfind('$');
  if (last == std::string_view::npos || !std::ranges::all_of(rest, printable_ascii)) return false;
  const std::string_view digest = rest.substr(last + 1), before = rest.substr(0, last);
  if (before.empty() || before.front() == '$' || before.back() == '$') return false;
  if (std::ranges::count(before, '$') + 1 < method.parts) return false;
  if (method.prefix.starts_with("$2") && before.size() != 2) return false;  // bcrypt's cost
  return digest.size() == method.digest && digest.find_first_not_of(crypt_alphabet) == std::string_view::npos;
}

/// What is wrong with a crypt(3) string; empty: nothing.
std::string_view hash_problem(std::string_view hash) {
  if (hash.empty()) return "the hash is missing";
  for (const Method& method : methods)
    if (hash.starts_with(method.prefix))
      return complete_hash(hash.substr(method.prefix.size()), method) ? "" : "the hash is damaged or cut short";
  if (hash.starts_with("$1$") || hash.starts_with("$apr1$")) return "MD5 hashes are too weak; make a yescrypt hash ($y$...)";
  if (hash.starts_with('!') || hash.starts_with('*')) return "a locked hash; remove the line or turn it into a comment";
  if (hash.starts_with('$'))
    return "this kind of hash is not taken; expected $y$, $gy$, $7$, $6$, $5$, $2b$, $2y$ or SCRAM-SHA-256$";
  return "not a hash that is taken (plain text and DES are refused); expected e.g. $y$... or SCRAM-SHA-256$...";
}

class Reader {
 public:
  Reader(const std::string& file, const std::vector<std::string>& class_names, Problems& problems)
      : file_(file), class_names_(class_names), problems_(problems) {}

  Users read(std::string_view text) {
    if (text.size() > Users::max_file_size) {
      report("the file is larger than 16 MB", {});
      return {};
    }
    // Some editors begin a file with a byte order mark, which would become part of the first name.
    if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
    while (!text.empty() && !full_) {
      const std::string_view whole = text.substr(0, text.find('\n'));
      text.remove_prefix(std::min(text.size(), whole.size() + 1));
      ++line_number_;
      line_ = whole;
      const std::string_view content = smtp::trim(whole);
      if (!content.empty() && content.front() != '#') line(content);
    }
    return std::move(users_);
  }

 private:
  void line(std::string_view text) {
    if (users_.size() == Users::max_users) {
      report("more than 100000 users", text);
      full_ = true;
      return;
    }
    const std::size_t colon = text.find(':');
    if (colon == std::string_view::npos) return report("expected name:HASH[:class=NAME][:rate=500/h]", text);
    User user;
    const std::string_view name = text.substr(0, colon);
    if (!smtp::valid_username(name) || smtp::trim(name) != name)
      return report("a name has 1 to 255 octets of UTF-8, no control characters and no blanks at its ends", text);
    std::string_view rest = text.substr(colon + 1);
    // Two colons in a SCRAM secret are its own.
    std::size_t end = rest.find(':');
    for (int i = 0; i < 2 && rest.starts_with(scram_prefix) && end != std::string_view::npos; ++i) end = rest.find(':', end + 1);
    if (!hash(rest.substr(0, end), user)) return;
    user.name = name;
    bool class_seen = false;
    while (end != std::string_view::npos) {
      rest.remove_prefix(end + 1);
      end = rest.find(':');
      if (!attribute(rest.substr(0, end), user, class_seen)) return;
    }
    if (!users_.add(user)) report("there is a user of this name already", text, name);
  }

  bool hash(std::string_view text, User& user) {
    if (text.starts_with(scram_prefix)) {
      user.scram = smtp::parse_scram_secret(text);
      if (!user.scram) report("expected SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY with 4096 to 1000000 iterations", text);
      return user.scram.has_value();
    }
    user.crypt_hash = text;
    const std::string_view problem = hash_problem(text);
    if (!problem.empty()) report(problem, text);
    return problem.empty();
  }

  bool attribute(std::string_view text, User& user, bool& class_seen) {
    const auto wrong = [&](std::string_view what) {
      report(what, text, user.name);
      return false;
    };
    const std::string_view value = text.substr(text.find('=') + 1);
    if (text.starts_with("class=")) {
      if (class_seen) return wrong("class is given twice");
      class_seen = true;
      if (std::ranges::find(class_names_, value) == class_names_.end()) return wrong("no class has this name");
      user.class_name = value;
      return true;
    }
    if (text.starts_with("rate=")) {
      if (user.rate) return wrong("rate is given twice");
      user.rate = parse_budget(value);
      if (!user.rate || user.rate->recipients == 0) return wrong("expected recipients in a period, e.g. 500/h");
      return true;
    }
    return wrong("unknown attribute; there are class=NAME and rate=500/h");
  }

  /// `at` is a part of the current line, or empty for the file as a whole.
  void report(std::string_view what, std::string_view at, std::string_view name = {}) {
    if (reported_++ == max_problems) {
      problems_.push_back({file_, line_number_, 1, "", "more problems are not shown"});
      full_ = true;
      return;
    }
    const int column = line_number_ == 0 ? 0 : static_cast<int>(at.data() - line_.data()) + 1;
    problems_.push_back({file_, line_number_, column, std::string(name), std::string(what)});
  }

  const std::string& file_;
  const std::vector<std::string>& class_names_;
  Problems& problems_;
  Users users_;
  std::string_view line_;
  int line_number_ = 0;
  std::size_t reported_ = 0;
  bool full_ = false;  // the rest of the file is not read
};

}  // namespace

const User* Users::find(std::string_view name) const {
  const auto at = by_name_.find(name);
  return at == by_name_.end() ? nullptr : &at->second;
}

int Users::scram_iterations() const {
  std::map<int, std::size_t> counts;
  for (const auto& [name, user] : by_name_)
    if (user.scram) ++counts[user.scram->iterations];
  const auto less = [](const auto& a, const auto& b) { return a.second < b.second; };
  return counts.empty() ? 0 : std::ranges::max_element(counts, less)->first;
}

std::string Users::model_hash() const {
  if (by_name_.empty()) return {};
  const User& user = by_name_.begin()->second;
  return user.scram ? smtp::to_string(*user.scram) : user.crypt_hash;
}

bool Users::add(const User& user) {
  return by_name_.try_emplace(user.name, user).second;
}

Users read_users(std::string_view text, const std::string& file, const std::vector<std::string>& class_names,
                 Problems& problems) {
  return Reader(file, class_names, problems).read(text);
}

}  // namespace egret::config
