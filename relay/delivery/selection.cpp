// What an operator does with waiting mail: finding what a selector fits, and changing that.
//
// Whom a message is from and to is on disk only while it waits. So a command first judges envelopes, read back some
// hundred at a time, then picks in one pass what still rests and fits, then changes it piece by piece: deliveries go on
// in between. A message that is on a connection, or whose site is being looked up, is busy and never touched.
#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <unordered_map>

#include "relay/delivery/dispatcher.hpp"
#include "relay/runtime/log.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

constexpr std::size_t envelopes_at_once = 256;
constexpr std::size_t changes_at_once = 64;
constexpr auto lookup_time = std::chrono::seconds(10);  // for the sites of domains that nobody asked for lately

}  // namespace

/// The recipients of a message that its envelope lets pass.
struct Dispatcher::Judged {
  std::vector<std::uint32_t> recipients;  ///< by sender and domain
  std::vector<std::uint32_t> at_site;     ///< those of them whose site was looked up and fits
  bool undecided = false;                 ///< a site could not be found out
};

struct Dispatcher::Selection {
  const QueueCommand& command;
  QueueChanges changes;
  std::unordered_map<std::uint64_t, Judged> judged;
  std::unordered_map<std::string, std::optional<std::string>> sites;
  Deadline lookups_until = in(lookup_time);

  /// Which of the job's recipients are meant. In order, unless that is all of them.
  std::vector<std::uint32_t> meant(const Job& job) {
    const Selector& selector = command.selector;
    const bool by_lookup = selector.site && !job.site;
    if (!selector.wants_envelope() && !by_lookup) return job.recipients;
    const auto it = judged.find(static_cast<std::uint64_t>(job.message->id));
    if (it == judged.end()) return {};
    if (by_lookup && it->second.undecided) changes.undecided.push_back(job.message->id);
    const auto& fit = by_lookup ? it->second.at_site : it->second.recipients;
    std::vector<std::uint32_t> out;
    for (const auto recipient : job.recipients)
      if (std::ranges::binary_search(fit, recipient)) out.push_back(recipient);
    std::ranges::sort(out);
    return out;
  }
};

SelectorFacts Dispatcher::facts_of(const Job& job, std::string_view state) const {
  SelectorFacts facts{job.message->id, job.message->message_class, state, job.sticky, {}};
  // The explanation is there from the choice of an egress until the job rests again.
  if (!job.route.empty() && (state == "ready" || state == "active")) facts.egress = job.egress;
  if (job.site) facts.site = job.site->key;
  return facts;
}

/// visit(JobPtr&, state, withheld) for every job that rests; true takes it out of its queue.
template <typename Visit>
void Dispatcher::visit_resting(Visit visit) {
  const auto ready = [&](JobPtr& job) { return visit(job, "ready", false); };
  for (JobQueue* queue : {&due_, &called_, &again_, &released_}) queue->erase_if(ready);
  for (auto& group : unreached_) group.jobs.erase_if(ready);
  std::vector<JobPtr> changed;
  const routing::Time time = now();
  const auto by_time = [&](JobPtr& job) { return visit(job, job->next_at <= time ? "ready" : "scheduled", false); };
  resting_.erase_if(by_time, changed);
  for (auto& [key, parked] : parked_)
    parked.erase_if(
        [&, its = key.egress](JobPtr& job) {
          job->egress = its;
          job->route = "in a long lane";  // which says that the egress was chosen (facts_of)
          return visit(job, "ready", false);
        },
        changed);
  const auto anew = [&](JobPtr& job) {
    job->next_at = time;
    return visit(job, "ready", false);
  };
  for (Resting& some : strays_) some.erase_if(anew, changed);
  for (auto& job : changed) rest_job(std::move(job));
  changed.clear();
  for (Resting& some : releasing_) some.erase_if(anew, changed);
  for (auto& job : changed) push(released_, std::move(job));
  for (auto& [key, group] : held_) group.erase_if(time, [&](JobPtr& job) { return visit(job, "held", false); });
  std::erase_if(held_, [](const auto& entry) { return entry.second.empty(); });
  for (auto& [reason, group] : withheld_) group.erase_if(time, [&](JobPtr& job) { return visit(job, "held", true); });
  std::erase_if(withheld_, [](const auto& entry) { return entry.second.empty(); });
  for (auto& [key, lane] : lanes_)
    lane->ready.erase_if([&](JobPtr& job) {
      Load& load = load_of(*job);
      const bool gone = visit(job, "ready", false);
      load.ready -= gone;
      return gone;
    });
}

