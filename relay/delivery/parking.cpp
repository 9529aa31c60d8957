// What a long lane does not need at hand rests as numbers (Resting), and is called back before the lane has nothing to do.
//
// A hundred thousand messages for one slow destination would else be as many jobs in memory, and fill what a class may have
// ready (dispatcher.cpp): its mail to everybody else would wait for them on disk.
#include <algorithm>

#include "relay/delivery/dispatcher.hpp"

namespace egret::relay {
namespace {

constexpr std::size_t at_hand = 2'000;          // jobs of a class in a lane
constexpr std::size_t at_hand_moving = 10'000;  // where something is delivered: reading back costs more than the memory
constexpr std::size_t call_below = 1'000;       // jobs of a class in its lane
constexpr std::size_t call_by = 128;            // of a class, while fewer than that wait for preparation
constexpr std::size_t lanes_at_once = 4;

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
  if (!Resting::takes(*job)) return false;
  give_back(*job, 0);
  strip(*job);
  job->next_at = std::min(job->next_at, now());  // what was released or asked for before its time is due all the same
  parked_.try_emplace(lane.key, expires_).first->second.add(std::move(job));
  arm();
  return true;
}

/// Calls back what the next few lanes that have put mail away need. What it was put away for is decided anew on the way.
void Dispatcher::call_back() {
  for (std::size_t n = std::min(lanes_at_once, parked_.size()); n > 0; --n) {
    auto it = parked_.upper_bound(called_last_);
    if (it == parked_.end()) it = parked_.begin();
    called_last_ = it->first;
    const auto lane = lanes_.find(it->first);
    const auto wanted = [&](std::uint32_t its) {
      return called_.size(its) < call_by && (lane == lanes_.end() || lane->second->ready.size(its) < call_below);
    };
    for (auto& job : it->second.take_due(now(), call_by, wanted)) {
      job->called = true;
      push(called_, std::move(job));
    }
    if (!it->second.empty()) continue;
    if (lane != lanes_.end() && lane->second->ready.empty() && lane->second->connections == 0) lanes_.erase(lane);
    parked_.erase(it);
  }
}

}  // namespace egret::relay
