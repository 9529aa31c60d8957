#include "relay/esp/event_desk.hpp"

#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "relay/delivery/report_message.hpp"
#include "relay/esp/bounce_report.hpp"
#include "relay/runtime/clock.hpp"
#include "relay/runtime/log.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using routing::EspEventKind;

constexpr std::string_view path_prefix = "/events/";
constexpr auto refusals_every = 10min;    // one event for each smarthost and reason
constexpr auto complaints_every = 1h;     // one event for each sender
constexpr auto complaints_counted = 24h;  // what that event counts
constexpr std::size_t max_senders = 1000;
constexpr std::size_t max_unsigned_json = 512 * 1024;  // read before it is believed; SNS sends 256 kB at most
constexpr std::size_t reports_at_once = 100;
constexpr auto pause_in_trouble = 30s;

EventAnswer answer(unsigned status, std::string_view text) {
  return {status, std::string(text) + "\n"};
}

/// Mailgun takes 406 for "never again", and goes on trying after everything else.
unsigned status_of(EventRefusal refusal) {
  switch (refusal) {
    case EventRefusal::path:
      return 404;
    case EventRefusal::method:
      return 405;
    case EventRefusal::too_large:
      return 413;
    case EventRefusal::malformed:
      return 400;
    case EventRefusal::old:
    case EventRefusal::replayed:
      return 406;
    case EventRefusal::credentials:
      return 401;
    case EventRefusal::none:
    case EventRefusal::address:
    case EventRefusal::signature:
    case EventRefusal::topic:
    case EventRefusal::url:
      return 403;
  }
  return 403;
}

std::string advice(EventRefusal refusal) {
  switch (refusal) {
    case EventRefusal::address:
      return "if this is the ESP, add its networks to events.allow of the smarthost";
    case EventRefusal::credentials:
      return "compare user name and password, or header and secret, with what the ESP has";
    case EventRefusal::signature:
      return "if this is the ESP, its key is another: compare events of the smarthost with the ESP's pages";
    case EventRefusal::topic:
      return "add the topic to events.topic of the smarthost if it is yours";
    case EventRefusal::old:
      return "compare this host's clock; events.max_age of the smarthost is the limit";
    case EventRefusal::malformed:
      return "see that the ESP sends JSON of this kind (SNS: raw message delivery off)";
    default:
      return "nothing was believed; if it goes on, see who has this address";
  }
}

}  // namespace

EventDesk::EventDesk(const asio::any_io_executor& executor, EventDeskContext context)
    : context_(std::move(context)), sns_(executor, context_.config->dns), wake_(executor), tasks_(executor) {}

void EventDesk::start() {
  tasks_.spawn(report_bounces(), "reports of bounces");
}

void EventDesk::configure(std::shared_ptr<const config::Config> config) {
  context_.config = std::move(config);
  sns_.configure(context_.config->dns);
}

asio::awaitable<void> EventDesk::stop() {
  stopping_ = true;
  sns_.break_off();
  wake_.cancel();
  co_await tasks_.wait();
}

const config::Smarthost* EventDesk::smarthost(std::string_view target) const {
  target = target.substr(0, target.find('?'));
  if (!target.starts_with(path_prefix)) return nullptr;
  const auto index = context_.config->smarthost_named(target.substr(path_prefix.size()));
  if (!index) return nullptr;
  const config::Smarthost& host = context_.config->smarthosts[*index];
  return host.removed || !host.events ? nullptr : &host;
}

EventAnswer EventDesk::refuse(const std::string& target, EventRefusal refusal, const routing::IpAddress& client) {
  const auto* host = smarthost(target);
  return refused(host ? host->name : "", host ? refusal : EventRefusal::path, client);
}

/// Counted always, told at once and then from time to time. Requests for paths that there are not are the noise of any
/// open port: only counted.
EventAnswer EventDesk::refused(const std::string& smarthost, EventRefusal refusal, const routing::IpAddress& client) {
  const std::string reason(to_string(refusal));
  context_.mail.metrics().update(smarthost, [&](EspCounts& counts) { ++counts.refused[reason]; });
  log::debug("webhook refused", {{"smarthost", smarthost}, {"reason", reason}, {"client", client.to_string()}});
  if (!smarthost.empty()) {
    Limited& limited = refusals_[{smarthost, refusal}];
    ++limited.since;
    if (std::chrono::steady_clock::now() >= limited.quiet_until) {
      Event event;
      event.kind = "esp-events-refused";
      event.smarthost = smarthost;
      event.rule = reason;
      event.text = std::to_string(limited.since) + (limited.since == 1 ? " request" : " requests") + " refused (" + reason +
                   "), the last from " + client.to_string();
      event.action = advice(refusal);
      context_.events.add(std::move(event));
      limited = {in(refusals_every), 0};
    }
  }
  return answer(status_of(refusal), "refused: " + reason);
}

