// Jobs that wait for the same word: for an egress to come back, or for an operator. Some are at hand; of a long hold the
// rest is kept as numbers (Resting).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "relay/delivery/job.hpp"
#include "relay/delivery/resting.hpp"
#include "routing/fair_queue.hpp"

namespace egret::relay {

/// Waiting jobs; where classes meet they are served by weight.
using JobQueue = routing::FairQueue<JobPtr>;

/// Used from one worker's thread.
class HeldJobs {
 public:
  static constexpr std::size_t at_hand = 2'000;     ///< jobs of a class
  static constexpr std::size_t call_below = 1'000;  ///< jobs of a class at hand, while others of it are put away
  static constexpr std::size_t many = 1'000;        ///< jobs

  explicit HeldJobs(const Resting::Expires& expires) : away_(expires) {}

  void add(JobPtr job, int weight);
  std::size_t size() const { return jobs.size() + away_.size(); }
  bool empty() const { return jobs.empty() && away_.empty(); }

  /// Not later than the time at which the first of them is given up; max() when there is none.
  routing::Time next_expiry() const { return std::min(first_expiry_, away_.next()); }
  /// Takes out jobs whose time is over: all that are at hand, and `many` of each class of those that are not.
  std::vector<JobPtr> take_expired(routing::Time time);

  /// Whether call_back() would give any.
  bool hungry() const;
  /// Up to `most` of each class that `wanted(class)` says, of those that are put away, the oldest first: where few of its
  /// class are left at hand. They are due at `time` and not put away again at once.
  std::vector<JobPtr> call_back(routing::Time time, std::size_t most, const std::function<bool(std::uint32_t)>& wanted);

  /// visit(JobPtr&) for each; true takes it out.
  void erase_if(routing::Time time, const std::function<bool(JobPtr&)>& visit);
  const Resting& away() const { return away_; }
  /// Leaves nothing but what is at hand.
  Resting take_away(const Resting::Expires& expires) { return std::exchange(away_, Resting(expires)); }

  JobQueue jobs;  ///< at hand
  std::string reason;
  std::optional<routing::Time> until;
  // While they are offered again.
  bool offering = false;
  std::size_t to_offer = 0;
  std::size_t stuck = 0;  ///< offered in vain

 private:
  void put_away(JobPtr job);

  Resting away_;                                       ///< due when they are given up
  routing::Time first_expiry_ = routing::Time::max();  ///< not later than that of any at hand
};

}  // namespace egret::relay
