// Structured concurrency: every coroutine belongs to a group, and whoever owns the group waits for it to be empty.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstddef>
#include <functional>
#include <string>

namespace egret::relay {

/// Used from one executor's thread only. Must be empty when it is destroyed.
class TaskGroup {
 public:
  explicit TaskGroup(const boost::asio::any_io_executor& executor) : executor_(executor), empty_(executor) {}
  ~TaskGroup();
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  /// Starts `task`. An exception that leaves it is logged with `name`: it ends that task and nothing else.
  void spawn(boost::asio::awaitable<void> task, const char* name);
  /// Returns when no task is left.
  boost::asio::awaitable<void> wait();
  /// The same, but from `deadline` on calls `break_off` again and again, until what is left has given up.
  boost::asio::awaitable<void> wait_or(std::chrono::steady_clock::time_point deadline, std::function<void()> break_off);
  std::size_t size() const { return size_; }

 private:
  boost::asio::any_io_executor executor_;
  boost::asio::steady_timer empty_;
  std::size_t size_ = 0;
};

}  // namespace egret::relay
