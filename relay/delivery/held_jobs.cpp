#include "relay/delivery/held_jobs.hpp"

#include <algorithm>

namespace egret::relay {

/// One that holds a place, or has been somewhere in this round, is none of those that are kept as numbers.
void HeldJobs::add(JobPtr job, int weight) {
  const std::uint32_t its = job->message->message_class;
  const bool fresh =
      !job->holds_trial && !job->canary && !job->charged && !job->shaped && job->tried.empty() && !job->message->pass;
  const bool behind = away_.size(its) > 0 && !job->called;
  if (fresh && (behind || jobs.size(its) >= at_hand)) return put_away(std::move(job));
  first_expiry_ = std::min(first_expiry_, job->message->expires);
  jobs.push_back(its, weight, std::move(job));
}

void HeldJobs::put_away(JobPtr job) {
  strip(*job);
  job->next_at = job->message->expires;
  away_.add(std::move(job));
}

std::vector<JobPtr> HeldJobs::take_expired(routing::Time time) {
  std::vector<JobPtr> out;
  for (auto& job : away_.take_due(time, many, [](std::uint32_t) { return true; }))
    if (job->message->expires <= time)
      out.push_back(std::move(job));
    else
      put_away(std::move(job));  // its class lets it wait longer by now
  if (first_expiry_ > time) return out;
  first_expiry_ = routing::Time::max();
  jobs.erase_if([&](JobPtr& job) {
    if (job->message->expires <= time) return out.push_back(std::move(job)), true;
    first_expiry_ = std::min(first_expiry_, job->message->expires);
    return false;
  });
  // Many that end one after another are not all looked through for each of them.
  if (jobs.size() > many) first_expiry_ = std::max(first_expiry_, time + std::chrono::seconds(1));
  return out;
}

bool HeldJobs::hungry() const {
  bool out = false;
  away_.for_each_class([&](std::uint32_t its, std::size_t) { out = out || jobs.size(its) < call_below; });
  return out;
}

std::vector<JobPtr> HeldJobs::call_back(routing::Time time, std::size_t most, const std::function<bool(std::uint32_t)>& wanted) {
  std::vector<JobPtr> out =
      away_.take_due(routing::Time::max(), most, [&](std::uint32_t its) { return jobs.size(its) < call_below && wanted(its); });
  for (auto& job : out) {
    job->next_at = time;
    job->called = true;
  }
  return out;
}

void HeldJobs::erase_if(routing::Time time, const std::function<bool(JobPtr&)>& visit) {
  jobs.erase_if(visit);
  std::vector<JobPtr> changed;
  away_.erase_if(
      [&](JobPtr& job) {
        job->next_at = time;
        return visit(job);
      },
      changed);
  for (auto& job : changed) put_away(std::move(job));
}

}  // namespace egret::relay
