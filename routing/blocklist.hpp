// DNS blocklists (RFC 5782): query names, what an answer means, and whether a list can be believed.
//
// An answer is a listing only when the list's own definition says so. Timeouts, SERVFAIL, refusals, 127.255.255.x,
// addresses outside 127.0.0.0/8 and undefined codes are "unknown": they neither list nor delist.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "routing/address.hpp"
#include "routing/types.hpp"

namespace egret::routing {

enum class CodeMeaning { listed, policy, info, error };
std::optional<CodeMeaning> parse_code_meaning(std::string_view name);

/// A list that ceased to exist. Refused by name, because dead zones come back as wildcards.
struct DeadZone {
  std::string zone;
  std::string since;
  std::string reason;
};

/// `count` queries in each `per`.
struct QueryRate {
  std::uint64_t count = 0;
  Duration per{std::chrono::seconds(1)};
};

struct Blocklist {
  std::string name;
  std::string zone;         ///< with the key inside, where the list needs one: a secret then
  bool keyed = false;       ///< the zone holds a key: never shown
  std::string public_zone;  ///< what may be shown instead
  std::string key;          ///< the secret in it
  bool names = false;       ///< holds domains or hashes: known for what replies say, never asked about an address
  bool enabled = true;
  std::string disabled_reason;  ///< e.g. "needs a key"
  bool ipv4 = true;
  bool ipv6 = false;
  bool bitmask = false;  ///< the last octet is a set of bits
  std::map<IpAddress, CodeMeaning> codes;
  double weight = 1.0;
  bool inform_only = false;                                            ///< reported, never routes
  bool observe = false;                                                ///< never routes; what it would have done is reported
  std::optional<IpAddress> test_listed = IpAddress::v4(127, 0, 0, 2);  ///< RFC 5782 section 5
  std::optional<IpAddress> test_clean = IpAddress::v4(127, 0, 0, 1);
  Duration settle{0};                 ///< how long it must be gone before the source returns
  std::optional<Duration> interval;   ///< own check interval
  std::optional<QueryRate> queries;   ///< as many as it allows us
  std::vector<std::string> concerns;  ///< providers; empty: all
  std::string delist;                 ///< where to ask for removal

  bool concerns_provider(std::string_view provider) const;
  /// Whether a listing by it counts for anything.
  bool enforced() const { return !inform_only && !observe; }
};

/// The name to ask for: "4.3.2.1.zone" or 32 nibbles, without a trailing dot. A mapped IPv4 address is asked for as
/// IPv4.
std::string query_name(const IpAddress& address, std::string_view zone);

/// Remote text that may quote the name that was asked for, without the key in it.
std::string without_key(std::string text, const Blocklist& list);

/// What the resolver said to an A query.
struct DnsAnswer {
  enum class Status { answer, nxdomain, nodata, failed };
  Status status = Status::failed;
  std::vector<IpAddress> addresses;
  std::string error;  ///< for `failed`: "SERVFAIL", "timeout", ...
};

struct Judgement {
  enum class Result { listed, clean, unknown };
  Result result = Result::unknown;
  bool policy = false;             ///< every listing code is a policy statement about the range
  std::vector<std::string> codes;  ///< listing codes, text form, sorted
  std::string reason;              ///< why it is unknown
};

Judgement judge(const DnsAnswer& answer, const Blocklist& list);

/// What the three health probes of a list said (RFC 5782 section 5, and a random label against wildcards).
struct HealthProbe {
  DnsAnswer listed;  ///< for the point that must be there
  DnsAnswer clean;   ///< for the point that must not
  DnsAnswer random;  ///< for a name that nobody listed
};

struct Health {
  bool in_service = false;
  bool answered = false;  ///< at least one probe got an answer: the list, not DNS, is to blame
  std::string reason;
};
Health judge_health(const HealthProbe& probe, const Blocklist& list);

/// The list whose zone a receiver's reply names, or null: how an operator's own lists are recognised.
const Blocklist* named_in(std::string_view reply, const std::map<std::string, Blocklist, std::less<>>& lists);

/// The dead zone that `zone` is or lies below, or null.
const DeadZone* find_dead(const std::vector<DeadZone>& dead, std::string_view zone);

}  // namespace egret::routing
