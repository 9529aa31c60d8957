// What the dispatcher does for the brakes (relay/brakes): tells what became of a user's mail, and holds it while he is
// suspended. All of it only where somebody logged in; others are counted by address, domain and network alone.
#include "relay/brakes/brakes.hpp"

#include <algorithm>

#include "relay/delivery/dispatcher.hpp"

namespace egret::relay {

/// A user who is slowed or suspended waits; false when that was dealt with.
bool Dispatcher::user_admitted(JobPtr& job) {
  return !shared_.brakes || follow(job, shared_.brakes->admit(job->content->user));
}

/// Each recipient counts once for or against the user: in the end, or, for a block, when it is met first. The same
/// message is blocked through several sources, and greylisted or deferred for hours.
void Dispatcher::count_outcomes(const Job& job, const AttemptResult& result, const std::vector<routing::Verdict>& verdicts,
                                const std::vector<std::uint32_t>& failed) const {
  if (!shared_.brakes || job.message->report) return;
  routing::SenderCounts counts;
  routing::UserOutcomes outcomes;
  const bool first = job.attempts == 0 && job.tried.empty();
  for (std::size_t i = 0; i < job.recipients.size(); ++i) {
    const smtp::RecipientOutcome& outcome = result.outcomes[i];
    if (outcome.delivered()) {
      ++counts.delivered;
      ++outcomes.delivered;
      continue;
    }
    const routing::Label label = verdicts[i].label;
    ++counts.rejects[static_cast<std::size_t>(label)];
    const bool seen = outcome.phase == smtp::Phase::data || outcome.phase == smtp::Phase::final_dot;
    const bool ended = std::ranges::find(failed, job.recipients[i]) != failed.end();
    if (ended) ++counts.bounced;
    if (label == routing::Label::ip_blocked && seen && first)
      ++outcomes.blocked;
    else if (ended && label == routing::Label::recipient)
      ++outcomes.unknown;
    else if (ended && label == routing::Label::content)
      ++outcomes.content;
    else if (ended)
      ++outcomes.other;
  }
  shared_.brakes->outcome(*job.content, counts, outcomes);
}

/// Recipients end without a receiver's word: their domain takes no mail (`unknown`), or their time is over.
void Dispatcher::count_bounced(const Job& job, bool unknown) const {
  if (!shared_.brakes || job.message->report || !job.content) return;
  routing::SenderCounts counts;
  counts.bounced = job.recipients.size();
  routing::UserOutcomes outcomes;
  (unknown ? outcomes.unknown : outcomes.other) = job.recipients.size();
  shared_.brakes->outcome(*job.content, counts, outcomes);
}

void Dispatcher::hold_user(const std::string& user, const std::string& reason) {
  if (!stopping_) tasks_.spawn(hold_mail_of(user, reason), "hold");
}

boost::asio::awaitable<void> Dispatcher::hold_mail_of(std::string user, std::string reason) {
  QueueCommand hold{QueueAction::hold, {}, false, std::move(reason)};
  hold.selector.user = user;
  co_await command(std::move(hold));
  // It takes its time, and an operator may have let him go meanwhile.
  if (shared_.brakes && !shared_.brakes->suspended(user)) release_user(user);
}

void Dispatcher::release_user(const std::string& user) {
  release_withheld(Brakes::hold_reason(user));
}

}  // namespace egret::relay
