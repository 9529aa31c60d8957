// The users file: whoever is taken can be written down and is read as the same; problems have a place and show nothing but
// names.
#include "config/users.hpp"

#include "smtp/sasl_server.hpp"
#include "smtp/text.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace egret::fuzz {
namespace {

using namespace config;

const std::vector<std::string> classes{"bulk", "transactional"};

std::string period(routing::Duration per) {
  if (per == std::chrono::seconds(1)) return "s";
  if (per == std::chrono::minutes(1)) return "m";
  if (per == std::chrono::hours(1)) return "h";
  return per == std::chrono::hours(24) ? "d" : "ms";
}

std::string written(const User& user) {
  std::string out = user.name + ':' + (user.scram ? smtp::to_string(*user.scram) : user.crypt_hash);
  if (!user.class_name.empty()) out += ":class=" + user.class_name;
  if (user.rate) out += ":rate=" + std::to_string(user.rate->recipients) + '/' + period(user.rate->per);
  return out;
}

void check(const User& user) {
  require(smtp::valid_username(user.name), "a name is one that can log in");
  require(user.crypt_hash.empty() == user.scram.has_value(), "a user has one hash");
  require(!user.rate || user.rate->recipients > 0, "a rate lets something through");
  Problems problems;
  // Not in the first line, where a byte order mark is no part of a name.
  const Users again = read_users('\n' + written(user), "users", classes, problems);
  const User* same = again.find(user.name);
  require(problems.empty() && same, "a user is taken as he was written");
  require(same->crypt_hash == user.crypt_hash && same->scram == user.scram && same->class_name == user.class_name &&
              same->rate.has_value() == user.rate.has_value(),
          "a user means the same when he was written again");
}

void check(const Problem& problem, int lines) {
  require(problem.file == "users" && problem.line <= lines && problem.column >= 0, "a problem has a place");
  require(problem.key.empty() || smtp::valid_username(problem.key), "what a problem names is a user");
  require(one_line(problem.text) && problem.text.size() < 200, "what a problem says is ours");
}

}  // namespace
}  // namespace egret::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace egret;
  using fuzz::require;
  const std::string text(reinterpret_cast<const char*>(data), size);
  config::Problems problems;
  const config::Users users = config::read_users(text, "users", fuzz::classes, problems);
  require(problems.size() <= 101, "problems are bounded");
  int lines = 0;
  std::size_t found = 0;
  std::string_view rest = text;
  if (rest.starts_with("\xEF\xBB\xBF")) rest.remove_prefix(3);
  while (!rest.empty()) {
    ++lines;
    const std::string_view line = smtp::trim(fuzz::next_line(rest));
    const auto* user = users.find(line.substr(0, line.find(':')));
    if (user) fuzz::check(*user);
    found += user != nullptr;
  }
  require(found >= users.size(), "every user stands in the file");
  for (const auto& problem : problems) fuzz::check(problem, lines);
  require((users.size() == 0) == users.model_hash().empty(), "there is a model hash if there is a user");
  return 0;
}
