// Looks at the budgets of smarthosts and classes once a second and makes an event when one is used to half, to four
// fifths or wholly, once each in a period, over restarts too. The workers that charge them are not bothered.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>

#include "relay/budgets.hpp"
#include "relay/reputation/events.hpp"

namespace egret::relay {

/// Lives on the control thread.
class BudgetWatch {
 public:
  BudgetWatch(const boost::asio::any_io_executor& executor, Budgets& budgets, Events& events);
  void start() { look(); }
  void stop() { timer_.cancel(); }

 private:
  void look();
  void tell(const BudgetNews& news);

  boost::asio::steady_timer timer_;
  Budgets& budgets_;
  Events& events_;
};

}  // namespace egret::relay
