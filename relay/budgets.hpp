// The smarthosts' budgets and the sources' shaping in use, shared by all workers.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "config/config.hpp"
#include "relay/shaping.hpp"
#include "routing/budget.hpp"

namespace egret::relay {

class Budgets {
 public:
  explicit Budgets(const config::Config& config) { configure(config); }

  /// Another configuration (config::succeed): what was used stays used.
  void configure(const config::Config& config) {
    shaping.configure(config.topology.sources.size());
    const std::lock_guard lock(mutex_);
    uses_.resize(config.smarthosts.size());
    limited_.clear();
    budgets_.clear();
    for (const auto& smarthost : config.smarthosts) {
      limited_.push_back(smarthost.budget.has_value());
      // Without a budget the use of the day is counted all the same.
      budgets_.push_back(smarthost.budget.value_or(routing::Budget{UINT64_MAX, std::chrono::hours(24)}));
    }
  }

  /// Takes `recipients` from the budget of a smarthost, if they fit; without a budget they always do.
  bool charge(std::uint32_t smarthost, std::uint64_t recipients, routing::Time now) {
    const std::lock_guard lock(mutex_);
    changed_ = true;
    return routing::charge(uses_[smarthost], budgets_[smarthost], recipients, now);
  }
  void refund(std::uint32_t smarthost, std::uint64_t recipients, routing::Time now) {
    const std::lock_guard lock(mutex_);
    changed_ = true;
    routing::refund(uses_[smarthost], budgets_[smarthost], recipients, now);
  }
  /// When the present period ends.
  std::optional<routing::Time> renews(std::uint32_t smarthost, routing::Time now) const {
    const std::lock_guard lock(mutex_);
    if (!limited_[smarthost]) return std::nullopt;
    return routing::budget_window(budgets_[smarthost], now) + budgets_[smarthost].per;
  }
  routing::BudgetUse use(std::uint32_t smarthost) const {
    const std::lock_guard lock(mutex_);
    return uses_[smarthost];
  }
  /// Recipients in the present period.
  std::uint64_t used(std::uint32_t smarthost, routing::Time now) const {
    const std::lock_guard lock(mutex_);
    const auto& use = uses_[smarthost];
    return use.window == routing::budget_window(budgets_[smarthost], now) ? use.used : 0;
  }
  void restore(std::uint32_t smarthost, routing::BudgetUse use) { uses_[smarthost] = use; }
  /// True once after every change: time to save.
  bool take_changed() {
    const std::lock_guard lock(mutex_);
    return std::exchange(changed_, false);
  }

  Shaping shaping;

 private:
  mutable std::mutex mutex_;
  std::vector<routing::Budget> budgets_;
  std::vector<bool> limited_;
  std::vector<routing::BudgetUse> uses_;
  bool changed_ = false;
};

}  // namespace egret::relay
