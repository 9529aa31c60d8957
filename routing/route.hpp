// The route: which egresses may take a message to a site, in which order, and why every other one may not.
//
// route() is a pure function. It reads no clock, draws no random number and takes no lock: the same inputs give the
// same route and the same explanation, which is what the log, `egret explain` and the tests all show.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "routing/account.hpp"
#include "routing/address.hpp"
#include "routing/standing.hpp"
#include "routing/types.hpp"

namespace egret::routing {

enum class EgressKind { source, smarthost };

/// An egress by its index in the topology.
struct EgressRef {
  EgressKind kind = EgressKind::source;
  std::uint32_t index = 0;
  auto operator<=>(const EgressRef&) const = default;
};

enum class WhenExhausted { fallback, hold, send_anyway };

struct SourceInfo {
  std::string name;
  IpAddress address;     ///< bound to
  IpAddress reputation;  ///< asked about: `public` behind NAT, else the address
  std::string ehlo;
  double weight = 1.0;
  bool shared = false;
  bool removed = false;  ///< of an earlier configuration: nothing new goes by it
};

struct PoolInfo {
  std::string name;
  std::vector<std::uint32_t> sources;
  std::vector<std::uint32_t> fallback;
  WhenExhausted when_exhausted = WhenExhausted::hold;
  double canary = 0;     ///< share of its mail that goes by each smarthost of `fallback` while the sources are in service
  bool removed = false;  ///< of an earlier configuration
};

/// What can be routed through: indices are stable for one configuration.
struct Topology {
  std::vector<SourceInfo> sources;
  std::vector<std::string> smarthosts;  ///< names
  std::vector<PoolInfo> pools;
  bool observe = false;
  int returning = 1;  ///< sources of a pool that may be in trial with one provider at once; the others wait their turn

  const std::string& name(EgressRef egress) const {
    return egress.kind == EgressKind::source ? sources[egress.index].name : smarthosts[egress.index];
  }
  /// The source that is called so now.
  std::optional<std::uint32_t> source_named(std::string_view name) const;
};

/// The standings of one source: its own, and those that differ for a provider.
struct SourceSnapshot {
  StandingView standing;
  std::map<std::string, StandingView, std::less<>> providers;

  const StandingView& with(std::string_view provider) const {
    const auto it = providers.find(provider);
    return it == providers.end() ? standing : it->second;
  }
};

struct SmarthostSnapshot {
  std::optional<Time> resting_until;
  std::string reason;
  std::shared_ptr<const RefusedSenders> senders = nullptr;  ///< null: none
  std::shared_ptr<const RefusedSenders> unready = nullptr;  ///< sender domains that are not prepared there; null: none
  bool unready_allowed = false;                             ///< their mail goes nevertheless, and the route says so
};
/// Why mail of this sender's domain does not go by the smarthost ("is refused", "is not ready"), where it does not.
const RefusedSender* find_barred(const SmarthostSnapshot& host, std::string_view domain, Time now);

/// What the owner of the standings last published. Immutable; shared between workers.
struct Snapshot {
  std::uint64_t version = 0;
  std::vector<SourceSnapshot> sources;
  std::vector<SmarthostSnapshot> smarthosts;
};

/// Egresses that a message may not take now for reasons of its own.
struct Excluded {
  EgressRef egress;
  std::string reason;
  std::optional<Time> until;
};

struct Request {
  std::uint32_t pool = 0;
  std::string_view site;
  std::string_view provider;
  std::optional<std::string_view> sender = {};  ///< domain of the envelope sender, "" for the null one; none: not known
  bool ipv4 = true;                             ///< the site can be reached by this family
  bool ipv6 = true;
  std::vector<Excluded> excluded;            ///< tried in this round, trial taken, budget used up, ...
  std::optional<std::uint32_t> only_source;  ///< greylisting, ambiguous outcome, content: this source and no other
  std::optional<std::uint32_t> only_smarthost;
  bool no_fallback = false;  ///< smarthosts are out of the question for this message
};

struct Candidate {
  EgressRef egress;
  double share = 0;  ///< 0 to 1: its part of the pool's mail for this provider
};

struct Rejected {
  EgressRef egress;
  std::string reason;
  std::optional<Time> until;
};

struct Hold {
  std::string reason;
  std::optional<Time> until;
};

struct Route {
  std::vector<Candidate> candidates;  ///< in the order in which they are to be tried
  std::vector<Rejected> rejected;
  std::optional<Hold> hold;  ///< set when there is no candidate
  /// The first candidate is a smarthost that is not needed: a small share of real mail shows that it works. The sources follow.
  bool canary = false;
  std::vector<std::string> notes = {};  ///< what else whoever asks why should know
};

/// Decides. `tie_break` is any number drawn by the caller for this decision.
Route route(const Topology& topology, const Snapshot& snapshot, const Request& request, Time now, std::uint64_t tie_break);

/// One line: "out1; not out2: listed by zen 127.0.0.2". For the log and the history.
std::string explain(const Route& route, const Topology& topology);

}  // namespace egret::routing
