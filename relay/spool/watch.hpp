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
  /// `low`: mail of lesser classes is not accepted any more.
  enum class State { accepting, low, full, broken };

  Watch(const boost::asio::any_io_executor& executor, const Spool& spool, Events& events)
      : timer_(executor), spool_(spool), events_(events) {}
  void start() { look(); }
  void stop() { timer_.cancel(); }

 private:
  void look();
  State present() const;
  void tell(State from, State to);
  void look_at_syncs();

  boost::asio::steady_timer timer_;
  const Spool& spool_;
  Events& events_;
  State last_ = State::accepting;
  std::chrono::steady_clock::time_point slow_told_{};
};

}  // namespace egret::relay::spool
