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
  /// Before a try, which counts as a failure while it is under way; false: too many. end() must follow a true.
  bool begin(const std::string& client, Clock::time_point now);
  void end(const std::string& client);

 private:
  struct Entry {
    int failures = 0;
    int trying = 0;
    Clock::time_point last;
  };
  Entry& entry(const std::string& client, Clock::time_point now);
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
  /// What waits is answered `unavailable` from now on: the program stops.
  void stop() { stopping_ = true; }
  /// For one SCRAM exchange.
  smtp::SaslServer::ScramInput scram_input(const config::Users* users) const;

 private:
  bool remembered(const config::User& user, const std::string& password);
  bool check(const config::Users& users, const std::string& user, const std::string& password);
  std::string fingerprint(const config::User& user, const std::string& password) const;

  LoginFailures failures_;
  std::string key_;  // of this process: fingerprints and fake salts
  std::atomic<int> waiting_{0};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::map<std::string, std::string> known_;  // user to the fingerprint of what was right the last time
  boost::asio::thread_pool pool_;
};

}  // namespace egret::relay
