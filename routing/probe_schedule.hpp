// When which blocklist is asked about which address: the whole schedule of the prober as a value.
//
// It decides order and pace only. All queries together keep to one rate, so that nothing goes out in a burst after a
// start; each list may have a budget of its own; every check is moved by up to a fifth, so that they do not march in
// step; what was answered is not asked again before the answer's TTL. Time is monotonic and an argument: a step of the
// wall clock moves nothing.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "routing/blocklist.hpp"
#include "routing/types.hpp"

namespace egret::routing {

/// Monotonic time since any fixed moment.
using Instant = std::chrono::microseconds;

/// A rate as a single number that remembers (GCRA): how far what was sent runs ahead of what is allowed.
class QueryPace {
 public:
  /// `burst` queries at once are within the pace.
  QueryPace(QueryRate rate, std::uint64_t burst);
  /// One that allows at most `rate.count` in any period of `rate.per`, bursts included.
  static QueryPace budget(QueryRate rate);

  /// From when on `queries` at once are within the pace. More than the burst is never: it counts as the burst.
  Instant ready(std::uint64_t queries = 1) const;
  /// Counts what is sent; more than was ready is a debt that later queries wait for.
  void spend(Instant now, std::uint64_t queries = 1);
  std::uint64_t burst() const { return burst_; }

 private:
  Instant step_;
  std::uint64_t burst_;
  Instant full_{0};
};

/// What one list needs.
struct ProbePlan {
  std::size_t targets = 0;  ///< addresses to ask about
  Duration interval{};      ///< between two checks of one address
  Duration health_interval{};
  std::optional<QueryRate> budget;
};

class ProbeSchedule {
 public:
  /// Queries that one look at a list's health costs: both test points and a random name.
  static constexpr std::uint64_t health_queries = 3;
  /// A receiver's word about a (source, list) is acted on once in this time.
  static constexpr Duration urgent_gap = std::chrono::minutes(1);
  static constexpr Duration least_ttl = std::chrono::seconds(1);

  /// `all`: the pace of all lists together. `seed` makes the jitter.
  ProbeSchedule(std::vector<ProbePlan> lists, QueryRate all, std::uint64_t seed);

  struct Turn {
    std::size_t list = 0;
    std::optional<std::size_t> target;  ///< none: the list's health
  };
  /// What to ask now, or nothing yet. It is not given again before its answer is reported.
  std::optional<Turn> take(Instant now);
  /// When take() may have something; Instant::max() when only an answer or a call below can change that.
  Instant next() const;

  /// The answer about a target: it comes again after the interval or, where `soon` is given, after that; never before
  /// `ttl` is over (at least least_ttl, at most the interval).
  void answered(std::size_t list, std::size_t target, Instant now, Duration ttl, std::optional<Duration> soon);
  /// The list's health is looked at again after `again`.
  void health_done(std::size_t list, Instant now, Duration again);
  /// Targets of a closed list wait (a list begins closed: its health is asked first).
  void open(std::size_t list, bool yes) { lists_[list].open = yes; }

  /// A receiver named the list: asks about the target before everything else, whatever the TTL of the last answer. False
  /// when that was done within urgent_gap (or the list's interval, if that is shorter).
  bool urgent(std::size_t list, std::size_t target, Instant now);
  /// Makes all targets of a list due, or one: by an operator's word. In the usual pace, but whatever the TTL.
  void hurry(std::size_t list, Instant now);
  void hurry(std::size_t list, std::size_t target, Instant now);
  /// Counts queries that were sent besides the turns.
  void spend(std::size_t list, Instant now, std::uint64_t queries);
  /// Whether one more query is within the list's budget and the common pace.
  bool may_spend(std::size_t list, Instant now) const;

  /// The interval that is kept: longer than planned where a budget or the common pace does not allow more.
  Duration interval(std::size_t list) const { return lists_[list].interval; }
  bool stretched(std::size_t list) const { return lists_[list].stretched; }

 private:
  struct Target {
    Instant due{};
    bool in_flight = false;
    bool again = false;   ///< wanted while it was in flight: asked once more after the answer
    bool urgent = false;  ///< waits in the urgent queue
    std::optional<Instant> urgent_at;
  };
  struct List {
    ProbePlan plan;
    Duration interval{};
    bool stretched = false;
    bool open = false;
    std::optional<QueryPace> budget;
    std::vector<Target> targets;
    std::set<std::pair<Instant, std::size_t>> waiting;  ///< targets by the time they are due
    std::deque<std::size_t> urgent;
    Instant health_due{};
    bool health_in_flight = false;
  };
  struct Next {
    Instant at = Instant::max();
    bool health = false;
  };

  void stretch(QueryRate all);
  Next next_of(const List& list) const;
  Instant urgent_of(const List& list) const;
  void wait_until(List& list, std::size_t target, Instant due);
  Duration jittered(Duration duration);

  std::vector<List> lists_;
  QueryPace all_;
  std::mt19937_64 random_;
};

}  // namespace egret::routing
