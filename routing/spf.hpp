// Whether a domain's SPF record lets an address send in its name (RFC 7208, check_host()).
//
// Receivers decide that; we ask the same question beforehand, so that an operator learns of a source that is missing in a
// record before a receiver does. The evaluation is a function of answers that are already known: what it lacks it names, the
// caller asks DNS and calls again. Limits of section 4.6.4 keep that short: ten terms that look something up, ten hosts of an
// mx, two lookups that find nothing. `ptr` never matches (section 5.5: do not use), and counts as a lookup.
#pragma once

#include <compare>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "routing/address.hpp"
#include "routing/blocklist.hpp"

namespace egret::routing {

/// RFC 7208 section 2.6.
enum class SpfResult { none, neutral, pass, fail, softfail, temperror, permerror };
std::string_view to_string(SpfResult result);

struct SpfQuestion {
  enum class Type { txt, a, aaaa, mx };
  std::string name;  ///< lower-case, without a trailing dot
  Type type = Type::txt;
  auto operator<=>(const SpfQuestion&) const = default;
};

struct SpfAnswer {
  DnsAnswer::Status status = DnsAnswer::Status::failed;
  std::vector<IpAddress> addresses;  ///< a, aaaa
  std::vector<std::string> texts;    ///< txt: the strings of each record joined
  std::vector<std::string> hosts;    ///< mx: lower-case; "" is a null MX
};

using SpfAnswers = std::map<SpfQuestion, SpfAnswer>;

/// Who sends what from where.
struct SpfSender {
  IpAddress address;
  std::string local = "postmaster";  ///< local part of the envelope sender (section 4.3)
  std::string domain;                ///< of the envelope sender
  std::string helo;
};

struct SpfOutcome {
  SpfResult result = SpfResult::none;
  std::string term;    ///< that decided, as it stands in the record: remote text
  std::string record;  ///< the domain whose record that term is in
  std::string reason;  ///< why there is no answer: of none, temperror and permerror; may quote remote text
  int lookups = 0;     ///< terms that looked something up, of ten
  /// What DNS has to be asked before there is a result; the rest says nothing then.
  std::optional<SpfQuestion> needs;
};

SpfOutcome check_spf(const SpfSender& sender, const SpfAnswers& answers);

/// Whether the record of a domain includes another one, itself or by what it includes. Targets with macros are passed over.
struct SpfInclusion {
  bool found = false;
  std::optional<SpfQuestion> needs;
};
SpfInclusion spf_includes(std::string_view domain, std::string_view target, const SpfAnswers& answers);

/// Expands the macros of a domain-spec (section 7); nullopt when its syntax is broken. `domain` is the one whose record it is
/// in. %{p} is "unknown", as section 7.3 advises.
std::optional<std::string> expand_spf(std::string_view spec, const SpfSender& sender, std::string_view domain);

}  // namespace egret::routing
