// Standings: what all evidence about a source adds up to, per provider, and how a source comes back.
//
// fold() is the only thing that changes a SourceState. Every change of a standing is returned as a Transition that
// says what was seen and which rule decided, so that log, API and alerts cannot drift from what really happened. What a
// single message's refusals did can be taken back (Withdrawn): a poison message must not burn every source.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "routing/account.hpp"
#include "routing/blocklist.hpp"
#include "routing/types.hpp"

namespace egret::routing {

struct StandingPolicy {
  bool observe = false;  ///< decide and report everything, enforce nothing
  Duration interval{std::chrono::minutes(5)};
  double threshold = 1.0;
  int confirm = 2;  ///< consecutive checks that must agree, both ways
  Duration confirm_interval{std::chrono::seconds(30)};
  Duration cooldown_first{std::chrono::minutes(15)};
  Duration cooldown_max{std::chrono::hours(24)};
  std::vector<double> warmup{0.10, 0.25, 0.50, 1.0};  ///< shares of the full weight
  Duration warmup_step{std::chrono::hours(1)};        ///< time on each
  int trial_successes = 3;                            ///< deliveries that end a trial
  /// Recipients a day that a returning source may have with one provider, on each step of the warm-up; steps beyond the
  /// last entry have no cap.
  std::vector<std::uint64_t> warmup_caps{};
};

/// The lists by name, as configured.
using Blocklists = std::map<std::string, Blocklist, std::less<>>;

/// One (source, blocklist) fact.
struct Listing {
  std::vector<std::string> codes;
  std::string text;  ///< the list's TXT, cleaned
  Time first_seen{};
  Time last_seen{};
  bool policy = false;
  bool confirmed = false;  ///< counts towards the score
  int listed_in_a_row = 0;
  int clean_in_a_row = 0;
  std::optional<Time> clean_since;
  bool on_word = false;  ///< confirmed by fewer checks than must agree, because a receiver named the list
};

/// A receiver's reply that named a list.
struct Vouch {
  std::string blocklist;
  std::string provider;
  std::uint64_t message = 0;
  Time at{};
  bool operator==(const Vouch&) const = default;
};

/// The way back into service.
struct Ramp {
  enum class Phase { none, trial, warming };
  Phase phase = Phase::none;
  std::size_t step = 0;  ///< index into warmup
  Time since{};
  int successes = 0;
};

/// One block by a provider: the refusals that it rests on, and what was before it, so that it can be taken back.
struct Block {
  struct Refusal {
    std::uint64_t message = 0;
    Time at{};
    double jitter = 0;
    bool config_fault = false;
    bool operator==(const Refusal&) const = default;
  };
  std::vector<Refusal> refusals;  ///< one for each message, the first of them the oldest; at most eight
  bool firm = false;              ///< and more than are kept
  int strikes = 0;                ///< this and the rest: as it was before
  Time last_block{};
  Time calm_since{};
  std::string reason;
  Ramp ramp;
};

/// What is particular to one provider.
struct ProviderState {
  std::optional<Time> blocked_until;
  bool config_fault = false;  ///< the block was about PTR, FCrDNS or EHLO
  int strikes = 0;            ///< repetitions; double the cool-down; one is forgotten for each `cooldown_max` without a block
  Time last_block{};
  std::string reason;
  Ramp ramp;
  double throttle = 1.0;  ///< factor on connections, 1 when not throttled
  Time throttled_at{};
  bool drained = false;
  Time calm_since{};                   ///< no block since; moved on as strikes are forgotten
  std::optional<Time> observed_until;  ///< a rule that only observes would have blocked it until then
  std::vector<Block> blocks;           ///< the last few, oldest first
};

struct SourceState {
  std::map<std::string, Listing, std::less<>> listings;
  std::map<std::string, ProviderState, std::less<>> providers;
  std::vector<Vouch> vouched;  ///< lists that receivers named lately, oldest first
  Ramp ramp;
  bool checked = false;  ///< a list has given a conclusive answer
  bool drained = false;
  std::optional<Time> resting_until;  ///< the address or its proxy does not work
  int rests = 0;
  std::string rest_reason;
};

// Evidence.
struct ListChecked {
  std::string blocklist;
  Judgement judgement;
  std::string text;  ///< the TXT record, where listed
};
struct ListWithdrawn {  ///< out of service for an interval: its listings stop counting
  std::string blocklist;
};
struct Refused {  ///< a receiver's reply that blames the egress
  std::string provider;
  Label label = Label::ip_blocked;
  std::string blocklist;  ///< named in the reply, or empty
  std::string rule;
  std::string text;
  std::uint64_t message = 0;  ///< whose refusal it is; 0: unknown, never taken back
  double jitter = 0;          ///< 0 to 1, drawn outside: sources that are blocked together do not return together
  bool observe = false;       ///< by a rule that only observes: reported, changes nothing
};
/// A message was found to be poison: what its refusals by this provider did to the source is taken back (block, strikes,
/// way back, named lists), as far as no other message's refusals support it. Throttling stays: it is no verdict on the
/// message.
struct Withdrawn {
  std::string provider;
  std::uint64_t message = 0;
};
struct Delivered {
  std::string provider;
};
struct SourceFault {  ///< EADDRNOTAVAIL and the like
  std::string reason;
};
struct SourceWorks {};
struct Drain {
  std::string provider;  ///< empty: all
};
struct Resume {
  std::string provider;
};
struct Tick {};  ///< time has passed
using Evidence =
    std::variant<ListChecked, ListWithdrawn, Refused, Withdrawn, Delivered, SourceFault, SourceWorks, Drain, Resume, Tick>;

/// A standing as routing sees it.
struct StandingView {
  Standing standing = Standing::unknown;
  std::optional<Time> until;  ///< when it may change by itself
  std::string reason;
  double share = 1.0;  ///< of the full weight; 0 when out of service
  double throttle = 1.0;
  bool wants_successes = false;          ///< deliveries matter to it: trial or throttled
  Time since{};                          ///< in trial: since when
  std::optional<std::uint64_t> per_day;  ///< returning: recipients a day with this provider
};

/// A change of standing. `provider` is empty for "every provider without a state of its own".
struct Transition {
  std::string provider;
  Standing from = Standing::unknown;
  Standing to = Standing::unknown;
  std::string rule;
  std::string text;
  std::string blocklist;
  std::optional<Time> until;
  bool observed = false;  ///< what a rule that only observes would have done; the standing did not change
};

struct StandingContext {
  const StandingPolicy& policy;
  const Blocklists& lists;
};

/// Applies one piece of evidence. Pure but for `state`.
std::vector<Transition> fold(SourceState& state, const Evidence& evidence, const StandingContext& context, Time now);

/// Whether time alone changes anything: a Tick now is not without effect.
bool due(const SourceState& state, const StandingContext& context, Time now);

/// The standing of a source with a provider; provider "" means one that nothing particular is known of.
StandingView view(const SourceState& state, std::string_view provider, const StandingContext& context);

/// Sum of the weights of the confirmed listings that concern `provider`.
double score(const SourceState& state, std::string_view provider, const StandingContext& context);

}  // namespace egret::routing
