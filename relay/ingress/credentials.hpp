// The certificate and the users: read again whenever their files change, so that neither needs a restart.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "relay/net/tls.hpp"

namespace egret::relay {

/// What the listeners of a worker use. Sessions take it as it is when they need it.
struct Credentials {
  std::shared_ptr<const config::Users> users;
  std::vector<std::shared_ptr<TlsContext>> tls;  ///< by listener; null where it has none
};

/// What identifies one state of a file; empty when it is not there.
std::string file_state(const std::string& path);

/// On the control thread.
class CredentialsWatch {
 public:
  using Publish = std::function<void(const Credentials&)>;

  /// Reads everything once and publishes it. Throws std::runtime_error when the certificate cannot be used.
  CredentialsWatch(const boost::asio::any_io_executor& executor, std::shared_ptr<const config::Config> config, Publish publish);
  /// Looks at the files every second from now on.
  void start();
  void stop() { timer_.cancel(); }
  /// What `config` names, read. Throws std::runtime_error when the certificate cannot be used.
  static Credentials read(const config::Config& config);
  /// Another configuration, whose credentials are `current`: those files are looked at from now on. Publishes nothing.
  void configure(std::shared_ptr<const config::Config> config, Credentials current);
  const Credentials& current() const { return current_; }
  /// Reads what has changed. What cannot be used is reported, and the old stays.
  void check();

 private:
  void load_users();

  boost::asio::steady_timer timer_;
  std::shared_ptr<const config::Config> config_;
  Publish publish_;
  Credentials current_;
  std::string tls_state_;
  std::string users_state_;
};

}  // namespace egret::relay
