#include "relay/reputation/budget_watch.hpp"

#include "relay/runtime/clock.hpp"

namespace egret::relay {

using routing::BudgetStage;

BudgetWatch::BudgetWatch(const boost::asio::any_io_executor& executor, Budgets& budgets, Events& events)
    : timer_(executor), budgets_(budgets), events_(events) {}

void BudgetWatch::look() {
  if (const auto news = budgets_.take_news(now()); !news.empty()) {
    budgets_.save(now());  // before it is told: once is not twice
    for (const BudgetNews& one : news) tell(one);
  }
  timer_.expires_after(std::chrono::seconds(1));
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) look();
  });
}

void BudgetWatch::tell(const BudgetNews& news) {
  const bool of_class = news.smarthost.empty();
  const std::string limit = routing::to_string(news.limit);
  Event event;
  event.kind = "budget";
  event.smarthost = news.smarthost;
  event.rule = (of_class ? "classes." + news.message_class : "smarthosts." + news.smarthost) + ".budget: " + limit;
  event.from = routing::to_string(news.from);
  event.to = routing::to_string(news.to);
  event.text = (of_class ? "class " + news.message_class + " at all smarthosts: " : "") +
               routing::to_string(news.used, news.limit.unit) + " of " +
               routing::to_string(news.limit.budget.recipients, news.limit.unit) +
               (news.limit.unit.money() ? "" : " recipients") + " in this period (" + routing::to_string(news.limit.budget.per) +
               ") are used";
  if (news.to == BudgetStage::used_up)
    event.action = of_class ? "its mail uses no smarthost until then, and is held where no source is in service. "
                            : "mail takes the next smarthost, or is held. ";
  event.action += "The period ends " + routing::to_rfc3339(news.ends) + "; a larger `budget` takes effect with egret reload";
  events_.add(std::move(event));
}

}  // namespace egret::relay