/// The key of the site that takes a domain's mail, empty when it has none; nullopt when that cannot be said in time.
boost::asio::awaitable<std::optional<std::string>> Dispatcher::site_of(Selection* selection, std::string domain) {
  if (const auto it = selection->sites.find(domain); it != selection->sites.end()) co_return it->second;
  std::optional<SiteAnswer> answer = sites_.cached(domain);
  if (!answer && std::chrono::steady_clock::now() < selection->lookups_until) answer = co_await sites_.find(domain);
  std::optional<std::string> key;
  if (answer && answer->site)
    key = answer->site->key;
  else if (answer && answer->refusal.permanent())
    key = "";
  selection->sites[domain] = key;
  co_return key;
}

/// Reads the envelopes of whatever may be meant and judges them.
boost::asio::awaitable<void> Dispatcher::judge(Selection* selection) {
  const Selector& selector = selection->command.selector;
  std::vector<smtp::MessageId> ids;
  const auto note_id = [&](const Job& job, std::string_view state) {
    if (!job.message->pass && (selector.wants_envelope() || !job.site) && selector.fits(facts_of(job, state)))
      ids.push_back(job.message->id);
  };
  visit_resting([&](const JobPtr& job, std::string_view state, bool) {
    note_id(*job, state);
    return false;
  });
  for (const Job* job : active_) note_id(*job, "active");
  for (const Picked& others : changing_) {
    for (const auto& job : others.jobs) note_id(*job, "active");
    others.resting.for_each_job([&](const Job& job) { note_id(job, "active"); });
  }
  std::ranges::sort(ids);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  for (std::size_t at = 0; at < ids.size() && !stopping_; at += envelopes_at_once) {
    const std::size_t end = std::min(ids.size(), at + envelopes_at_once);
    std::vector<smtp::MessageId> some(ids.begin() + static_cast<std::ptrdiff_t>(at),
                                      ids.begin() + static_cast<std::ptrdiff_t>(end));
    const auto envelopes = co_await shared_.spool.envelopes(some);
    for (std::size_t i = 0; i < envelopes.size(); ++i) {
      // Gone meanwhile, or unreadable, which the spool has said in the log: it is not touched.
      if (!envelopes[i] || !selector.fits_sender(envelopes[i]->sender) || !selector.fits_user(envelopes[i]->user)) continue;
      Judged out;
      for (std::uint32_t r = 0; r < envelopes[i]->recipients.size(); ++r) {
        const std::string& domain = envelopes[i]->recipients[r].domain;
        if (!selector.fits_domain(domain)) continue;
        out.recipients.push_back(r);
        if (!selector.site) continue;
        const auto site = co_await site_of(selection, smtp::lower(domain));
        if (!site) out.undecided = true;
        if (site == selector.site) out.at_site.push_back(r);
      }
      if (!out.recipients.empty()) selection->judged.emplace(static_cast<std::uint64_t>(some[i]), std::move(out));
    }
  }
}

/// True when the whole job was taken; a part of it leaves the job where it is.
bool Dispatcher::pick_one(Selection& selection, JobPtr& job, std::string_view state, bool withheld, Picked& picked) {
  if (job->message->pass || !selection.command.selector.fits(facts_of(*job, state))) return false;
  std::vector<std::uint32_t> meant = selection.meant(*job);
  if (meant.empty()) return false;
  selection.changes.matched.push_back(job->message->id);
  switch (selection.command.action) {
    case QueueAction::retry:
      if (withheld || state == "ready") return false;
      break;
    case QueueAction::hold:
      if (withheld) return false;
      break;
    case QueueAction::release:
      if (!withheld) return false;
      break;
    case QueueAction::cancel:
      break;
  }
  selection.changes.changed.push_back(job->message->id);
  if (meant.size() == job->recipients.size()) {
    release_trial(*job);
    give_back(*job, 0);
    picked.add(std::move(job));
    return true;
  }
  if (job->charged) shared_.budgets.refund(*job->charged, meant.size());
  std::erase_if(job->recipients, [&](std::uint32_t r) { return std::ranges::binary_search(meant, r); });
  picked.add(part_of(*job, std::move(meant)));
  return false;
}

