// What a long lane or a long hold does not need at hand rests as numbers (Resting), and is called back before the lane has
// nothing to do, or the hold nothing to offer.
//
// A hundred thousand messages for one slow destination would else be as many jobs in memory, and fill what a class may have
// ready (dispatcher.cpp): its mail to everybody else would wait for them on disk. A million that are held would take a
// gigabyte.
#include <algorithm>

#include "relay/delivery/dispatcher.hpp"

namespace egret::relay {
namespace {

constexpr std::size_t at_hand = HeldJobs::at_hand;        // jobs of a class in a lane: as many as of a hold
constexpr std::size_t at_hand_moving = 10'000;            // where something is delivered: reading back costs more than the memory
constexpr std::size_t call_below = HeldJobs::call_below;  // jobs of a class in its lane
constexpr std::size_t call_by = 128;                      // of a class, while fewer than that wait for preparation
constexpr std::size_t at_once = 4;                        // lanes, holds

}  // namespace

/// True when the job was put away: the lane has enough before it, or others that were put away are first. One that holds a
/// place, or has been somewhere in this round, is none of those that are kept as numbers.
bool Dispatcher::park(const Lane& lane, bool moving, JobPtr& job) {
  const std::uint32_t its = job->message->message_class;
  if (job->holds_trial || job->canary || !job->tried.empty() || job->message->pass) return false;
  const auto parked = parked_.find(lane.key);
  const bool behind = parked != parked_.end() && parked->second.size(its) > 0;
  const bool full = lane.ready.size(its) >= (moving ? at_hand_moving : at_hand);
  if (!full && (job->called || !behind)) return false;
  give_back(*job, 0);
  strip(*job);
  job->next_at = std::min(job->next_at, now());  // what was released or asked for before its time is due all the same
  parked_.try_emplace(lane.key, expires_).first->second.add(std::move(job));
  arm_soon();
  return true;
}

/// They are prepared anew, and what they were put away for is decided anew.
void Dispatcher::call(std::vector<JobPtr> jobs) {
  for (auto& job : jobs) {
    job->called = true;
    push(called_, std::move(job));
  }
}

void Dispatcher::call_back() {
  if (!parked_.empty()) call_to_lanes();
  if (!holds_away_.empty()) call_to_holds();
  if (strays_.empty()) return;
  auto jobs =
      strays_.front().take_due(routing::Time::max(), call_by, [this](std::uint32_t its) { return called_.size(its) < call_by; });
  for (auto& job : jobs) job->next_at = now();
  call(std::move(jobs));
  if (strays_.front().empty()) strays_.pop_front();
}

/// What the next few holds need that have put mail away and little at hand: as many as are offered when an egress is back.
void Dispatcher::call_to_holds() {
  for (std::size_t n = std::min(at_once, holds_away_.size()); n > 0; --n) {
    auto key = holds_away_.upper_bound(hold_called_last_);
    if (key == holds_away_.end()) key = holds_away_.begin();
    hold_called_last_ = *key;
    if (const auto it = held_.find(*key); it != held_.end()) {
      call(it->second.call_back(now(), call_by, [this](std::uint32_t its) { return called_.size(its) < call_by; }));
      if (!it->second.away().empty()) continue;
      if (it->second.empty() && !it->second.offering) held_.erase(it);
    }
    holds_away_.erase(key);
  }
}

/// What the next few lanes need that have put mail away.
void Dispatcher::call_to_lanes() {
  for (std::size_t n = std::min(at_once, parked_.size()); n > 0; --n) {
    auto it = parked_.upper_bound(called_last_);
    if (it == parked_.end()) it = parked_.begin();
    called_last_ = it->first;
    const auto lane = lanes_.find(it->first);
    const auto wanted = [&](std::uint32_t its) {
      return called_.size(its) < call_by && (lane == lanes_.end() || lane->second->ready.size(its) < call_below);
    };
    call(it->second.take_due(routing::Time::max(), call_by, wanted));  // the clock may have been set back
    if (!it->second.empty()) continue;
    if (lane != lanes_.end() && lane->second->ready.empty() && lane->second->connections == 0) lanes_.erase(lane);
    parked_.erase(it);
  }
}

}  // namespace egret::relay
