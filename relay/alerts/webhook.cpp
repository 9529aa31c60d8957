#include "relay/alerts/webhook.hpp"

#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "relay/runtime/log.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;

}  // namespace

WebhookTarget::WebhookTarget(const asio::any_io_executor& executor, const config::Config& config, const config::Webhook& webhook,
                             AlertCounters& counters)
    : config_(config),
      webhook_(webhook),
      counters_(counters),
      post_(executor, config.dns, webhook),
      wake_(executor),
      random_(std::random_device{}()) {}

void WebhookTarget::add(const Notice& notice) {
  if (broken_off_) return;
  if (queue_.size() >= max_queue) {
    drop(queue_.front(), "too many alerts wait");
    queue_.pop_front();
  }
  const Alert& alert = notice.alert;
  queue_.push_back({alert.event.kind + ' ' + alert.id + '/' + std::to_string(alert.sequence), to_json(notice, config_.hostname),
                    in(webhook_.max_age), 0});
  wake_.cancel();
}

asio::awaitable<void> WebhookTarget::run() {
  while (!broken_off_ && (!stopping_ || !queue_.empty())) {
    if (queue_.empty()) {
      co_await sleep_until(Deadline::max());
      continue;
    }
    Item item = std::move(queue_.front());
    queue_.pop_front();
    co_await post(&item);
  }
  for (const Item& item : queue_) drop(item, "the program stops");
  queue_.clear();
}

/// Until it is taken or dropped.
asio::awaitable<void> WebhookTarget::post(Item* item) {
  for (;;) {
    WebhookVerdict verdict = WebhookVerdict::again;
    const bool last = stopping_;
    const std::string trouble = co_await post_.attempt(&item->body, &verdict);
    ++item->attempts;
    if (verdict == WebhookVerdict::taken) {
      counters_.sent.add();
      log::debug("alert sent", {{"to", webhook_.url.origin()}, {"alert", item->name}});
      co_return;
    }
    if (verdict == WebhookVerdict::refused) co_return drop(*item, trouble);
    if (broken_off_ || last) co_return drop(*item, trouble + "; the program stops");
    const double draw = std::uniform_real_distribution<double>(0, 1)(random_);
    const Deadline next = in(webhook_pause(item->attempts, draw));
    if (next >= item->dropped_at) co_return drop(*item, trouble + "; tried " + std::to_string(item->attempts) + " times");
    log::warn("alert not taken, tried again", {{"to", webhook_.url.origin()},
                                               {"alert", item->name},
                                               {"attempts", std::to_string(item->attempts)},
                                               {"reason", trouble}});
    while (!stopping_ && std::chrono::steady_clock::now() < next) co_await sleep_until(next);
    counters_.retried.add();
  }
}

asio::awaitable<void> WebhookTarget::sleep_until(Deadline when) {
  wake_.expires_at(when);
  boost::system::error_code ignored;
  co_await wake_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

void WebhookTarget::stop() {
  stopping_ = true;
  wake_.cancel();
}

void WebhookTarget::break_off() {
  stopping_ = broken_off_ = true;
  post_.break_off();
  wake_.cancel();
}

void WebhookTarget::drop(const Item& item, const std::string& reason) {
  counters_.dropped.add();
  log::error("alert dropped", {{"to", webhook_.url.origin()}, {"alert", item.name}, {"reason", reason}});
}

}  // namespace egret::relay
