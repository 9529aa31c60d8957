// The smarthosts' budgets in use, shared by all workers.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "config/config.hpp"
#include "routing/budget.hpp"

namespace egret::relay {

class Budgets {
 public:
  explicit Budgets(const config::Config& config) : uses_(config.smarthosts.size()) {
    for (const auto& smarthost : config.smarthosts) budgets_.push_back(smarthost.budget);
  }

  /// Takes `recipients` from the budget of a smarthost; true where there is none.
  bool charge(std::uint32_t smarthost, std::uint64_t recipients, routing::Time now) {
    if (!budgets_[smarthost]) return true;
    const std::lock_guard lock(mutex_);
    changed_ = true;
    return routing::charge(uses_[smarthost], *budgets_[smarthost], recipients, now);
  }
  void refund(std::uint32_t smarthost, std::uint64_t recipients, routing::Time now) {
    if (!budgets_[smarthost]) return;
    const std::lock_guard lock(mutex_);
    changed_ = true;
    routing::refund(uses_[smarthost], *budgets_[smarthost], recipients, now);
  }
  /// When the present period ends.
  std::optional<routing::Time> renews(std::uint32_t smarthost, routing::Time now) const {
    if (!budgets_[smarthost]) return std::nullopt;
    return routing::budget_window(*budgets_[smarthost], now) + budgets_[smarthost]->per;
  }
  routing::BudgetUse use(std::uint32_t smarthost) const {
    const std::lock_guard lock(mutex_);
    return uses_[smarthost];
  }
  void restore(std::uint32_t smarthost, routing::BudgetUse use) { uses_[smarthost] = use; }
  /// True once after every change: time to save.
  bool take_changed() {
    const std::lock_guard lock(mutex_);
    return std::exchange(changed_, false);
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::optional<routing::Budget>> budgets_;
  std::vector<routing::BudgetUse> uses_;
  bool changed_ = false;
};

}  // namespace egret::relay
