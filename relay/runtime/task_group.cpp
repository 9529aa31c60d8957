#include "relay/runtime/task_group.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cassert>
#include <exception>

#include "relay/runtime/log.hpp"

namespace egret::relay {

TaskGroup::~TaskGroup() {
  assert(size_ == 0);
}

void TaskGroup::spawn(boost::asio::awaitable<void> task, const char* name) {
  ++size_;
  boost::asio::co_spawn(executor_, std::move(task), [this, name](std::exception_ptr failure) {
    if (failure) {
      try {
        std::rethrow_exception(failure);
      } catch (const std::exception& e) {
        log::error("task failed", {{"task", name}, {"error", e.what()}});
      }
    }
    if (--size_ == 0) empty_.cancel();
  });
}

boost::asio::awaitable<void> TaskGroup::wait() {
  while (size_ > 0) {
    empty_.expires_at(boost::asio::steady_timer::time_point::max());
    boost::system::error_code ignored;
    co_await empty_.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
  }
}

boost::asio::awaitable<void> TaskGroup::wait_or(std::chrono::steady_clock::time_point deadline, std::function<void()> break_off) {
  // A task that was broken off may begin something new before it notices: once is not enough.
  while (size_ > 0) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= deadline) break_off();
    empty_.expires_at(std::max(deadline, now + std::chrono::milliseconds(50)));
    boost::system::error_code ignored;
    co_await empty_.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
  }
}

}  // namespace egret::relay
