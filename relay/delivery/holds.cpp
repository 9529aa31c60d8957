// Holds that somebody asked for: the operator, or a guard that stopped a message or its sender. What routing holds is
// in dispatcher.cpp: that ends by itself when an egress comes back, this by a word (or by max_age).
#include <algorithm>
#include <iterator>

#include "relay/delivery/dispatcher.hpp"
#include "relay/runtime/log.hpp"

namespace egret::relay {
namespace {

constexpr std::size_t released_at_once = 128;  // of a class, made jobs again
constexpr std::size_t most_ending = 4'000;     // jobs whose time is over, while more of them are kept as numbers

}  // namespace

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
  const routing::Time expires = job->message->expires;
  withheld_.try_emplace(reason, expires_).first->second.add(std::move(job), weight);
  arm_at(expires);
}

/// Due now, as if it had never been held. The caller pumps.
void Dispatcher::release_job(JobPtr job) {
  job->message->poison = false;
  shared_.guard.forget(static_cast<std::uint64_t>(job->message->id));
  job->next_at = now();
  save_progress(*job);
  make_due(std::move(job));
}

/// The next of those whose hold is over.
std::optional<JobPtr> Dispatcher::next_released() {
  while (released_.empty() && !releasing_.empty()) {
    for (auto& job : releasing_.front().take_due(routing::Time::max(), released_at_once, [](std::uint32_t) { return true; }))
      push(released_, std::move(job));
    if (releasing_.front().empty()) releasing_.pop_front();
  }
  return released_.pop();
}

/// Ends the holds whose reason begins so.
void Dispatcher::release_withheld(const std::string& reason) {
  for (auto it = withheld_.lower_bound(reason); it != withheld_.end() && it->first.starts_with(reason);) {
    released_.splice(it->second.jobs);
    if (!it->second.away().empty()) releasing_.push_back(it->second.take_away(expires_));
    it = withheld_.erase(it);
  }
  work();
}

void Dispatcher::release_sender(const std::string& sender) {
  release_withheld("sender " + routing::PoisonGuard::key_of(sender) + " is held");
}

/// The time of some mail that routing holds is over: it ends. Or the time at which something may change for it has come.
void Dispatcher::end_held(routing::Time time) {
  for (auto& [key, held] : held_) {
    if (held.next_expiry() <= time && again_.size() <= most_ending)
      for (auto& job : held.take_expired(time)) push(again_, std::move(job));  // which ends them
    if (held.until && *held.until <= time) offer(key, held);
  }
  work();
}

/// The time of some withheld mail is over: the sender is told.
void Dispatcher::end_withheld(routing::Time time) {
  for (auto it = withheld_.begin(); it != withheld_.end();) {
    if (it->second.next_expiry() <= time && again_.size() <= most_ending)
      for (auto& job : it->second.take_expired(time)) push(again_, std::move(job));
    it = it->second.empty() ? withheld_.erase(it) : std::next(it);
  }
  work();
}

}  // namespace egret::relay
