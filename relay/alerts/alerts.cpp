#include "relay/alerts/alerts.hpp"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <deque>

#include "relay/alerts/fold.hpp"
#include "relay/alerts/mail.hpp"
#include "relay/alerts/webhook.hpp"
#include "relay/runtime/log.hpp"
#include "relay/runtime/task_group.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;

constexpr std::size_t max_undescribed = 1000;  // alerts that wait for the queue to be counted
constexpr auto counts_last = 5s;               // counting goes through all that waits: not for every alert of a burst

/// One entry of `alerts`: one of the two is there.
struct Receiver {
  const config::AlertTarget* config = nullptr;
  AlertCounters* counters = nullptr;
  std::unique_ptr<WebhookTarget> webhook;
  std::unique_ptr<MailTarget> mail;
};

/// A turn goes to those who asked for its kind, a summary to those who asked for anything in it.
bool wants(const Receiver& target, const Alert& alert) {
  if (target.mail && !target.mail->wants(alert.event)) return false;
  const auto& on = target.config->on;
  if (alert.phase == Alert::Phase::opened || alert.phase == Alert::Phase::changed) return on.contains(alert.event.kind);
  return std::ranges::any_of(alert.counts, [&](const auto& entry) { return on.contains(entry.first); });
}

asio::awaitable<QueueSummary> count(Dispatcher* dispatcher) {
  QueueFilter filter;
  filter.limit = 0;
  co_return dispatcher->queue(filter);
}

}  // namespace

class Alerts::Impl {
 public:
  Impl(const asio::any_io_executor& executor, AlertsContext context)
      : context_(std::move(context)), described_by_(context_.config), wake_(executor), tasks_(executor) {
    const config::Config& config = *context_.config;
    for (std::size_t i = 0; i < config.alerts.size(); ++i) {
      Receiver& target = targets_.emplace_back();
      target.config = &config.alerts[i];
      target.counters = &context_.metrics.alerts[i];
      if (const auto& webhook = target.config->webhook)
        target.webhook = std::make_unique<WebhookTarget>(executor, config, *webhook, *target.counters);
      if (const auto& mail = target.config->mail)
        target.mail =
            std::make_unique<MailTarget>(executor, config, *mail, context_.spool, context_.dispatchers, *target.counters);
    }
  }

  /// The targets stay; what they are told speaks of the new configuration.
  void configure(std::shared_ptr<const config::Config> config) { described_by_ = std::move(config); }

  void start() {
    subscription_ = context_.events.subscribe([this](const Event& event) { hear(event); });
    for (auto& target : targets_) {
      if (target.webhook) senders_.spawn(target.webhook->run(), "webhook");
      if (target.mail) senders_.spawn(target.mail->run(), "alert mail");
    }
    tasks_.spawn(run(), "alerts");
  }

  asio::awaitable<void> stop(Deadline deadline) {
    stopping_ = true;
    context_.events.unsubscribe(subscription_);
    wake_.cancel();
    co_await tasks_.wait();
    for (auto& target : targets_) {
      if (target.webhook) target.webhook->stop();
      if (target.mail) target.mail->stop();
    }
    co_await senders_.wait_or(deadline, [this] { break_off(); });
  }

 private:
  void hear(const Event& event) {
    if (auto alert = fold_.add(event, event.time))
      push(std::move(*alert));
    else
      context_.metrics.alerts_folded.add();
    wake_.cancel();
  }

  void push(Alert alert) {
    const auto wanted = [&](const Receiver& target) { return wants(target, alert); };
    if (std::ranges::none_of(targets_, wanted)) return;
    if (undescribed_.size() < max_undescribed) return undescribed_.push_back(std::move(alert));
    for (auto& target : targets_)
      if (wanted(target)) target.counters->dropped.add();
    log::error("alert dropped", {{"alert", alert.event.kind + ' ' + alert.id}, {"reason", "too many alerts wait"}});
  }

  asio::awaitable<void> run() {
    while (!stopping_ || !undescribed_.empty()) {
      for (auto& alert : fold_.due(now())) push(std::move(alert));
      if (undescribed_.empty()) {
        co_await sleep();
        continue;
      }
      co_await count_queue();
      while (!undescribed_.empty()) {
        const Notice notice = describe(undescribed_.front(), *described_by_, queue_);
        undescribed_.pop_front();
        for (auto& target : targets_) {
          if (!wants(target, notice.alert)) continue;
          if (target.webhook) target.webhook->add(notice);
          if (target.mail) target.mail->add(notice);
        }
      }
    }
  }

  asio::awaitable<void> sleep() {
    const auto next = fold_.next_due();
    // Summaries are due by the wall clock, which may be set: it is looked at once a minute.
    const auto pause = next ? std::clamp<routing::Duration>(*next - now(), 10ms, 1min) : routing::Duration(1min);
    wake_.expires_after(pause);
    boost::system::error_code ignored;
    co_await wake_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }

  asio::awaitable<void> count_queue() {
    if (counted_at_ && *counted_at_ + counts_last > std::chrono::steady_clock::now()) co_return;
    QueueCounts counts;
    for (Dispatcher* dispatcher : context_.dispatchers) {
      const QueueSummary part = co_await asio::co_spawn(dispatcher->executor(), count(dispatcher), asio::use_awaitable);
      for (const auto& [index, n] : part.by_class) counts[index] += n;
    }
    queue_ = std::move(counts);
    counted_at_ = std::chrono::steady_clock::now();
  }

  void break_off() {
    for (auto& target : targets_)
      if (target.webhook) target.webhook->break_off();
  }

  AlertsContext context_;
  std::shared_ptr<const config::Config> described_by_;
  AlertFold fold_;
  std::vector<Receiver> targets_;
  std::deque<Alert> undescribed_;
  QueueCounts queue_;
  std::optional<Deadline> counted_at_;
  std::uint64_t subscription_ = 0;
  bool stopping_ = false;
  asio::steady_timer wake_;
  TaskGroup senders_{wake_.get_executor()};
  TaskGroup tasks_;
};

Alerts::Alerts(const asio::any_io_executor& executor, AlertsContext context)
    : impl_(std::make_unique<Impl>(executor, std::move(context))) {}
Alerts::~Alerts() = default;

void Alerts::configure(std::shared_ptr<const config::Config> config) {
  impl_->configure(std::move(config));
}

void Alerts::start() {
  impl_->start();
}

asio::awaitable<void> Alerts::stop(Deadline deadline) {
  return impl_->stop(deadline);
}

}  // namespace egret::relay
