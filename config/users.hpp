// The users file: who may log in, and as what. One user a line, `name:HASH[:class=NAME][:rate=500/h]`; HASH is a crypt(3)
// string or a SCRAM-SHA-256 secret (smtp/scram.hpp); blank lines and lines that begin with '#' say nothing.
//
// Decides which hashes are good enough. No message repeats anything of a line but the name of a user whose hash was
// understood: what stands in a malformed line may be a password.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/problem.hpp"
#include "routing/budget.hpp"
#include "smtp/scram.hpp"

namespace egret::config {

struct User {
  std::string name;
  std::string crypt_hash;                  ///< empty if `scram` is there
  std::optional<smtp::ScramSecret> scram;  ///< can verify a password too
  std::string class_name;                  ///< empty: as if he had not logged in
  std::optional<routing::Budget> rate;     ///< recipients in each period, at least one
};

class Users {
 public:
  static constexpr std::size_t max_users = 100'000;
  static constexpr std::size_t max_file_size = 16 << 20;  ///< octets

  /// Exact, case and all; nullptr if there is no such user. Valid as long as this value.
  const User* find(std::string_view name) const;
  std::size_t size() const { return by_name_.size(); }
  /// The iteration count that most SCRAM secrets have, for challenges to unknown users; 0: nobody can use SCRAM.
  int scram_iterations() const;
  /// The hash (crypt(3) string or SCRAM secret) of one user, as a model for the time that a verification takes; empty
  /// if there is no user.
  std::string model_hash() const;

  /// False, and nothing changed, if the name is taken.
  bool add(const User& user);

 private:
  std::map<std::string, User, std::less<>> by_name_;
};

/// Reads the whole file and reports every problem, `file` naming it; what is reported is left out of the result.
Users read_users(std::string_view text, const std::string& file, const std::vector<std::string>& class_names, Problems& problems);

}  // namespace egret::config
