// What follows an attempt: who is to blame, what is tried next, what is told to whom.
#include <algorithm>

#include "relay/delivery/dispatcher.hpp"
#include "relay/esp/esp_mail.hpp"
#include "relay/esp/handover.hpp"
#include "relay/runtime/log.hpp"
#include "routing/blame.hpp"
#include "routing/esp_id.hpp"
#include "routing/schedule.hpp"
#include "smtp/dsn.hpp"

namespace egret::relay {
namespace {

using routing::EgressKind;

/// Recipients that go the same way after an attempt.
struct Ways {
  std::vector<std::uint32_t> delivered, retry, greylisted, same_only, next;
  std::vector<std::uint32_t> failed;
  std::vector<smtp::Reply> failures;
};

std::string join_addresses(const spool::Message& message, const std::vector<std::uint32_t>& recipients) {
  std::string out;
  for (std::size_t i = 0; i < recipients.size() && i < 10; ++i)
    out += (i ? "," : "") + message.recipients[recipients[i]].to_string();
  if (recipients.size() > 10) out += ",... (" + std::to_string(recipients.size()) + ")";
  return out;
}

}  // namespace

EgressCounters& Dispatcher::counters(routing::EgressRef egress) const {
  return egress.kind == EgressKind::source ? *shared_.source_counters[egress.index] : *shared_.smarthost_counters[egress.index];
}

void Dispatcher::conclude(JobPtr job, const AttemptResult& result) {
  shared_.metrics.attempts.add();
  job->last_host = result.host;
  job->tls = result.tls;
  release_trial(*job);
  if (result.one_by_one && job->recipients.size() > 1)
    retry_one_by_one(std::move(job), result);
  else if (result.kind == AttemptResult::Kind::answered)
    conclude_answered(std::move(job), result);
  else
    conclude_trouble(std::move(job), result);
}

/// A request was refused for one of its recipients: the others must not share its fate.
void Dispatcher::retry_one_by_one(JobPtr job, const AttemptResult& result) {
  const smtp::RecipientOutcome& said = result.outcomes.front();
  note(*job, "deferred", result.host, said.reply.to_string(), "", "one-by-one", job->recipients, to_string(said.phase));
  give_back(*job, 0);
  dispatch_split(std::move(job), 1);
}

/// The peer spoke. Every recipient is judged by its own reply; equal replies are judged once.
void Dispatcher::conclude_answered(JobPtr job, const AttemptResult& result) {
  const auto& config = *shared_.config;
  const routing::EgressRef egress = job->egress;
  const bool source = egress.kind == EgressKind::source;
  // A smarthost speaks for itself, wherever the mail goes in the end.
  const std::string& provider = source ? job->site->provider : config.smarthosts[egress.index].provider;
  const bool spill = config.classes[job->message->message_class].spill;
  Ways ways;
  std::string last_text;
  routing::Verdict verdict;
  std::vector<routing::Verdict> verdicts;  // of those who were refused
  routing::Blame blame;
  bool told = false;
  std::optional<std::string> poison;  // why the message is the suspect, and not the egress
  std::string blamed_reply;
  for (std::size_t i = 0; i < job->recipients.size(); ++i) {
    const smtp::RecipientOutcome& outcome = result.outcomes[i];
    const std::uint32_t recipient = job->recipients[i];
    if (outcome.delivered()) {
      ways.delivered.push_back(recipient);
      continue;
    }
    const std::string text = outcome.reply.to_string();
    if (text != last_text) {
      routing::ReplyContext context{outcome.phase, provider, {}};
      if (source) context.egress = config.topology.sources[egress.index].reputation;
      verdict = config.replies->classify(smtp::reply_text(text), context);
      blame = source ? routing::blame_source(outcome, verdict, spill) : routing::blame_smarthost(outcome, verdict);
      if (verdict.fallback) shared_.common.unknown_replies.add(text, provider, now());
      if (!verdict.observe.empty()) observe(*job, verdict, text);
      last_text = text;
    }
    if (verdicts.empty()) verdicts.resize(job->recipients.size());
    verdicts[i] = verdict;
    routing::Action action = blame.action;
    if (verdict.label == routing::Label::content && !job->message->report)
      shared_.guard.refused_for_content(static_cast<std::uint64_t>(job->message->id), job->content->sender.to_string());
    if (blame.egress_at_fault && !std::exchange(told, true))
      poison = accuse(*job, outcome.phase, verdict, text, blame.trouble, result.retry_after);
    // Observing changes nothing: the reply is taken as any other relay would take it.
    if (source && config.topology.observe && action == routing::Action::next_egress)
      action = outcome.reply.permanent() ? routing::Action::fail : routing::Action::retry;
    job->last_reply = text;
    // It went this way only to see whether that works: its ordinary way is next, whatever was said here.
    if (job->canary) action = routing::Action::next_egress;
    switch (action) {
      case routing::Action::delivered:
        break;
      case routing::Action::fail:
        ways.failed.push_back(recipient);
        ways.failures.push_back(outcome.reply);
        break;
      case routing::Action::retry:
        ways.retry.push_back(recipient);
        break;
      case routing::Action::retry_same_egress:
        (verdict.label == routing::Label::content ? ways.same_only : ways.greylisted).push_back(recipient);
        break;
      case routing::Action::next_egress:
        ways.next.push_back(recipient);
        blamed_reply = text;
        break;
    }
  }

  const std::vector<std::uint32_t> recipients = job->recipients;
  const auto place_of = [&](std::uint32_t recipient) {
    return static_cast<std::size_t>(std::ranges::find(recipients, recipient) - recipients.begin());
  };
  const auto reply_to = [&](std::uint32_t recipient) { return result.outcomes[place_of(recipient)].reply.to_string(); };
  const auto tell = [&](const std::vector<std::uint32_t>& who, const char* what) {
    if (who.empty()) return;
    const std::size_t at = place_of(who.front());
    const auto& outcome = result.outcomes[at];
    const bool ok = outcome.delivered();
    note(*job, what, result.host, outcome.reply.to_string(), ok ? "" : to_string(verdicts[at].label), ok ? "" : verdicts[at].rule,
         who, to_string(outcome.phase), ok && !source ? routing::esp_message_id(provider, outcome.reply) : std::string());
  };
  count_outcomes(*job, result, verdicts, ways.failed);
  tell(ways.delivered, "delivered");
  tell(ways.failed, "failed");
  tell(ways.retry, "deferred");
  tell(ways.greylisted, "deferred");
  tell(ways.same_only, "deferred");
  tell(ways.next, poison ? "held" : "failover");

  counters(egress).delivered.add(ways.delivered.size());
  counters(egress).failed.add(ways.failed.size());
  counters(egress).deferred.add(ways.retry.size() + ways.greylisted.size() + ways.same_only.size());
  if (job->canary) report_canary(*job, result, verdicts);
  job->shaped.reset();  // it was tried
  give_back(*job, ways.delivered.size());

  if (!ways.delivered.empty()) {
    shared_.guard.delivered(job->content->sender);
    if (!source) {
      if (snapshot_->smarthosts[egress.index].resting_until) shared_.reputation.report_smarthost_delivered(egress.index);
    } else if (snapshot_->sources[egress.index].with(job->site->provider).wants_successes) {
      shared_.reputation.report(egress.index, routing::Delivered{job->site->provider});
    }
    if (!source && shared_.esp_mail) {
      auto handovers = handovers_of(config, *job, ways.delivered, result, now());
      if (!handovers.empty()) shared_.esp_mail->sent(std::move(handovers));
    }
    report_relayed(*job, ways.delivered, result);
    if (job->message->pass)
      settle_delivered(*job, ways.delivered, result);
    else
      finish(*job, ways.delivered, spool::RecipientState::delivered);
  }
  const bool pass = job->message->pass != nullptr;
  Parts parts(std::move(job), ways.delivered.size());
  if (!ways.failed.empty())
    fail(parts.take(ways.failed), std::move(ways.failures), "The receiving server refused it.", result.host);
  // Each keeps the last word on itself, not on another recipient; who waits for the verdict gets every single one.
  const auto keep = [&](const std::vector<std::uint32_t>& who, Keep how) {
    const std::size_t step = pass ? 1 : std::max<std::size_t>(1, who.size());
    for (std::size_t at = 0; at < who.size(); at += step) {
      JobPtr some =
          parts.take({who.begin() + static_cast<std::ptrdiff_t>(at), who.begin() + static_cast<std::ptrdiff_t>(at + step)});
      some->last_reply = reply_to(who[at]);
      retry_later(std::move(some), how);
    }
  };
  keep(ways.retry, {});
  keep(ways.greylisted, {egress, false, false});
  keep(ways.same_only, {egress, true, false});
  if (!ways.next.empty()) {
    JobPtr some = parts.take(ways.next);
    some->last_reply = blamed_reply;
    if (poison)
      hold_job(std::move(some), *poison, true);
    else
      next_egress(std::move(some), blamed_reply);
  }
}

/// Whether the way works, as far as this message can tell: what only concerns its recipients says nothing about that.
void Dispatcher::report_canary(const Job& job, const AttemptResult& result, const std::vector<routing::Verdict>& refusals) {
  for (std::size_t i = 0; i < result.outcomes.size(); ++i) {
    const std::string text = result.outcomes[i].reply.to_string();
    if (result.outcomes[i].delivered()) return shared_.reputation.report_canary(job.egress.index, true, text);
    const routing::Label label = refusals[i].label;
    if (label == routing::Label::recipient || label == routing::Label::mailbox_full || label == routing::Label::greylisted)
      continue;
    return shared_.reputation.report_canary(job.egress.index, false, text);
  }
}

/// A rule that only observes would have judged: what it would have done to the source is counted and told.
void Dispatcher::observe(const Job& job, const routing::Verdict& verdict, const std::string& text) {
  log::info("observed only: a rule would have judged", {{"rule", std::string(verdict.observe)},
                                                        {"label", std::string(to_string(verdict.observe_label))},
                                                        {"judged_by", std::string(verdict.rule)},
                                                        {"reply", text}});
  const auto label = verdict.observe_label;
  if (!routing::blames_egress(label) || job.egress.kind != EgressKind::source) return;
  routing::Refused refused{job.site->provider, label, {}, std::string(verdict.observe), text};
  refused.message = static_cast<std::uint64_t>(job.message->id);
  refused.observe = true;
  shared_.reputation.report(job.egress.index, std::move(refused));
}

/// A reply is evidence against the egress. What there is to hold the message for, when that is the suspect by now: only a
/// receiver that has seen it can mean it, so what is refused before DATA never counts against it.
std::optional<std::string> Dispatcher::accuse(Job& job, smtp::Phase phase, const routing::Verdict& verdict,
                                              const std::string& text, routing::AccountTrouble trouble,
                                              routing::Duration at_least) {
  const auto& config = *shared_.config;
  const routing::EgressRef egress = job.egress;
  counters(egress).blamed.add();
  if (egress.kind == EgressKind::smarthost) {
    smarthost_refuses(job, text, trouble, at_least);
    return std::nullopt;
  }
  routing::Refused refused{job.site->provider, verdict.label, std::string(verdict.blocklist), std::string(verdict.rule), text};
  if (refused.blocklist.empty())
    if (const auto* list = routing::named_in(text, config.blocklists)) refused.blocklist = list->name;
  refused.message = static_cast<std::uint64_t>(job.message->id);
  shared_.reputation.report(egress.index, std::move(refused));
  const bool seen = phase == smtp::Phase::data || phase == smtp::Phase::final_dot;
  if (!seen || verdict.label != routing::Label::ip_blocked || job.message->report) return std::nullopt;
  const std::string sender = job.content->sender.to_string();
  auto reason =
      shared_.guard.blocked({static_cast<std::uint64_t>(job.message->id), sender, egress.kind, config.topology.name(egress),
                             job.site->provider, config.topology.pools[job.pool].sources.size()});
  if (reason) job.message->poison = true;
  return reason;
}

/// Tells the owner of the standings, whose word comes in a moment: until then what waits here does not try the same again.
void Dispatcher::smarthost_refuses(const Job& job, const std::string& text, routing::AccountTrouble trouble,
                                   routing::Duration at_least) {
  const std::uint32_t index = job.egress.index;
  if (trouble == routing::AccountTrouble::sender) return shared_.reputation.report_sender_refused(index, job.sender_domain, text);
  shared_.reputation.report_smarthost_refused(index, text, trouble, at_least, job.version);
  const auto& known = snapshot_->smarthosts[index].resting_until;
  if (known && now() < *known) return;
  auto next = std::make_shared<routing::Snapshot>(*snapshot_);
  next->smarthosts[index].resting_until = now() + std::chrono::seconds(1);
  next->smarthosts[index].reason = text;
  snapshot_ = std::move(next);
  reroute_lanes();
}

void Dispatcher::settle_delivered(const Job& job, const std::vector<std::uint32_t>& delivered, const AttemptResult& result) {
  for (std::size_t i = 0; i < job.recipients.size(); ++i)
    if (std::ranges::find(delivered, job.recipients[i]) != delivered.end())
      job.message->pass->settle({job.recipients[i]}, {Settled::End::delivered, result.outcomes[i].reply, result.host, {}});
}

/// A sender who asked for a report of success is told where the trail ends: at a server that does not give one
/// (RFC 3461 section 5.2.2).
void Dispatcher::report_relayed(const Job& job, const std::vector<std::uint32_t>& delivered, const AttemptResult& result) {
  if (result.dsn) return;
  std::vector<std::uint32_t> asked;
  std::vector<smtp::Reply> replies;
  for (std::size_t i = 0; i < job.recipients.size(); ++i) {
    const std::uint32_t index = job.recipients[i];
    if (!job.content->notify(index).success || std::ranges::find(delivered, index) == delivered.end()) continue;
    asked.push_back(index);
    replies.push_back(result.outcomes[i].reply);
  }
  if (asked.empty()) return;
  tasks_.spawn(report(part_of(job, std::move(asked)), std::move(replies),
                      "It was handed to a server that gives no reports of delivery.", result.host, smtp::DsnAction::relayed),
               "report");
}

/// What was taken from a smarthost's budget and not used.
void Dispatcher::give_back(Job& job, std::size_t used) {
  if (const auto at = std::exchange(job.shaped, std::nullopt); at && used == 0)
    shared_.budgets.shaping.take_back(job.egress.index, job.site->provider,
                                      snapshot_->sources[job.egress.index].with(job.site->provider), job.recipients.size(), *at);
  auto charged = std::exchange(job.charged, std::nullopt);
  if (charged) shared_.budgets.refund(*charged, job.recipients.size() - used);
}

/// Nobody spoke.
void Dispatcher::conclude_trouble(JobPtr job, const AttemptResult& result) {
  const routing::EgressRef egress = job->egress;
  const bool source = egress.kind == EgressKind::source;
  job->last_reply = stopping_ ? "451 4.3.2 (local) broken off: shutting down" : "451 4.4.1 (local) " + result.text;
  const auto recipients = job->recipients;
  if (result.kind == AttemptResult::Kind::ambiguous) {
    // It may have been delivered. Another egress now would make two of it (RFC 1047): the same way, later.
    counters(egress).ambiguous.add();
    if (job->canary) shared_.reputation.report_canary(egress.index, false, result.text);
    give_back(*job, job->recipients.size());  // it counts as sent
    note(*job, "ambiguous", result.host, result.text, "", "connection", recipients);
    return retry_later(std::move(job), {egress, true, true});
  }
  // We broke it off ourselves, or could: that blames nobody, and after the start it is tried as if this had not been.
  if (stopping_) return schedule(std::move(job));
  give_back(*job, 0);
  if (result.kind == AttemptResult::Kind::local_fault) {
    shared_.reputation.report(egress.index, routing::SourceFault{result.text});
    note(*job, "failover", result.host, result.text, "", "source-fault", recipients);
    return next_egress(std::move(job), result.text);
  }
  if (!source && !result.ours) {
    if (job->canary) shared_.reputation.report_canary(egress.index, false, result.text);
    smarthost_refuses(*job, result.text, routing::AccountTrouble::none);
    note(*job, "failover", result.host, result.text, "", "smarthost-fault", recipients);
    return next_egress(std::move(job), result.text);
  }
  counters(egress).deferred.add(recipients.size());
  note(*job, "deferred", result.host, result.text, "", "connection", recipients);
  const Keep keep{job->sticky, job->sticky_strict, job->ambiguous};
  retry_later(std::move(job), keep, !result.others);
}

/// The same message, at once, by the next candidate of its route.
void Dispatcher::next_egress(JobPtr job, const std::string& reason) {
  // Perhaps it was delivered by this egress before, or is refused for what it says: by another it would be a second copy.
  if (job->sticky_strict && job->sticky == job->egress) {
    const Keep keep{job->sticky, true, job->ambiguous};
    return retry_later(std::move(job), keep);
  }
  shared_.metrics.failovers.add();
  job->tried.push_back({job->egress, "refused it in this round: " + reason, {}});
  if (job->sticky == job->egress) job->sticky.reset();  // the egress it kept to is out of service
  route_to_owner(std::move(job));
}

/// True when somebody waits for the verdict, who has it now.
bool Dispatcher::settled(const Job& job, const Settled& how) {
  if (!job.message->pass) return false;
  if (how.end == Settled::End::deferred) remember(job, how.keep);
  job.message->pass->settle(job.recipients, how);
  return true;
}

/// What was not even `tried` is not written: a hundred thousand messages for a host that is down would be as many records in
/// each round, and a start that does not know of them only finds the same out once more.
void Dispatcher::retry_later(JobPtr job, Keep keep, bool tried) {
  if (settled(*job, {Settled::End::deferred, smtp::parse_reply(job->last_reply), job->last_host, keep})) return;
  ++job->attempts;
  job->sticky = keep.sticky;
  job->sticky_strict = keep.strict;
  job->ambiguous = keep.ambiguous;
  const double jitter = std::uniform_real_distribution<double>(0, 1)(random_);
  job->next_at = std::min(routing::next_attempt(shared_.config->delivery.retry, static_cast<int>(job->attempts), jitter, now()),
                          job->message->expires);
  const bool warned = job->warned;
  warn_if_late(*job);
  if (tried || job->warned != warned) save_progress(*job);
  schedule(std::move(job));
}

void Dispatcher::save_progress(const Job& job, const std::string* hold_reason) {
  spool::Progress progress;
  progress.id = job.message->id;
  for (const auto index : job.recipients) progress.recipients.emplace_back(index, spool::RecipientState::pending);
  progress.attempts = job.attempts;
  progress.next_at = job.next_at;
  if (job.sticky) progress.sticky = shared_.config->topology.name(*job.sticky);
  progress.strict = job.sticky_strict;
  progress.ambiguous = job.ambiguous;
  progress.warned = job.warned;
  progress.reply = job.last_reply;
  progress.reply_host = job.last_host;
  progress.held = hold_reason != nullptr;
  if (hold_reason) progress.hold_reason = *hold_reason;
  shared_.spool.progress(std::move(progress));
}

void Dispatcher::warn_if_late(Job& job) {
  const auto after = shared_.config->delivery.warn_after;
  if (job.warned || job.message->report || after.count() == 0 || now() - job.message->accepted < after) return;
  job.warned = true;
  // With a message of its own: the job holds the other alone, and is kept small while it rests (Resting).
  JobPtr copy = part_of(job, job.recipients);
  copy->message = std::make_shared<MessageRef>(*job.message);
  tasks_.spawn(
      report(std::move(copy), {}, "It has not been delivered yet; attempts go on.", job.last_host, smtp::DsnAction::delayed),
      "report");
}

/// The end for these recipients: a report to the sender first, then the record. `replies` are parallel to the
/// recipients; none means that the message's time is over.
void Dispatcher::fail(JobPtr job, std::vector<smtp::Reply> replies, std::string explanation, std::string host) {
  release_trial(*job);
  if (job->message->pass) {
    const auto late = smtp::make_reply(451, "4.4.7 (local) no attempt was possible in time");
    for (std::size_t i = 0; i < job->recipients.size(); ++i)
      job->message->pass->settle({job->recipients[i]}, replies.empty() ? Settled{Settled::End::deferred, late, "", {}}
                                                                       : Settled{Settled::End::failed, replies[i], host, {}});
    return;
  }
  if (replies.empty()) {
    note(*job, "failed", job->last_host, job->last_reply, "", "max-age", job->recipients);
    if (job->content) count_bounced(*job, false);
    const auto age = std::chrono::duration_cast<routing::Duration>(job->message->expires - job->message->accepted);
    explanation = "It could not be delivered within " + routing::to_string(age) + ".";
    host = job->last_host;
  }
  tasks_.spawn(report(std::move(job), std::move(replies), std::move(explanation), std::move(host), smtp::DsnAction::failed),
               "report");
}

void Dispatcher::finish(const Job& job, const std::vector<std::uint32_t>& recipients, spool::RecipientState state) {
  const auto n = static_cast<std::uint32_t>(recipients.size());
  if (job.message->open.fetch_sub(n) == n) {
    shared_.spool.done(job.message->id);
    return;
  }
  spool::Progress progress;
  progress.id = job.message->id;
  for (const auto index : recipients) progress.recipients.emplace_back(index, state);
  progress.attempts = job.attempts;
  shared_.spool.progress(std::move(progress));
}

namespace {

// What is remembered of one message, whatever receivers say to it: octets.
constexpr std::size_t longest_reply = 1024;

/// The log has all of it.
std::string shortened(const std::string& reply) {
  if (reply.size() <= longest_reply) return reply;
  const std::size_t end = reply.find_last_of(" \n", longest_reply);  // between characters, whatever they are
  return (end == std::string::npos ? "" : reply.substr(0, end)) + " ...";
}

}  // namespace

void Dispatcher::note(const Job& job, const std::string& outcome, const std::string& host, const std::string& reply,
                      std::string_view label, std::string_view rule, const std::vector<std::uint32_t>& recipients,
                      std::string_view phase, const std::string& esp_id) {
  const bool chosen = !job.route.empty();
  const std::string egress = chosen ? shared_.config->topology.name(job.egress) : "";
  MessageHistory& history = history_.of(job.message->id);
  if (history.message_class.empty()) {
    history.message_class = shared_.config->classes[job.message->message_class].name;
    history.accepted = job.message->accepted;
    if (job.content) history.sender = job.content->sender.to_string();
  }
  AttemptRecord record;
  record.time = now();
  record.egress = egress;
  record.site = job.site ? job.site->key : "";
  record.host = host;
  record.outcome = outcome;
  record.reply = shortened(reply);
  record.label = label;
  record.rule = rule;
  record.route = job.route;
  record.esp_id = esp_id;
  if (job.content)
    for (const auto index : recipients) record.recipients.push_back(job.content->recipients[index].to_string());
  history_.add(job.message->id, record);
  if (!log::enabled(log::Level::info)) return;
  std::vector<log::Field> fields{{"id", smtp::to_string(job.message->id)},
                                 {"to", job.content ? join_addresses(*job.content, recipients) : ""},
                                 {"egress", egress},
                                 {"site", job.site ? job.site->key : ""},
                                 {"provider", job.site ? job.site->provider : ""},
                                 {"host", host},
                                 {"reply", reply}};
  if (!phase.empty()) fields.emplace_back("phase", phase);
  if (!label.empty()) fields.emplace_back("label", label);
  if (!rule.empty()) fields.emplace_back("rule", rule);
  if (!esp_id.empty()) fields.emplace_back("esp_id", esp_id);
  if (!job.tls.empty()) fields.emplace_back("tls", job.tls);
  fields.emplace_back("route", job.route);
  log::info(outcome, fields);
}

}  // namespace egret::relay
