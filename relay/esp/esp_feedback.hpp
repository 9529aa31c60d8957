// All that is about ESPs' events, as the program needs it: what deliveries write to, what listens, and how a reload changes
// them.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <functional>
#include <memory>
#include <vector>

#include "config/config.hpp"
#include "relay/delivery/dispatcher.hpp"
#include "relay/esp/esp_mail.hpp"
#include "relay/esp/event_desk.hpp"
#include "relay/esp/event_forward.hpp"
#include "relay/esp/event_server.hpp"

namespace egret::relay {

/// Lives on the control thread; the memory is for any.
class EspFeedback {
 public:
  /// Opens the memory and listens, where the configuration has esp_events, on sockets of its address that were inherited, or
  /// else on one of its own. Throws std::runtime_error with a line for people.
  EspFeedback(const boost::asio::any_io_executor& executor, std::shared_ptr<const config::Config> config, Events& events,
              spool::Spool& spool, Metrics& metrics, InheritedSockets& inherited);

  /// Where deliveries are noted under the present configuration; null: nowhere.
  EspMail* mail() const { return config_->event_listener ? mail_.get() : nullptr; }
  /// What is known, whether or not more comes; null: nothing was ever noted in this run.
  EspMail* memory() const { return mail_.get(); }
  /// Those that DSNs are given to. Called once, before start().
  void connect(std::vector<Dispatcher*> dispatchers) { dispatchers_ = std::move(dispatchers); }
  /// Called on the control thread for each new event of an ESP, once. Called once, before start().
  void on_event(std::function<void(const EspRecord&)> hook) { hook_ = std::move(hook); }
  void start();
  /// With `keep_open` the listening sockets stay open, for release().
  boost::asio::awaitable<void> stop(bool keep_open);
  /// After stop(): their descriptors, now the caller's.
  std::vector<int> release() { return server_ ? server_->release() : std::vector<int>{}; }

  /// What another configuration needs and this one has not.
  struct Next {
    std::unique_ptr<EspMail> mail;
    std::unique_ptr<EventDesk> desk;
    std::unique_ptr<EventServer> server;
    std::shared_ptr<TlsContext> tls;
    std::unique_ptr<EventForwarder> forwarder;
    bool keeps_forwarder = false;
  };
  /// Does what may fail, and changes nothing. Throws std::runtime_error.
  Next prepare(const std::shared_ptr<const config::Config>& config, InheritedSockets* inherited = nullptr);
  /// The memory first: workers are given it with their configuration.
  void adopt_memory(Next& next, std::shared_ptr<const config::Config> config);
  boost::asio::awaitable<void> adopt(Next next);

 private:
  void start_server();
  void submit(std::shared_ptr<const spool::Message> dsn) const;

  boost::asio::any_io_executor executor_;
  std::shared_ptr<const config::Config> config_;
  Events& events_;
  spool::Spool& spool_;
  Metrics& metrics_;
  std::vector<Dispatcher*> dispatchers_;
  std::function<void(const EspRecord&)> hook_;
  std::unique_ptr<EspMail> mail_;
  std::unique_ptr<EventDesk> desk_;
  std::unique_ptr<EventForwarder> forwarder_;
  std::unique_ptr<EventServer> server_;
};

}  // namespace egret::relay
