// What is looked at beforehand at a smarthost, so that the emergency is not the first test: its login, and whether sender
// domains are prepared there (keys `readiness`, `dkim_selectors`, `return_path` and `unready` of a smarthost).
#pragma once

#include <string>
#include <vector>

#include "routing/readiness.hpp"
#include "routing/types.hpp"

namespace egret::config {

struct Smarthost;

struct Readiness {
  bool check = true;                                   ///< by the running egret; `egret doctor` always looks
  bool login = true;                                   ///< the check logs in, too
  routing::Duration interval{std::chrono::hours(24)};  ///< between two checks of a domain, and between two logins
  routing::Duration retry{std::chrono::hours(1)};      ///< in place of it while something is wrong; not for logins
  std::vector<std::string> domains;                    ///< sender domains besides those of `dkim` and those seen; lower case
  bool allow_unready = false;                          ///< mail of domains that are not ready goes nevertheless
  routing::EspRecords records;
};

/// What holds for a smarthost, also for one that says nothing.
const Readiness& readiness_of(const Smarthost& host);

}  // namespace egret::config
