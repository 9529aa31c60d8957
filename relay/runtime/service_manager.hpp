// What the program and a service manager tell each other: sockets passed at the start (sd_listen_fds(3)), the state of the
// program (sd_notify(3)), signs of life (sd_watchdog_enabled(3)). Without a service manager nothing happens.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace egret::relay {

namespace service_manager {

/// The descriptors passed, closed on exec from now on; the variables that named them are gone. Once, before there are threads.
/// Throws std::runtime_error with one line when the variables cannot be understood.
std::vector<int> passed_sockets();

// Any thread.
void ready();
/// Until the next ready(): a reload, or another program taking over.
void reloading();
void stopping();
/// One line for `systemctl status`.
void status(const std::string& line);
/// Now, whatever the workers say: something follows that takes its time.
void alive();
/// A start goes on: it may take another minute from now, and the watchdog, which is armed after a hand-over, is fed.
void starting();

}  // namespace service_manager

/// Tells the service manager regularly how the program is: one line of status, and, where a watchdog is set, that it lives: only
/// if every worker has run what it was given since the last time, so that a worker that hangs lets the watchdog trip.
/// Used from its executor's thread.
class ServiceReports {
 public:
  /// `workers` outlive it. `line` is called on the executor's thread.
  ServiceReports(const boost::asio::any_io_executor& executor, std::vector<boost::asio::any_io_executor> workers,
                 std::function<std::string()> line);

  void start();
  /// No more signs of life by the workers' word: they are going to end.
  void stop();

 private:
  void wait();
  void report();
  void ask_workers();

  std::vector<boost::asio::any_io_executor> workers_;
  std::function<std::string()> line_;
  boost::asio::steady_timer timer_;
  std::chrono::microseconds watchdog_{0};  ///< zero: none
  std::shared_ptr<std::size_t> answers_;   ///< of the round under way, counted on the executor's thread
  std::string told_;
  boost::asio::any_io_executor executor_;
};

}  // namespace egret::relay
