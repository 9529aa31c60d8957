// Looks at the smarthosts' budgets once a second and makes an event when one is nearly or wholly used up. The workers
// that charge them are not bothered.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <optional>
#include <vector>

#include "config/config.hpp"
#include "relay/budgets.hpp"
#include "relay/reputation/events.hpp"
#include "routing/budget_stage.hpp"

namespace egret::relay {

/// Lives on the control thread.
class BudgetWatch {
 public:
  BudgetWatch(const boost::asio::any_io_executor& executor, std::shared_ptr<const config::Config> config, const Budgets& budgets,
              Events& events);
  /// What was so already when the program ended is no news.
  void start();
  void stop();
  /// Another configuration (config::succeed).
  void configure(std::shared_ptr<const config::Config> config);

 private:
  struct Told {
    routing::BudgetStage stage = routing::BudgetStage::plenty;
    std::optional<routing::Time> renews;  ///< the end of the period that it was told in
  };

  routing::BudgetStage stage(std::uint32_t smarthost) const;
  void look();
  void tell(std::uint32_t smarthost, routing::BudgetStage from, routing::BudgetStage to);

  boost::asio::steady_timer timer_;
  std::shared_ptr<const config::Config> config_;
  const Budgets& budgets_;
  Events& events_;
  std::vector<Told> told_;  ///< by smarthost
};

}  // namespace egret::relay
