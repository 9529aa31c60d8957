#include "relay/ingress/credentials.hpp"

#include <sys/stat.h>

#include <chrono>
#include <exception>

#include "relay/runtime/log.hpp"

namespace egret::relay {

std::string file_state(const std::string& path) {
  struct stat info {};
  if (path.empty() || stat(path.c_str(), &info) != 0) return {};
  return std::to_string(info.st_dev) + ':' + std::to_string(info.st_ino) + ':' + std::to_string(info.st_size) + ':' +
         std::to_string(info.st_mtim.tv_sec) + '.' + std::to_string(info.st_mtim.tv_nsec);
}

CredentialsWatch::CredentialsWatch(const boost::asio::any_io_executor& executor, std::shared_ptr<const config::Config> config,
                                   Publish publish)
    : timer_(executor), publish_(std::move(publish)) {
  Credentials current = read(*config);
  configure(std::move(config), std::move(current));
  publish_(current_);
}

/// One context for each listener: a session ticket of one is worth nothing at another.
Credentials CredentialsWatch::read(const config::Config& config) {
  Credentials out{config.users, {}};
  for (const auto& listener : config.listeners)
    out.tls.push_back(listener.tls == config::ListenerTls::none
                          ? nullptr
                          : TlsContext::server(config.tls.certificate, config.tls.key, listener.address));
  return out;
}

void CredentialsWatch::configure(std::shared_ptr<const config::Config> config, Credentials current) {
  config_ = std::move(config);
  current_ = std::move(current);
  tls_state_ = file_state(config_->tls.certificate) + file_state(config_->tls.key);
  users_state_ = file_state(config_->users_file);
}

void CredentialsWatch::load_users() {
  config::Problems problems;
  auto fresh = config::load_users(*config_, problems);
  for (const auto& problem : problems) log::error("users file", {{"problem", problem.to_string()}});
  if (!fresh) return log::error("the users stay as they were", {{"file", config_->users_file}});
  log::info("users read again", {{"file", config_->users_file}, {"count", std::to_string(fresh->size())}});
  current_.users = std::move(fresh);
}

void CredentialsWatch::check() {
  const std::string tls = file_state(config_->tls.certificate) + file_state(config_->tls.key);
  const std::string users = file_state(config_->users_file);
  if (tls == tls_state_ && users == users_state_) return;
  if (tls != tls_state_) {
    tls_state_ = tls;
    try {
      current_.tls = read(*config_).tls;
      log::info("certificate read again", {{"file", config_->tls.certificate}});
    } catch (const std::exception& e) {
      // Half of a new pair, most likely: the other half changes the state again.
      log::error("the certificate stays as it was", {{"reason", e.what()}});
    }
  }
  if (users != users_state_) {
    users_state_ = users;
    load_users();
  }
  publish_(current_);
}

void CredentialsWatch::start() {
  timer_.expires_after(std::chrono::seconds(1));
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    check();
    start();
  });
}

}  // namespace egret::relay
