// The standings in simulated time: what the daemon's owner of the standings and its prober do, with a blocklist's
// answers made of the scenario instead of DNS. The glue is a short copy of relay/reputation; the decisions are
// fold(), view(), judge() and judge_health().
#pragma once

#include <map>
#include <queue>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "routing/simulation.hpp"

namespace egret::routing {

class SimulatedReputation {
 public:
  SimulatedReputation(const SimulationSetup& setup, SimulationReport& report, std::mt19937_64& random, Time start);

  /// Makes an incident true, or ends it.
  void apply(const Incident& incident, Time now);
  /// Reports what happened outside: Egret's own events follow from it.
  void fold(std::uint32_t source, const Evidence& evidence, Time now);
  void smarthost_refused(std::uint32_t smarthost, AccountTrouble trouble, const std::string& reason, Time now);
  void smarthost_delivered(std::uint32_t smarthost, Time now);
  void note(TimelineEntry entry);

  /// When something is to be done next.
  Time next() const { return checks_.empty() ? tick_at_ : std::min(tick_at_, checks_.top().at); }
  /// Does what is due.
  void advance(Time now);

  const Snapshot& snapshot() const { return snapshot_; }

  // What is so, whether Egret knows it or not.
  bool lists(const std::string& blocklist, std::uint32_t source) const { return listed_.contains({blocklist, source}); }
  bool answers(const std::string& blocklist) const { return !down_.contains(blocklist); }
  const Incident* blocks(const std::string& provider, std::uint32_t source) const;
  const Incident* throttles(const std::string& provider, std::uint32_t source) const;
  const Incident* refuses(std::uint32_t smarthost) const;
  bool works(std::uint32_t source) const { return !broken_.contains(source); }

 private:
  struct List {
    const Blocklist* definition = nullptr;
    std::vector<std::uint32_t> sources;
    bool probed = false, in_service = false, answered = false, withdrawn = false, first = true;
    Time checked{};
    std::optional<Time> out_since;
  };
  struct Check {
    Time at{};
    std::uint64_t order = 0;  ///< of two at one time, the one that was planned first
    std::uint32_t list = 0;
    std::optional<std::uint32_t> source;  ///< none: a new round of the list begins
    bool confirmation = false;            ///< of what the last check saw
    auto operator<=>(const Check& other) const { return std::tie(at, order) <=> std::tie(other.at, other.order); }
  };

  StandingContext context() const { return {setup_.policy, setup_.lists}; }
  Duration interval(const List& list) const;
  Duration spread(Duration duration);
  void plan(std::uint32_t list, std::optional<std::uint32_t> source, Time at);
  void round(std::uint32_t index, Time now);
  void check(std::uint32_t index, std::uint32_t source, Time now);
  bool healthy(List& list, Duration max_age, Time now);
  void withdraw_if_due(List& list, Time now);
  void tick(Time now);
  void publish();
  void tell(std::uint32_t source, const Transition& transition, Time now);
  void tell_exhausted(const Transition& transition, Time now);

  const SimulationSetup& setup_;
  SimulationReport& report_;
  std::mt19937_64& random_;
  std::vector<SourceState> states_;
  std::vector<SmarthostState> smarthosts_;
  std::vector<List> lists_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, Time> urgent_;  ///< asked because a receiver named the list
  std::set<std::pair<std::uint32_t, std::uint32_t>> confirming_;    ///< a confirmation is planned
  std::priority_queue<Check, std::vector<Check>, std::greater<>> checks_;
  std::uint64_t order_ = 0;
  Time tick_at_{};
  std::uint64_t ticks_ = 0;
  bool dirty_ = true;
  Snapshot snapshot_;

  std::map<std::pair<std::string, std::uint32_t>, IpAddress> listed_;
  std::map<std::pair<std::string, std::uint32_t>, Incident> blocked_, throttled_;
  std::map<std::uint32_t, Incident> refusing_;
  std::set<std::string> down_;
  std::set<std::uint32_t> broken_;
};

}  // namespace egret::routing
