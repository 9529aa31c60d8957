#include "relay/esp/event_forward.hpp"

#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json.hpp>
#include <utility>

#include "relay/runtime/clock.hpp"
#include "relay/runtime/log.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using namespace std::chrono_literals;

constexpr std::size_t batch_size = 100;
constexpr auto pause_in_trouble = 30s;

}  // namespace

std::string forwarded_events(const std::vector<EspRecord>& records, const std::string& hostname) {
  json::array events;
  for (const EspRecord& r : records) {
    const auto& h = r.handover;
    events.push_back(json::object{{"id", r.id},
                                  {"time", routing::to_rfc3339(r.time)},
                                  {"kind", to_string(r.kind)},
                                  {"smarthost", r.smarthost},
                                  {"esp_id", r.esp_id},
                                  {"message", h ? smtp::to_string(h->message) : std::string()},
                                  {"sender", h ? h->sender : std::string()},
                                  {"class", h ? h->message_class : std::string()},
                                  {"recipient", r.recipient},
                                  {"diagnostic", r.diagnostic},
                                  {"status", r.status},
                                  {"permanent", r.permanent}});
  }
  return json::serialize(json::object{{"version", 1}, {"kind", "esp-events"}, {"host", hostname}, {"events", std::move(events)}});
}

EventForwarder::EventForwarder(const asio::any_io_executor& executor, std::shared_ptr<const config::Config> config, EspMail& mail)
    : config_(std::move(config)),
      mail_(mail),
      post_(executor, config_->dns, target().webhook),
      random_(std::random_device{}()),
      timer_(executor),
      tasks_(executor) {}

void EventForwarder::start() {
  tasks_.spawn(run(), "events to the operator");
}

void EventForwarder::wake() {
  due_ = true;
  if (attempts_ == 0) timer_.cancel();  // a receiver in trouble keeps its pause
}

asio::awaitable<void> EventForwarder::stop() {
  stopping_ = true;
  post_.break_off();
  timer_.cancel();
  co_await tasks_.wait();
}

asio::awaitable<void> EventForwarder::run() {
  while (!stopping_) {
    if (!std::exchange(due_, false)) {
      co_await sleep_until(Deadline::max());
      continue;
    }
    std::vector<EspRecord> records = co_await mail_.due(EspWork::forward, batch_size);
    if (records.empty()) continue;
    due_ = true;
    std::vector<std::int64_t> ids;
    for (const auto& record : records) ids.push_back(record.id);
    const auto oldest = now() - target().webhook.max_age;
    std::erase_if(records, [&](const EspRecord& r) { return posted_.contains(r.id); });
    const auto late = std::erase_if(records, [&](const EspRecord& r) { return r.received < oldest; });
    if (late > 0) {
      mail_.metrics().total([&](auto& totals) { totals.forward_dropped += late; });
      log::error("events were not taken in time and are not sent on",
                 {{"to", target().webhook.url.origin()}, {"events", std::to_string(late)}});
    }
    if (!records.empty()) {
      const bool settled = co_await post(&records);
      if (!settled) continue;
    }
    posted_.insert(ids.begin(), ids.end());
    const bool marked = co_await mail_.done(EspWork::forward, ids);
    if (marked)
      for (const std::int64_t id : ids) posted_.erase(id);
    else
      co_await sleep_until(in(pause_in_trouble));
  }
}

/// True when there is nothing more to do with them. Else a pause is over.
asio::awaitable<bool> EventForwarder::post(const std::vector<EspRecord>* records) {
  const std::string body = forwarded_events(*records, config_->hostname);
  WebhookVerdict verdict = WebhookVerdict::again;
  const std::string trouble = co_await post_.attempt(&body, &verdict);
  const std::string count = std::to_string(records->size());
  if (verdict == WebhookVerdict::taken) {
    attempts_ = 0;
    mail_.metrics().total([&](auto& totals) { totals.forwarded += records->size(); });
    co_return true;
  }
  if (stopping_) co_return false;
  if (verdict == WebhookVerdict::refused) {
    attempts_ = 0;
    mail_.metrics().total([&](auto& totals) { totals.forward_dropped += records->size(); });
    log::error("events were refused and are not sent on",
               {{"to", target().webhook.url.origin()}, {"events", count}, {"reason", trouble}});
    co_return true;
  }
  ++attempts_;
  mail_.metrics().total([](auto& totals) { ++totals.forward_retried; });
  log::warn(
      "events not taken, tried again",
      {{"to", target().webhook.url.origin()}, {"events", count}, {"attempts", std::to_string(attempts_)}, {"reason", trouble}});
  const double draw = std::uniform_real_distribution<double>(0, 1)(random_);
  co_await sleep_until(in(webhook_pause(attempts_, draw)));
  co_return false;
}

asio::awaitable<void> EventForwarder::sleep_until(Deadline when) {
  timer_.expires_at(when);
  if (stopping_ || (due_ && when == Deadline::max())) co_return;
  boost::system::error_code ignored;
  co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

}  // namespace egret::relay
