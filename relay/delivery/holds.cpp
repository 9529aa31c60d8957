// Holds that somebody asked for: the operator, or a guard that stopped a message or its sender. What routing holds is
// in dispatcher.cpp: that ends by itself when an egress comes back, this by a word (or by max_age).
#include <algorithm>
#include <iterator>

#include "relay/delivery/dispatcher.hpp"
#include "relay/runtime/log.hpp"

namespace egret::relay {

namespace {

constexpr std::size_t many = 1000;  // jobs

}  // namespace

void Dispatcher::HeldJobs::add(JobPtr job, int weight) {
  first_expiry = std::min(first_expiry, job->message->expires);
  const std::uint32_t its = job->message->message_class;
  jobs.push_back(its, weight, std::move(job));
}

std::vector<JobPtr> Dispatcher::HeldJobs::take_expired(routing::Time time) {
  std::vector<JobPtr> out;
  if (first_expiry > time) return out;
  first_expiry = routing::Time::max();
  jobs.erase_if([&](JobPtr& job) {
    if (job->message->expires <= time) return out.push_back(std::move(job)), true;
    first_expiry = std::min(first_expiry, job->message->expires);
    return false;
  });
  // Many that end one after another are not all looked through for each of them.
  if (jobs.size() > many) first_expiry = std::max(first_expiry, time + std::chrono::seconds(1));
  return out;
}

void Dispatcher::hold_job(JobPtr job, const std::string& reason, bool durable) {
  release_trial(*job);
  give_back(*job, 0);
  if (settled(*job, {Settled::End::deferred, smtp::make_reply(451, "4.7.1 (local) " + reason), "", {}})) return;
  log::info("held", {{"id", smtp::to_string(job->message->id)}, {"reason", reason}});
  if (durable) save_progress(*job, &reason);
  job->content.reset();
  job->tried.clear();
  job->route.clear();
  const int weight = weights_.of(job->message->message_class);
  withheld_[reason].add(std::move(job), weight);
  arm();
}

/// Due now, as if it had never been held. The caller pumps.
void Dispatcher::release_job(JobPtr job) {
  job->message->poison = false;
  shared_.guard.forget(static_cast<std::uint64_t>(job->message->id));
  job->next_at = now();
  save_progress(*job);
  push(due_, std::move(job));
}

void Dispatcher::release_sender(const std::string& sender) {
  const std::string reason = "sender " + routing::PoisonGuard::key_of(sender) + " is held";
  for (auto it = withheld_.lower_bound(reason); it != withheld_.end() && it->first.starts_with(reason);) {
    released_.splice(it->second.jobs);
    it = withheld_.erase(it);
  }
  work();
}

/// The time of some withheld mail is over: the sender is told.
void Dispatcher::end_withheld(routing::Time time) {
  for (auto it = withheld_.begin(); it != withheld_.end();) {
    for (auto& job : it->second.take_expired(time)) push(again_, std::move(job));
    it = it->second.jobs.empty() ? withheld_.erase(it) : std::next(it);
  }
  work();
}

}  // namespace egret::relay
