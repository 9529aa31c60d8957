#include "relay/esp/esp_feedback.hpp"

#include <boost/asio/post.hpp>
#include <utility>

#include "relay/runtime/log.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;

/// Whether a forwarder made under the one would be the same under the other.
bool same_forward(const config::Config& a, const config::Config& b) {
  const auto& one = a.event_listener;
  const auto& other = b.event_listener;
  if (!one || !other || a.dns != b.dns || a.hostname != b.hostname) return false;
  return one->forward == other->forward;
}

}  // namespace

EspFeedback::EspFeedback(const asio::any_io_executor& executor, std::shared_ptr<const config::Config> config, Events& events,
                         spool::Spool& spool, Metrics& metrics, InheritedSockets& inherited)
    : executor_(executor), config_(std::move(config)), events_(events), spool_(spool), metrics_(metrics) {
  Next first = prepare(config_, &inherited);
  mail_ = std::move(first.mail);
  desk_ = std::move(first.desk);
  server_ = std::move(first.server);
  forwarder_ = std::move(first.forwarder);
}

void EspFeedback::start() {
  if (desk_) desk_->start();
  if (forwarder_) forwarder_->start();
  start_server();
}

void EspFeedback::start_server() {
  if (!server_) return;
  server_->start();
  log::info("listening", {{"address", server_->address()}, {"protocol", "events of ESPs"}});
}

void EspFeedback::submit(std::shared_ptr<const spool::Message> dsn) const {
  Dispatcher* dispatcher = dispatchers_[static_cast<std::uint64_t>(dsn->id) % dispatchers_.size()];
  asio::post(dispatcher->executor(), [dispatcher, dsn = std::move(dsn)] { dispatcher->submit(dsn); });
}

asio::awaitable<void> EspFeedback::stop(bool keep_open) {
  if (desk_) desk_->break_off();
  if (server_) co_await server_->stop(keep_open);
  if (forwarder_) co_await forwarder_->stop();
  if (desk_) co_await desk_->stop();
}

EspFeedback::Next EspFeedback::prepare(const std::shared_ptr<const config::Config>& config, InheritedSockets* inherited) {
  Next out;
  const auto& listener = config->event_listener;
  if (!listener) return out;
  if (!mail_) out.mail = std::make_unique<EspMail>(config->data_dir, *listener);
  EspMail& mail = mail_ ? *mail_ : *out.mail;
  if (!desk_)
    out.desk = std::make_unique<EventDesk>(
        executor_, EventDeskContext{config, mail, events_, spool_, metrics_,
                                    [this](const EspRecord& record) {
                                      if (hook_) hook_(record);
                                    },
                                    [this] {
                                      if (forwarder_) forwarder_->wake();
                                    },
                                    [this](std::shared_ptr<const spool::Message> dsn) { submit(std::move(dsn)); }});
  if (server_ && server_->address() == listener->address)
    out.tls = EventServer::tls_of(*listener);
  else
    out.server = std::make_unique<EventServer>(executor_, listener, desk_ ? *desk_ : *out.desk, inherited);
  out.keeps_forwarder = forwarder_ && same_forward(*config_, *config);
  if (listener->forward && !out.keeps_forwarder) out.forwarder = std::make_unique<EventForwarder>(executor_, config, mail);
  return out;
}

void EspFeedback::adopt_memory(Next& next, std::shared_ptr<const config::Config> config) {
  if (next.mail) mail_ = std::move(next.mail);
  config_ = std::move(config);
  if (EspMail* in_use = mail()) in_use->configure(*config_->event_listener);
}

asio::awaitable<void> EspFeedback::adopt(Next next) {
  const auto& listener = config_->event_listener;
  if (next.desk) {
    desk_ = std::move(next.desk);
    desk_->start();
  } else if (desk_) {
    desk_->configure(config_);
  }
  std::unique_ptr<EventServer> former;
  if (next.server || !listener) {
    former = std::exchange(server_, std::move(next.server));
    start_server();
  } else {
    server_->configure(listener, next.tls);
  }
  std::unique_ptr<EventForwarder> former_forwarder;
  if (!next.keeps_forwarder) {
    former_forwarder = std::exchange(forwarder_, std::move(next.forwarder));
    if (forwarder_) forwarder_->start();
  }
  if (former) co_await former->stop(false);
  if (former_forwarder) co_await former_forwarder->stop();
}

}  // namespace egret::relay
