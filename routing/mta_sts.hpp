// MTA Strict Transport Security (RFC 8461): what a domain's TXT record and policy file say, which mail exchangers a
// policy allows, and when a remembered policy is used, fetched again or done without.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "routing/types.hpp"

namespace egret::routing {

/// `testing` asks for reports, not for refusals: a breach is logged and the mail is delivered.
enum class StsMode { none, testing, enforce };
std::string_view to_string(StsMode mode);

/// A policy file (RFC 8461 section 3.2).
struct StsPolicy {
  StsMode mode = StsMode::none;
  std::chrono::seconds max_age{0};  ///< at most 31557600
  std::vector<std::string> mx;      ///< lower-case: "mx.example.com" or "*.example.com"
  bool operator==(const StsPolicy&) const = default;
};

/// Octets that a policy file may have.
inline constexpr std::size_t max_sts_policy_size = 64 * 1024;

/// The id in the TXT records of _mta-sts.DOMAIN (section 3.1). nullopt: no policy, also where several records claim
/// to be one or the only one is malformed.
std::optional<std::string> sts_record_id(std::span<const std::string> texts);

/// Parses a policy file. nullopt when it is none; `why` receives a text for logs, free of remote octets.
std::optional<StsPolicy> parse_sts_policy(std::string_view text, std::string* why = nullptr);

/// Whether the policy names `mx_host` (an A-label name without trailing dot, in any case). A wildcard stands for one
/// label (section 4.1).
bool mx_matches(const StsPolicy& policy, std::string_view mx_host);

/// A policy as it was fetched.
struct StsCached {
  StsPolicy policy;
  std::string id;  ///< of the TXT record that led to it
  Time fetched{};
  bool operator==(const StsCached&) const = default;
};

/// Whether the policy still holds.
bool sts_fresh(const StsCached& cached, Time now);

/// What the look-up of the TXT record brought. `failed` is a temporary error: nothing is known.
struct StsRecord {
  enum class Status { found, none, failed };
  Status status = Status::failed;
  std::string id;  ///< for found
};

/// Fetches that failed, in a row and for the same id.
struct StsFailures {
  std::string id;
  int count = 0;
  Time retry_at{};  ///< not before
};

/// One more failed fetch for `id`. The pause grows from 5 minutes to an hour; a new id starts anew (section 3.3).
void note_failure(StsFailures& failures, const std::string& id, Time now);

/// `fetch`: ask the policy host; if that fails, a cached policy that is still fresh is used, else there is none.
enum class StsAction { use_cached, fetch, none };

/// What to do for a domain (section 5.1). A fresh policy outlives a TXT record that is gone or cannot be asked for;
/// it is fetched again when the id changes, and once a day (or after half its life) so that it does not run out.
StsAction decide_sts(const StsCached* cached, const StsFailures& failures, const StsRecord& record, Time now);

/// Policies by domain as JSON text, and back; nullopt when the text is none of ours. A point in the future is read
/// as `now`: no clock that was once wrong makes a policy live longer.
std::string encode_sts(std::span<const std::pair<std::string, StsCached>> policies);
std::optional<std::vector<std::pair<std::string, StsCached>>> decode_sts(std::string_view text, Time now);

}  // namespace egret::routing
