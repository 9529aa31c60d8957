// Budgets and rates of smarthosts where jobs meet them: before a job is sent its money must be there, and its turn come.
#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "relay/delivery/dispatcher.hpp"
#include "relay/runtime/clock.hpp"

namespace egret::relay {
namespace {

constexpr auto longest_nap = std::chrono::milliseconds(100);  // a stop or another rate is noticed that soon

}  // namespace

/// What the smarthost takes in one transaction, and what its budgets and its rate could ever take at once.
std::size_t Dispatcher::most_recipients(const Job& job, std::uint32_t smarthost) const {
  return std::min(static_cast<std::size_t>(shared_.config->smarthosts[smarthost].recipients),
                  shared_.budgets.most_recipients(smarthost, job.message->message_class));
}

bool Dispatcher::paced(const Lane& lane) const {
  return lane.key.egress.kind == routing::EgressKind::smarthost && shared_.budgets.paced(lane.key.egress.index);
}

/// Until the next message may go by the lane's smarthost. Jobs stay in the lane meanwhile, where whoever is to be served
/// first may overtake; the turn is taken together with the job. False, for who has a `slot`: others want a connection now.
boost::asio::awaitable<bool> Dispatcher::wait_for_rate(Lane* lane, bool slot) {
  if (!paced(*lane)) co_return true;
  boost::asio::steady_timer timer(executor_);
  while (!stopping_ && !lane->ready.empty()) {
    const auto wait = shared_.budgets.wait(lane->key.egress.index, std::chrono::steady_clock::now());
    if (wait.count() == 0) co_return true;
    if (slot && slots_.wanted()) co_return false;
    timer.expires_after(std::min<routing::Duration>(wait, longest_nap));
    boost::system::error_code ignored;
    co_await timer.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
  }
  co_return true;
}

/// A job is charged when its route is found, and counts in the period in which it is sent: what waited into another,
/// or until a reload brought a limit, is charged anew. False when the budgets do not take it; then nothing is charged.
bool Dispatcher::pays(Job& job) {
  if (!job.charged) return true;
  if (shared_.budgets.current(*job.charged, now())) {
    if (shared_.budgets.pay(*job.charged)) return true;
    give_back(job, 0);
    return false;
  }
  const Charge before = *job.charged;
  give_back(job, 0);
  if (shared_.budgets.charge(before.smarthost, before.message_class, job.recipients.size(), now(), job.charged, true))
    return false;
  if (shared_.budgets.pay(*job.charged)) return true;
  give_back(job, 0);
  return false;
}

}  // namespace egret::relay