void Dispatcher::pick(Selection& selection, Picked& picked) {
  visit_resting(
      [&](JobPtr& job, std::string_view state, bool withheld) { return pick_one(selection, job, state, withheld, picked); });
  const auto busy = [&](const Job& job) {
    if (job.message->pass || !selection.command.selector.fits(facts_of(job, "active")) || selection.meant(job).empty()) return;
    selection.changes.matched.push_back(job.message->id);
    selection.changes.busy.push_back(job.message->id);
  };
  for (const Job* job : active_) busy(*job);
  for (const Picked& others : changing_) {
    if (&others == &picked) continue;
    for (const auto& job : others.jobs) busy(*job);
    others.resting.for_each_job(busy);
  }
}

/// A million may be picked: they stay numbers until their turn comes.
void Dispatcher::Picked::add(JobPtr job) {
  if (Resting::fits(*job))
    resting.add(std::move(job));
  else
    jobs.push_back(std::move(job));
}

std::vector<JobPtr> Dispatcher::Picked::take(std::size_t about) {
  std::vector<JobPtr> out;
  for (; !jobs.empty() && out.size() < about; jobs.pop_front()) out.push_back(std::move(jobs.front()));
  if (!out.empty()) return out;
  return resting.take_due(routing::Time::max(), about, [](std::uint32_t) { return true; });
}

boost::asio::awaitable<QueueChanges> Dispatcher::command(QueueCommand command) {
  Selection selection{command, {}, {}, {}};
  if (command.selector.wants_envelope() || command.selector.site) co_await judge(&selection);
  if (stopping_) co_return std::move(selection.changes);
  const auto picked = changing_.emplace(changing_.end(), expires_);
  pick(selection, *picked);
  selection.judged.clear();
  while (!picked->empty() && !stopping_) {
    co_await change(&command, &*picked);
    pump();
    co_await boost::asio::post(executor_, boost::asio::use_awaitable);  // others have their turn
  }
  changing_.erase(picked);
  arm();
  co_return std::move(selection.changes);
}

/// The next few of those that were picked.
boost::asio::awaitable<void> Dispatcher::change(const QueueCommand* command, Picked* picked) {
  std::vector<JobPtr> some = picked->take(changes_at_once);
  if (command->action == QueueAction::cancel) co_return co_await cancel(std::move(some), command);
  for (auto& job : some) {
    if (command->action == QueueAction::hold) {
      hold_job(std::move(job), command->reason, true);
    } else if (command->action == QueueAction::release) {
      release_job(std::move(job));
    } else {
      job->next_at = now();
      // What routing held knows its site: it is decided anew. The rest is read back first.
      if (job->site && snapshot_)
        dispatch(std::move(job));
      else
        make_due(std::move(job));
    }
  }
}

/// Ends these without a delivery.
boost::asio::awaitable<void> Dispatcher::cancel(std::vector<JobPtr> jobs, const QueueCommand* command) {
  std::vector<smtp::MessageId> ids;
  for (const auto& job : jobs) ids.push_back(job->message->id);
  const auto envelopes = co_await shared_.spool.envelopes(ids);  // for the log: whom it would have gone to
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    JobPtr& job = jobs[i];
    if (command->bounce && !envelopes[i]) {  // it must not go out instead when it can be read again
      hold_job(std::move(job), "to be cancelled with a report, for which it cannot be read", true);
      continue;
    }
    job->route.clear();
    job->tls.clear();
    job->content = envelopes[i];
    note(*job, "cancelled", "", "", "", command->selector.text, job->recipients);
    job->content.reset();
    if (!command->bounce) {
      finish(*job, job->recipients, spool::RecipientState::failed);
      continue;
    }
    const std::vector<smtp::Reply> replies(job->recipients.size(),
                                           smtp::make_reply(554, "5.7.0 (local) cancelled by the operator"));
    co_await report(std::move(job), replies, "The operator of this relay cancelled it.", "", smtp::DsnAction::failed);
  }
}

}  // namespace egret::relay
