#include "relay/reputation/budget_watch.hpp"

#include "relay/runtime/clock.hpp"

namespace egret::relay {

using routing::BudgetStage;

BudgetWatch::BudgetWatch(const boost::asio::any_io_executor& executor, std::shared_ptr<const config::Config> config,
                         const Budgets& budgets, Events& events)
    : timer_(executor), config_(std::move(config)), budgets_(budgets), events_(events) {}

void BudgetWatch::start() {
  for (std::uint32_t i = 0; i < config_->smarthosts.size(); ++i) told_.push_back({stage(i), budgets_.renews(i, now())});
  look();
}

void BudgetWatch::stop() {
  timer_.cancel();
}

BudgetStage BudgetWatch::stage(std::uint32_t smarthost) const {
  const auto& budget = config_->smarthosts[smarthost].budget;
  return budget ? routing::budget_stage(budgets_.used(smarthost, now()), *budget) : BudgetStage::plenty;
}

void BudgetWatch::look() {
  for (std::uint32_t i = 0; i < told_.size(); ++i) {
    const auto renews = budgets_.renews(i, now());
    if (told_[i].renews != renews) told_[i] = {BudgetStage::plenty, renews};
    const BudgetStage present = stage(i);
    // Attempts take and give back: what was told once holds for the period.
    if (present <= told_[i].stage) continue;
    tell(i, told_[i].stage, present);
    told_[i].stage = present;
  }
  timer_.expires_after(std::chrono::seconds(1));
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) look();
  });
}

void BudgetWatch::tell(std::uint32_t smarthost, BudgetStage from, BudgetStage to) {
  const routing::Budget& budget = *config_->smarthosts[smarthost].budget;
  Event event;
  event.kind = "budget";
  event.smarthost = config_->topology.smarthosts[smarthost];
  event.rule = "budget";
  event.from = routing::to_string(from);
  event.to = routing::to_string(to);
  event.text = std::to_string(budgets_.used(smarthost, now())) + " of " + std::to_string(budget.recipients) +
               " recipients in this period (" + routing::to_string(budget.per) + ") are used";
  const auto renews = budgets_.renews(smarthost, now());
  if (to == BudgetStage::used_up) event.action = "mail takes the next smarthost, or is held. ";
  event.action +=
      "The period ends " + routing::to_rfc3339(renews.value_or(now())) + "; a larger `budget` takes effect with egret reload";
  events_.add(std::move(event));
}

void BudgetWatch::configure(std::shared_ptr<const config::Config> config) {
  config_ = std::move(config);
  for (auto i = static_cast<std::uint32_t>(told_.size()); i < config_->smarthosts.size(); ++i)
    told_.push_back({stage(i), budgets_.renews(i, now())});
}

}  // namespace egret::relay
