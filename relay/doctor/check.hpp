// What one look at the outside world found, in words that are fit to print: remote text in it is cleaned and bounded here,
// at the one place where checks are made.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace egret::relay::doctor {

enum class Result { ok, warn, fail };
std::string_view to_string(Result result);

struct Check {
  std::string check;    ///< the kind: "dns", "source-ptr", "blocklist", "smarthost", "spf", ...
  std::string subject;  ///< "source a", "smarthost esp", "domain example.com"
  Result result = Result::ok;
  std::string text;    ///< what was found
  std::string advice;  ///< what to do; empty when all is well
};

/// Cleans and bounds all texts.
Check make_check(std::string kind, std::string subject, Result result, std::string text, std::string advice = {});

using Checks = std::vector<Check>;

}  // namespace egret::relay::doctor
