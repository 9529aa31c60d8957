// Reports to senders (RFC 3464): what could not be delivered, is late, or left the world of reports. A report is a
// message of our own with the null sender, so it is never answered with another.
#include <algorithm>

#include "relay/delivery/dispatcher.hpp"
#include "relay/delivery/report_message.hpp"
#include "relay/runtime/log.hpp"
#include "smtp/body.hpp"

namespace egret::relay {
namespace {

constexpr std::uint64_t max_full = 1u << 20;  // a larger message comes back as its header only, whatever RET says

std::string_view word(smtp::DsnAction action) {
  switch (action) {
    case smtp::DsnAction::failed:
      return "failed";
    case smtp::DsnAction::delayed:
      return "delayed";
    case smtp::DsnAction::relayed:
      return "relayed";
  }
  return "failed";
}

}  // namespace

/// The first `limit` octets of a message as they went out.
boost::asio::awaitable<std::string> Dispatcher::original(std::shared_ptr<const spool::Message> message, std::uint64_t limit) {
  std::string head;
  for (const auto& extent : message->extents) {
    if (head.size() >= limit) break;
    head += co_await shared_.spool.read(extent);
  }
  for (const auto& chunk : message->tail)
    if (head.size() < limit) head += chunk;
  head.resize(std::min<std::size_t>(head.size(), limit));
  std::string out;
  smtp::as_sent(head, 0, message->cuts, message->header_end, message->added, [&](std::string_view piece) { out += piece; });
  co_return out;
}

smtp::DsnInput Dispatcher::dsn_input(const Job& job, smtp::DsnAction action) {
  const spool::Message& content = *job.content;
  smtp::DsnInput in;
  in.action = action;
  in.reporting_host = shared_.config->hostname;
  in.id = content.id;
  in.dsn_id = shared_.spool.next_id();
  in.sender = content.sender;
  in.envid = content.dsn.envid;
  in.utf8 = content.utf8;
  in.arrived = content.accepted;
  in.now = now();
  if (action == smtp::DsnAction::delayed) in.will_retry_until = job.message->expires;
  return in;
}

/// `replies` are parallel to the recipients; none means that the last thing that was heard counts, whoever said it.
boost::asio::awaitable<void> Dispatcher::report(JobPtr job, std::vector<smtp::Reply> replies, std::string explanation,
                                                std::string host, smtp::DsnAction action) {
  const bool loaded = co_await load(job.get());
  const auto content = job->content;
  if (loaded && !content->sender.null() && !content->report) {
    smtp::DsnInput in = dsn_input(*job, action);
    for (std::size_t i = 0; i < job->recipients.size(); ++i) {
      const smtp::DsnRcpt asked = content->notify(job->recipients[i]);
      if (!report_wanted(asked, action)) continue;
      smtp::DsnRecipient r;
      r.address = content->recipients[job->recipients[i]];
      r.original = asked.orcpt;
      r.explanation = explanation;
      r.remote_host = host;
      r.reply = i < replies.size() ? replies[i] : smtp::Reply{};
      if (i >= replies.size() && !job->last_reply.empty()) r.reply = smtp::parse_reply(job->last_reply);
      r.status = action == smtp::DsnAction::relayed   ? "2.0.0"
                 : i < replies.size()                 ? smtp::dsn_status(r.reply)
                 : action == smtp::DsnAction::delayed ? "4.4.1"
                                                      : "5.4.7";
      in.recipients.push_back(std::move(r));
    }
    if (!in.recipients.empty()) {
      in.full =
          action == smtp::DsnAction::failed && content->dsn.ret == smtp::DsnMail::Ret::full && content->body_size <= max_full;
      in.original = co_await original(content, in.full ? content->body_size : content->header_end);
      auto dsn = report_message(in, content->class_name);
      shared_.metrics.reports.add();
      log::info("report to the sender", {{"id", smtp::to_string(in.dsn_id)},
                                         {"original", smtp::to_string(content->id)},
                                         {"to", content->sender.to_string()},
                                         {"action", std::string(word(action))}});
      // The report is in the log before the record that makes its message disappear.
      shared_.spool.accept_internal(dsn);
      submit(std::move(dsn));
    }
  }
  if (action != smtp::DsnAction::failed) co_return;
  if (loaded) co_return finish(*job, job->recipients, spool::RecipientState::failed);
  job->next_at = now() + unreadable_pause;  // perhaps later
  schedule(std::move(job));
}

}  // namespace egret::relay
