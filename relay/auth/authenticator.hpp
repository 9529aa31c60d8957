// Passwords of clients: checked on threads of their own, because a good hash takes tens of milliseconds, and failures
// remembered by client address, so that guessing gets slower and then stops.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "config/users.hpp"
#include "smtp/server_session.hpp"

namespace egret::relay {

/// How failed log-ins of one client address slow it down. `now` is monotonic time.
class LoginFailures {
 public:
  using Clock = std::chrono::steady_clock;

  /// Counts one more; how long the client waits for its answer: half a second, doubled by each further failure, at most 8 s.
  Clock::duration failed(const std::string& client, Clock::time_point now);
  void succeeded(const std::string& client);
  /// Ten failures, none longer than ten minutes after the one before it: not even tried any more.
  bool too_many(const std::string& client, Clock::time_point now);

 private:
  struct Entry {
    int failures = 0;
    Clock::time_point last;
  };
  Entry* find(const std::string& client, Clock::time_point now);

  std::mutex mutex_;
  std::map<std::string, Entry> clients_;
};

/// Thread-safe.
class Authenticator {
 public:
  Authenticator();
  ~Authenticator();

  /// Resumes on the caller's executor. `unavailable` when too many wait already.
  boost::asio::awaitable<smtp::AuthResult> verify(std::shared_ptr<const config::Users> users, std::string user,
                                                  std::string password);
  LoginFailures& failures() { return failures_; }
  /// For one SCRAM exchange.
  smtp::SaslServer::ScramInput scram_input(const config::Users* users) const;

 private:
  bool check(const config::Users& users, const std::string& user, const std::string& password);
  std::string fingerprint(const std::string& user, const std::string& secret, const std::string& password) const;

  LoginFailures failures_;
  std::string key_;  // of this process: fingerprints and fake salts
  std::atomic<int> waiting_{0};
  std::mutex mutex_;
  std::map<std::string, std::string> known_;  // user to the fingerprint of what was right the last time
  boost::asio::thread_pool pool_;
};

}  // namespace egret::relay
