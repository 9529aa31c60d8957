// The route that a message would take now, for people who ask: the same request as Dispatcher::dispatch makes, and the
// same exclusions, without taking anything.
#include <algorithm>

#include "relay/delivery/dispatcher.hpp"
#include "relay/runtime/clock.hpp"
#include "smtp/text.hpp"

namespace egret::relay {

std::vector<WaitingJob> Dispatcher::jobs_of(smtp::MessageId id) const {
  std::vector<WaitingJob> out;
  const auto add = [&](const Job& job, const char* state) {
    if (job.message->id == id)
      out.push_back({state, job.message->message_class, job.message->size, job.recipients, job.attempts, job.next_at, job.sticky,
                     job.sticky_strict, job.tried, job.holds_trial, job.last_reply});
  };
  const auto ready = [&](const JobPtr& job) { add(*job, "ready"); };
  const auto held = [&](const JobPtr& job) { add(*job, "held"); };
  for (const JobQueue* queue : {&due_, &called_, &again_, &released_}) queue->for_each(ready);
  for (const auto& group : unreached_) group.jobs.for_each(ready);
  for (const auto& job : resting_.copies_of(id)) add(*job, job->next_at <= now() ? "ready" : "scheduled");
  for (const auto& [key, parked] : parked_)
    for (const auto& job : parked.copies_of(id)) add(*job, "ready");
  for (const auto* over : {&strays_, &releasing_})
    for (const Resting& some : *over)
      for (const auto& job : some.copies_of(id)) add(*job, "ready");
  const auto all_held = [&](const HeldJobs& group) {
    group.jobs.for_each(held);
    for (const auto& job : group.away().copies_of(id)) add(*job, "held");
  };
  for (const auto& [key, group] : held_) all_held(group);
  for (const auto& [reason, group] : withheld_) all_held(group);
  for (const auto& [key, lane] : lanes_) lane->ready.for_each(ready);
  for (const Job* job : active_) add(*job, "active");
  return out;
}

boost::asio::awaitable<std::pair<routing::Route, SiteAnswer>> Dispatcher::explain(std::string domain, std::uint32_t pool,
                                                                                  std::optional<WaitingJob> job,
                                                                                  std::optional<std::string> sender) {
  std::pair<routing::Route, SiteAnswer> out;
  out.second = co_await sites_.find(smtp::lower(domain));
  if (!out.second.site || !snapshot_) co_return out;
  const auto& config = *shared_.config;
  const Site& site = *out.second.site;
  routing::Request request;
  const auto served = std::ranges::find_if(config.classes, [&](const auto& c) { return c.pool == pool && !c.removed; });
  const std::uint32_t message_class = job ? job->message_class
                                      : served != config.classes.end()
                                          ? static_cast<std::uint32_t>(served - config.classes.begin())
                                          : config.first_class();
  for (const auto& route : config.routes)
    if (route.pool && routing::domain_matches(route.domain, domain)) {
      pool = *route.pool;
      break;
    }
  request.pool = pool;
  request.site = site.key;
  request.provider = site.provider;
  request.ipv4 = site.ipv4;
  request.ipv6 = site.ipv6;
  if (sender) request.sender = *sender;
  const auto standing = [&](std::uint32_t source) { return snapshot_->sources[source].with(site.provider).standing; };
  if (job) {
    request.excluded = job->tried;
    const bool source = job->sticky && job->sticky->kind == routing::EgressKind::source;
    if (source && (job->sticky_strict || routing::in_service(standing(job->sticky->index))))
      request.only_source = job->sticky->index;
    else if (job->sticky && !source)
      request.only_smarthost = job->sticky->index;
  }
  if (!config.topology.observe && !(job && job->holds_trial))
    for (std::uint32_t i = 0; i < config.topology.sources.size(); ++i)
      if (standing(i) == routing::Standing::trial && shared_.common.trials.busy(i, site.provider))
        request.excluded.push_back({{routing::EgressKind::source, i}, "trial: another message is on its way", {}});
  for (const std::uint32_t i : config.topology.pools[pool].sources) {
    if (config.topology.observe) break;
    const auto wait = shared_.budgets.shaping.admit(i, site.provider, snapshot_->sources[i].with(site.provider), 1, now(), false);
    if (wait) request.excluded.push_back({{routing::EgressKind::source, i}, wait->reason, wait->until});
  }
  for (std::uint32_t i = 0; i < config.smarthosts.size(); ++i) {
    const auto& smarthost = config.smarthosts[i];
    const routing::EgressRef egress{routing::EgressKind::smarthost, i};
    if (job && smarthost.message_size && job->size > smarthost.message_size)
      request.excluded.push_back({egress, "the message is larger than it takes", {}});
    else if (const auto refusal = shared_.budgets.refusal(i, message_class, 1, now()))
      request.excluded.push_back({egress, refusal->reason, refusal->until});
  }
  out.first = routing::route(config.topology, *snapshot_, request, now(), random_());
  co_return out;
}

}  // namespace egret::relay
