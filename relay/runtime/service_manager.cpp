#include "relay/runtime/service_manager.hpp"

#include <systemd/sd-daemon.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cstring>
#include <ctime>
#include <stdexcept>

namespace egret::relay {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;

constexpr std::chrono::microseconds status_every = 5s;

void tell(const std::string& state) {
  sd_notify(0, state.c_str());
}

}  // namespace

namespace service_manager {

std::vector<int> passed_sockets() {
  const int count = sd_listen_fds(1);
  if (count < 0) throw std::runtime_error(std::string("LISTEN_FDS, LISTEN_PID: ") + std::strerror(-count));
  std::vector<int> out;
  for (int i = 0; i < count; ++i) out.push_back(SD_LISTEN_FDS_START + i);
  return out;
}

void ready() {
  tell("READY=1");
}

void reloading() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);  // the clock that MONOTONIC_USEC is defined by
  tell("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(now.tv_sec * 1'000'000ll + now.tv_nsec / 1000));
}

void stopping() {
  tell("STOPPING=1");
}

void status(const std::string& line) {
  tell("STATUS=" + line);
}

void alive() {
  tell("WATCHDOG=1");
}

void starting() {
  tell("WATCHDOG=1\nEXTEND_TIMEOUT_USEC=60000000");
}

}  // namespace service_manager

ServiceReports::ServiceReports(const asio::any_io_executor& executor, std::vector<asio::any_io_executor> workers,
                               std::function<std::string()> line)
    : workers_(std::move(workers)), line_(std::move(line)), timer_(executor), executor_(executor) {
  std::uint64_t period = 0;
  if (sd_watchdog_enabled(0, &period) > 0) watchdog_ = std::chrono::microseconds(period);
}

void ServiceReports::start() {
  service_manager::ready();
  if (watchdog_ > 0us) {
    service_manager::alive();
    ask_workers();
  }
  report();
}

void ServiceReports::stop() {
  timer_.cancel();
  watchdog_ = 0us;
}

void ServiceReports::wait() {
  // Four turns in a period: a busy worker may be late for one or two.
  timer_.expires_after(watchdog_ > 0us ? std::min(status_every, watchdog_ / 4) : status_every);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) report();
  });
}

void ServiceReports::report() {
  std::string line = line_();
  if (line != told_) service_manager::status(line);
  told_ = std::move(line);
  if (watchdog_ > 0us && answers_ && *answers_ == workers_.size()) {
    service_manager::alive();
    ask_workers();
  }
  wait();
}

void ServiceReports::ask_workers() {
  answers_ = std::make_shared<std::size_t>(0);
  for (const auto& worker : workers_)
    asio::post(worker, [home = executor_, answers = answers_] { asio::post(home, [answers] { ++*answers; }); });
}

}  // namespace egret::relay
