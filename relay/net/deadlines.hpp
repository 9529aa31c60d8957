// Deadlines of all connections of one worker, looked at ten times a second. Setting one is a store, so that a
// connection costs no timer operation per command.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstddef>
#include <vector>

#include "relay/runtime/clock.hpp"

namespace egret::relay {

/// Something that can be made to fail its pending operations.
class Expirable {
 public:
  virtual ~Expirable() = default;
  /// Called when the deadline has passed or the worker stops; pending and later operations fail.
  virtual void expire() = 0;

  Deadline deadline = Deadline::max();

 private:
  friend class Deadlines;
  std::size_t slot_ = 0;
};

/// Used from one thread only.
class Deadlines {
 public:
  explicit Deadlines(const boost::asio::any_io_executor& executor) : timer_(executor) {}

  void add(Expirable& item);
  void remove(Expirable& item);
  /// Expires everything that is registered now.
  void expire_all();

 private:
  void arm();
  void look();

  boost::asio::steady_timer timer_;
  std::vector<Expirable*> items_;
  bool armed_ = false;
};

}  // namespace egret::relay