asio::awaitable<EventAnswer> EventDesk::handle(std::string target, EventRequest request) {
  const auto config = context_.config;  // a reload must not take it away meanwhile
  const config::Smarthost* host = smarthost(target);
  if (!host) co_return refused("", EventRefusal::path, request.client);
  const config::EspEvents& settings = *host->events;
  if (!settings.allow.empty() && !routing::in_any(settings.allow, request.client))
    co_return refused(host->name, EventRefusal::address, request.client);
  const bool signed_inside = settings.format == routing::EspFormat::ses || settings.format == routing::EspFormat::mailgun;
  if (signed_inside && request.body.size() > max_unsigned_json)
    co_return refused(host->name, EventRefusal::too_large, request.client);
  if (settings.format == routing::EspFormat::ses) co_return co_await handle_sns(host, &request);
  std::string token;
  const EventRefusal refusal = check_event_request(settings, request, now(), token);
  if (refusal != EventRefusal::none) co_return refused(host->name, refusal, request.client);
  co_return co_await take(host, request.body, std::move(token), request.client);
}

asio::awaitable<EventAnswer> EventDesk::handle_sns(const config::Smarthost* host, const EventRequest* request) {
  const auto message = smtp::SnsMessage(parse_sns(request->body).value_or(smtp::SnsMessage{}));
  if (message.type.empty()) co_return refused(host->name, EventRefusal::malformed, request->client);
  const config::EspEvents& settings = *host->events;
  const EventRefusal refusal = check_sns(settings, message, now());
  if (refusal != EventRefusal::none) co_return refused(host->name, refusal, request->client);
  const std::string region = smtp::sns_topic_region(message.topic);
  SnsClient::Key signer{settings.key, ""};
  if (!signer.key)
    signer = co_await sns_.key(region, smtp::sns_certificate_target(message.certificate_url, region).value_or("/"));
  if (!signer.key) {
    log::warn("a certificate of SNS cannot be had: the event is not believed",
              {{"smarthost", host->name}, {"reason", signer.why}});
    co_return answer(503, "the signing certificate cannot be had");
  }
  if (!smtp::sns_signature_fits(*signer.key, message)) co_return refused(host->name, EventRefusal::signature, request->client);
  if (message.type == "Notification") co_return co_await take(host, message.message, "", request->client);
  if (message.type == "SubscriptionConfirmation") {
    tasks_.spawn(confirm(host->name, message.topic, smtp::sns_url_target(message.subscribe_url, region).value_or("/")), "SNS");
    co_return answer(200, "to be confirmed");
  }
  Event event;
  event.kind = "esp-events-unsubscribed";
  event.smarthost = host->name;
  event.text = message.topic + " is not subscribed any more";
  event.action = "no events come until the topic is subscribed again";
  context_.events.add(std::move(event));
  co_return answer(200, "noted");
}

asio::awaitable<void> EventDesk::confirm(std::string smarthost, std::string topic, std::string target) {
  const std::string region = smtp::sns_topic_region(topic);
  const std::string trouble = co_await sns_.confirm(region, target);
  Event event;
  event.kind = trouble.empty() ? "esp-events-subscribed" : "esp-events-refused";
  event.smarthost = smarthost;
  event.rule = "subscription";
  event.text = trouble.empty() ? topic + " is subscribed" : topic + " could not be subscribed: " + trouble;
  event.action = trouble.empty() ? "" : "ask SNS for another confirmation";
  context_.events.add(std::move(event));
}

asio::awaitable<EventAnswer> EventDesk::take(const config::Smarthost* host, std::string_view body, std::string token,
                                             routing::IpAddress client) {
  const config::EspEvents& settings = *host->events;
  routing::EspBatch batch = routing::parse_esp_events(settings.format, body, now());
  if (batch.malformed) {
    // What SNS says when SES tries a new destination is not JSON, and no fault.
    if (settings.format == routing::EspFormat::ses) co_return answer(200, "no event");
    co_return refused(host->name, EventRefusal::malformed, client);
  }
  EspDelivery delivery;
  delivery.smarthost = host->name;
  delivery.token = std::move(token);
  delivery.events = std::move(batch.events);
  delivery.dsn = settings.dsn;
  const auto& listener = context_.config->event_listener;
  if (listener && listener->forward) delivery.forward.assign(listener->forward->on.begin(), listener->forward->on.end());
  delivery.received = now();
  const EspTaken taken = co_await context_.mail.take(std::move(delivery));
  if (taken.failed) co_return answer(503, "the events could not be stored");
  if (taken.token_used) co_return refused(host->name, EventRefusal::replayed, client);
  context_.mail.metrics().update(host->name, [&](EspCounts& counts) {
    counts.repeated += taken.repeated;
    for (const auto& record : taken.fresh) {
      ++counts.events[static_cast<std::size_t>(record.kind)];
      if (!record.handover) ++counts.untied;
    }
  });
  told(taken);
  co_return answer(200, "taken " + std::to_string(taken.fresh.size()) + ", repeated " + std::to_string(taken.repeated));
}

