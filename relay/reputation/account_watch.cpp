#include "relay/reputation/account_watch.hpp"

#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "config/http_api.hpp"
#include "relay/delivery/http_account.hpp"
#include "relay/runtime/clock.hpp"
#include "relay/runtime/log.hpp"

namespace egret::relay {
namespace {

using namespace std::chrono_literals;
using routing::AccountTrouble;
using routing::SesAccount;

constexpr auto ask_time = 15s;
constexpr auto least_pause = 1min;  // also for who reloads every second: one question a second is allowed for the whole account

std::string whole(double number) {
  return std::to_string(static_cast<long long>(std::clamp(number, -1.0, 1e15)));
}

std::string describe(const SesAccount& account) {
  std::string out = account.sending ? "sending is enabled" : "sending is disabled";
  if (!account.enforcement.empty()) out += ", enforcement " + account.enforcement;
  out += account.max_24h < 0 ? ", no daily quota"
                             : ", " + whole(account.sent_24h) + " of " + whole(account.max_24h) + " sent in 24 hours";
  return out + (account.production ? "" : ", sandbox");
}

}  // namespace

AccountWatch::AccountWatch(const boost::asio::any_io_executor& executor, std::shared_ptr<const config::Config> config,
                           Reputation& reputation, Events& events)
    : config_(std::move(config)),
      reputation_(reputation),
      events_(events),
      resolver_(executor, config_->dns),
      deadlines_(executor),
      timer_(executor),
      watched_(config_->smarthosts.size()),
      tasks_(executor) {}

void AccountWatch::start() {
  tasks_.spawn(run(), "account watch");
}

boost::asio::awaitable<void> AccountWatch::stop() {
  stopping_ = true;
  timer_.cancel();
  // Again and again: a question goes on to the next address when one fails.
  co_await tasks_.wait_or(std::chrono::steady_clock::now(), [this] {
    resolver_.cancel();
    deadlines_.expire_all();
  });
}

void AccountWatch::configure(std::shared_ptr<const config::Config> config) {
  config_ = std::move(config);
  watched_.resize(config_->smarthosts.size());
  resolver_.configure(config_->dns);
  timer_.cancel();
}

const AccountStatus* AccountWatch::status(std::uint32_t smarthost) const {
  return due(smarthost) ? &watched_[smarthost].status : nullptr;
}

std::optional<double> AccountWatch::max_rate(std::uint32_t smarthost) const {
  const AccountStatus* known = status(smarthost);
  if (!known || !known->account || known->account->max_rate <= 0) return std::nullopt;
  return known->account->max_rate;
}

/// When it is asked next; nothing where nobody asks.
std::optional<Deadline> AccountWatch::due(std::uint32_t smarthost) const {
  if (smarthost >= watched_.size()) return std::nullopt;
  const config::Smarthost& host = config_->smarthosts[smarthost];
  if (host.removed || !host.api || host.api->poll_account.count() == 0) return std::nullopt;
  const Watched& watched = watched_[smarthost];
  if (!watched.asked) return Deadline::min();
  const bool same = watched.api && *watched.api == *host.api;
  return *watched.asked + (same ? std::max<routing::Duration>(host.api->poll_account, least_pause) : least_pause);
}

boost::asio::awaitable<void> AccountWatch::run() {
  while (!stopping_) {
    Deadline next = in(1h);
    for (std::uint32_t i = 0; i < watched_.size() && !stopping_; ++i) {
      if (const auto when = due(i); when && *when <= std::chrono::steady_clock::now()) co_await ask(i);
      if (const auto when = due(i)) next = std::min(next, *when);
    }
    if (stopping_) co_return;
    timer_.expires_at(next);
    boost::system::error_code ignored;
    co_await timer_.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
  }
}

boost::asio::awaitable<void> AccountWatch::ask(std::uint32_t smarthost) {
  const std::shared_ptr<const config::Config> config = config_;  // a reload may come between
  const config::Smarthost& host = config->smarthosts[smarthost];
  watched_[smarthost].asked = std::chrono::steady_clock::now();
  watched_[smarthost].api = host.api;
  const HttpAnswer answer = co_await ask_account(&host, &resolver_, &deadlines_, in(ask_time));
  if (stopping_) co_return;
  SesAccount found;
  if (!answer.error.empty())
    failed(smarthost, answer.error);
  else if (answer.status != 200)
    failed(smarthost, account_refusal(host, answer));
  else if (!routing::read_ses_account(answer.body, found))
    failed(smarthost, "the answer is not GetAccount's");
  else
    judge(smarthost, found);
}

/// Said once: it may go on for long, and mail does not depend on it.
void AccountWatch::failed(std::uint32_t smarthost, std::string error) {
  AccountStatus& status = watched_[smarthost].status;
  if (status.error.empty())
    log::warn("the account at an ESP could not be looked at",
              {{"smarthost", config_->topology.smarthosts[smarthost]}, {"reason", error}});
  status.error = std::move(error);
}

void AccountWatch::judge(std::uint32_t smarthost, const SesAccount& found) {
  Watched& watched = watched_[smarthost];
  tell(smarthost, watched.status.account, found);
  watched.status = {found, now(), {}};
  const bool bad = found.paused() || found.used_up();
  if (bad)
    reputation_.report_smarthost_refused(smarthost, "GetAccount: " + describe(found),
                                         found.paused() ? AccountTrouble::paused : AccountTrouble::quota);
  else if (watched.resting)
    reputation_.report_account_good(smarthost);
  watched.resting = bad;
}

/// What is no rest (that is told by the owner of the rests), and what is well again.
void AccountWatch::tell(std::uint32_t smarthost, const std::optional<SesAccount>& before, const SesAccount& found) {
  const auto well = [](const SesAccount& a) {
    return a.production && !a.paused() && !a.used_up() && a.enforcement != "PROBATION";
  };
  const auto same = [&](const SesAccount& a) {
    return a.production == found.production && a.paused() == found.paused() && a.used_up() == found.used_up() &&
           a.enforcement == found.enforcement;
  };
  if (before ? same(*before) : well(found)) return;
  Event event;
  event.kind = "smarthost-account";
  event.smarthost = config_->topology.smarthosts[smarthost];
  event.rule = "poll_account";
  event.from = before ? (well(*before) ? "good" : "limited") : "";
  event.to = well(found) ? "good" : "limited";
  event.text = "GetAccount: " + describe(found);
  if (!found.production)
    event.action = "in the sandbox only verified recipients get mail: ask Amazon for production access in this region";
  else if (found.paused())
    event.action = "the account may not send: see the SES console and Amazon's mail; the smarthost rests";
  else if (found.used_up())
    event.action = "the quota of 24 hours is used up: the smarthost rests; ask Amazon for a higher one";
  else if (!well(found))
    event.action = "the account is under review: lower bounces and complaints before it is paused";
  else
    event.action = "nothing: mail may go by it again";
  events_.add(std::move(event));
}

}  // namespace egret::relay
