// Delivery in simulated time: what the daemon's dispatcher does with route(), the trial gate, budgets, the schedule and
// blame, with receivers that answer what the scenario says. The glue is a short copy of relay/delivery (dispatcher,
// outcome, lanes), whose own is bound to connections and the spool.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "routing/blame.hpp"
#include "routing/simulated_reputation.hpp"
#include "routing/simulation.hpp"

namespace egret::routing {

/// Uniform in [0, 1), the same with every library.
double draw_share(std::mt19937_64& random);

class SimulatedDelivery {
 public:
  /// `report` has a ClassReport with all its hours for each class that has traffic; `class_report` is its index, by class.
  SimulatedDelivery(const SimulationSetup& setup, const Scenario& scenario, SimulatedReputation& reputation,
                    SimulationReport& report, std::vector<std::size_t> class_report, std::mt19937_64& random);

  /// A message was accepted.
  void submit(const SimulatedTraffic& traffic, std::uint32_t domain, Time now);
  /// When something is to be done next; Time::max() for never.
  Time next() const;
  /// When the last attempt that is under way ends; Time::max() for none.
  Time next_end() const { return in_flight_.empty() ? Time::max() : in_flight_.front().ends; }
  /// Does what is due.
  void advance(Time now);
  /// Sends what waits by the standings as they are now.
  void settle(Time now);
  /// From here on no attempt begins.
  void stop() { stopped_ = true; }
  /// Counts what is still held. Called once, at the end.
  void finish(Time now);
  std::uint64_t waiting(std::size_t class_report) const { return waiting_[class_report]; }

 private:
  struct Job {
    std::uint32_t message_class = 0;
    std::uint32_t domain = 0;
    std::uint32_t pool = 0;
    std::uint32_t messages = 1;  ///< 0 for the further parts of a message that was split
    std::uint32_t recipients = 1;
    std::uint32_t attempts = 0;
    std::uint64_t size = 0;
    Time accepted{}, expires{}, next_at{};
    std::optional<EgressRef> sticky;
    bool sticky_strict = false;
    std::optional<Time> held_since;
    Duration held_for{};
    bool was_held = false;
    // This round.
    std::vector<Excluded> tried;
    EgressRef egress;
    bool holds_trial = false;
    bool charged = false;
  };
  using JobPtr = std::unique_ptr<Job>;
  struct Lane {
    std::deque<JobPtr> ready;
    std::size_t active = 0;
  };
  using LaneKey = std::pair<EgressRef, std::uint32_t>;  // and the site; smarthosts have one lane for all
  struct Attempt {
    Time ends{};
    LaneKey lane;
    JobPtr job;
  };
  struct HeldKey {
    std::uint32_t pool = 0;
    std::string provider;
    int sticky = -1;
    bool ipv4 = true, ipv6 = true;
    auto operator<=>(const HeldKey&) const = default;
  };
  struct HeldJobs {
    std::deque<JobPtr> jobs;
    std::optional<Time> until;
    Time first_expiry = Time::max();
  };
  struct LaterFirst {
    bool operator()(const JobPtr& a, const JobPtr& b) const { return a->next_at > b->next_at; }
  };

  void dispatch(JobPtr job, Time now);
  bool admitted(Job& job, Request& request, Time now);
  Request request_for(const Job& job) const;
  void enqueue(JobPtr job, Time now);
  void kick(const LaneKey& key, Lane& lane, Time now);
  std::size_t limit(const LaneKey& key) const;
  void split(JobPtr job, std::uint32_t most, Time now);
  void hold(JobPtr job, const Hold& hold, Time now);
  void release_held(Time now);
  void look_at_held(Time now);
  void plan_held(Time now);
  void reroute_lanes(Time now);
  void release_trial(Job& job);
  void give_back(Job& job, Time now);
  void budget_used_up(std::uint32_t smarthost, Time now);

  std::optional<smtp::RecipientOutcome> refusal(const Job& job);
  void conclude(JobPtr job, Time now);
  void conclude_refused(JobPtr job, const smtp::RecipientOutcome& outcome, Time now);
  void report_refused(const Job& job, const Verdict& verdict, AccountTrouble trouble, const std::string& text, Time now);
  Verdict classify(const Job& job, const smtp::RecipientOutcome& outcome, const std::string& text);
  void delivered(JobPtr job, Time now);
  void next_egress(JobPtr job, const std::string& reason, Time now);
  void retry_later(JobPtr job, std::optional<EgressRef> sticky, bool strict, Time now);
  void failed(const Job& job, Time now);
  void ended(const Job& job, Time now);
  HourCount& hour(const Job& job, Time now);
  ClassReport& class_of(const Job& job) { return report_.classes[class_report_[job.message_class]]; }
  const SimulatedDomain& domain(const Job& job) const { return scenario_.domains[job.domain]; }

  const SimulationSetup& setup_;
  const Scenario& scenario_;
  SimulatedReputation& reputation_;
  SimulationReport& report_;
  std::vector<std::size_t> class_report_;
  std::mt19937_64& random_;
  std::vector<std::uint32_t> site_of_;    ///< by domain
  std::vector<std::uint32_t> domain_at_;  ///< by site: its first domain, which says how it is reached
  std::vector<BudgetUse> budgets_;
  std::vector<Time> told_used_up_;  ///< the period in which it was told
  std::vector<std::uint64_t> waiting_;
  std::uint64_t version_ = 0;
  bool offer_held_ = false;
  bool stopped_ = false;
  std::deque<Attempt> in_flight_;  ///< all attempts take the same time: in order
  std::vector<JobPtr> scheduled_;  ///< heap by next_at
  std::map<LaneKey, Lane> lanes_;
  std::map<HeldKey, HeldJobs> held_;
  Time held_at_ = Time::max();  ///< when held mail is to be looked at
  Time looked_at_held_{};
  std::set<std::pair<std::uint32_t, std::string>> trials_;
  std::unordered_map<std::string, Verdict> verdicts_;
};

}  // namespace egret::routing
