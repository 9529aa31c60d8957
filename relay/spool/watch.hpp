// Looks at the spool ten times a second and makes an event when it begins or ceases to take mail, or when the disk is slow.
// The writer is not bothered.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>

#include "relay/reputation/events.hpp"
#include "relay/spool/spool.hpp"

namespace egret::relay::spool {

/// Lives on the control thread. Both must outlive it.
class Watch {
 public:
  Watch(const boost::asio::any_io_executor& executor, const Spool& spool, Events& events)
      : timer_(executor), spool_(spool), events_(events) {}
  void start() { look(); }
  void stop() { timer_.cancel(); }

 private:
  void look();
  void tell(Trouble from, Trouble to);
  void look_at_syncs();

  boost::asio::steady_timer timer_;
  const Spool& spool_;
  Events& events_;
  Trouble last_ = Trouble::none;
  std::chrono::steady_clock::time_point slow_told_{};
};

}  // namespace egret::relay::spool