void EventDesk::told(const EspTaken& taken) {
  for (const EspRecord& record : taken.fresh) {
    const std::string id = record.handover ? smtp::to_string(record.handover->message) : "";
    log::info("event of an ESP", {{"smarthost", record.smarthost},
                                  {"kind", std::string(to_string(record.kind))},
                                  {"id", id},
                                  {"to", record.recipient},
                                  {"esp_id", record.esp_id},
                                  {"diagnostic", record.diagnostic}});
    if (context_.hook) context_.hook(record);
    if (record.kind == EspEventKind::complained && record.handover && !stopping_)
      tasks_.spawn(tell_complaint(record), "complaint");
  }
  if (!taken.work) return;
  due_ = true;
  wake_.cancel();
  if (context_.forward) context_.forward();
}

/// Once an hour for each sender, with what came in a day.
asio::awaitable<void> EventDesk::tell_complaint(EspRecord record) {
  const std::string sender = record.handover->sender;
  const Deadline time = std::chrono::steady_clock::now();
  std::erase_if(complaints_told_, [&](const auto& entry) { return entry.second <= time; });
  if (complaints_told_.contains(sender) || complaints_told_.size() >= max_senders) co_return;
  complaints_told_[sender] = in(complaints_every);
  const std::int64_t count = co_await context_.mail.complaints(sender, now() - complaints_counted);
  Event event;
  event.kind = "complaints";
  event.smarthost = record.smarthost;
  event.sender = sender;
  event.message = smtp::to_string(record.handover->message);
  event.text = std::to_string(count) + (count == 1 ? " complaint" : " complaints") + " in a day about mail of this sender" +
               (record.handover->user.empty() ? "" : " (user " + record.handover->user + ")");
  event.action = "see what this sender sends and to whom; ESPs close accounts from 1 complaint in 1000 messages on";
  context_.events.add(std::move(event));
}

/// The DSNs that are due: at the start those that the last run left.
asio::awaitable<void> EventDesk::report_bounces() {
  while (!stopping_) {
    if (!std::exchange(due_, false)) {
      co_await sleep_until(Deadline::max());
      continue;
    }
    const std::vector<EspRecord> records = co_await context_.mail.due(EspWork::dsn, reports_at_once);
    if (records.empty()) continue;
    std::vector<std::int64_t> ids;
    for (const EspRecord& record : records) {
      if (stopping_) break;
      const bool reported = reported_.contains(record.id) || co_await report(&record);
      if (!reported) break;         // the spool would not take the next one either
      reported_.insert(record.id);  // one whose row cannot be marked must not be reported again
      ids.push_back(record.id);
    }
    const bool marked = co_await context_.mail.done(EspWork::dsn, ids);
    if (marked)
      for (const std::int64_t id : ids) reported_.erase(id);
    due_ = true;
    if (!marked || ids.size() < records.size()) co_await sleep_until(in(pause_in_trouble));
  }
}

/// True once the DSN is durable: the row is in another database, and a report that was only queued could be lost between
/// the two. A crash there tells the sender twice. False: the spool takes nothing now.
asio::awaitable<bool> EventDesk::report(const EspRecord* record) {
  const auto index = context_.config->smarthost_named(record->smarthost);
  const std::string host = index ? context_.config->smarthosts[*index].host : record->smarthost;
  const auto input = bounce_report(*record, context_.config->hostname, host, context_.spool.next_id(), now());
  if (!input) co_return true;
  const auto dsn = report_message(*input, record->handover->message_class);
  const spool::Trouble trouble = co_await context_.spool.accept(dsn);
  if (trouble != spool::Trouble::none) co_return false;
  context_.metrics.reports.add();
  context_.mail.metrics().total([](auto& totals) { ++totals.reports; });
  log::info("report to the sender", {{"id", smtp::to_string(input->dsn_id)},
                                     {"original", smtp::to_string(input->id)},
                                     {"to", input->sender.to_string()},
                                     {"action", "failed"},
                                     {"smarthost", record->smarthost}});
  context_.submit(dsn);
  co_return true;
}

asio::awaitable<void> EventDesk::sleep_until(Deadline when) {
  wake_.expires_at(when);
  if (stopping_ || (due_ && when == Deadline::max())) co_return;
  boost::system::error_code ignored;
  co_await wake_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

}  // namespace egret::relay
