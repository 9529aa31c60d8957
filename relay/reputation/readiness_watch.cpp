#include "relay/reputation/readiness_watch.hpp"

#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>

#include "config/http_api.hpp"
#include "config/readiness.hpp"
#include "relay/doctor/records.hpp"
#include "relay/doctor/subjects.hpp"
#include "relay/runtime/clock.hpp"
#include "routing/blame.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

using namespace std::chrono_literals;
using routing::AccountTrouble;
using routing::Duration;
using routing::Time;

constexpr Duration domains_after = 15s;  // from the start: what a restart is about comes first
constexpr Duration logins_after = 60s;   // the same
constexpr Duration unanswered_after = 5min;
constexpr Duration poll_at_least = 50ms, poll_at_most = 2s;

AccountTrouble trouble_of(const config::Config& config, const config::Smarthost& host, const smtp::RecipientOutcome& refusal) {
  const routing::ReplyContext context{refusal.phase, host.provider, {}};
  const routing::Verdict verdict = config.replies->classify(smtp::reply_text(refusal.reply.to_string()), context);
  return routing::blame_smarthost(refusal, verdict).trouble;
}

}  // namespace

ReadinessWatch::ReadinessWatch(const boost::asio::any_io_executor& executor, std::shared_ptr<const config::Config> config,
                               Reputation& owner)
    : config_(std::move(config)),
      owner_(owner),
      book_(owner.readiness()),
      resolver_(executor, config_->dns),
      deadlines_(executor),
      timer_(executor),
      random_(std::random_device{}()),
      tasks_(executor) {}

void ReadinessWatch::start() {
  started_ = now();
  plan_logins();
  tasks_.spawn(run(), "readiness");
}

void ReadinessWatch::configure(std::shared_ptr<const config::Config> config) {
  config_ = std::move(config);
  resolver_.configure(config_->dns);
  plan_logins();
  timer_.cancel();
}

boost::asio::awaitable<void> ReadinessWatch::stop() {
  stopping_ = true;
  timer_.cancel();
  resolver_.cancel();
  deadlines_.expire_all();
  co_await tasks_.wait_or(in(0s), [this] {
    resolver_.cancel();
    deadlines_.expire_all();
  });
}

/// Also over a restart, and whatever a reload says about the rest, no account is logged in to more often than its interval.
void ReadinessWatch::plan_logins() {
  login_due_.clear();
  for (std::uint32_t i = 0; i < config_->smarthosts.size(); ++i) {
    const Duration interval = config::readiness_of(config_->smarthosts[i]).interval;
    const Trial& last = book_.smarthost(i).login;
    const Time soonest = started_ + jittered(std::min(logins_after, interval));
    const auto tried = std::max(last.worked, last.failed);
    login_due_.push_back(tried ? std::max(soonest, *tried + interval) : soonest);
  }
}

Duration ReadinessWatch::jittered(Duration duration) {
  const double factor = std::uniform_real_distribution<double>(0.9, 1.1)(random_);
  return Duration(static_cast<std::int64_t>(static_cast<double>(duration.count()) * factor));
}

/// Often enough to see domains that send for the first time, and short intervals.
Duration ReadinessWatch::poll() const {
  Duration out = poll_at_most;
  for (const auto& host : config_->smarthosts)
    if (!host.removed) out = std::min(out, config::readiness_of(host).retry / 4);
  return std::max(out, poll_at_least);
}

boost::asio::awaitable<void> ReadinessWatch::run() {
  while (!stopping_) {
    timer_.expires_after(poll());
    boost::system::error_code error;
    co_await timer_.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, error));
    for (std::uint32_t i = 0; !stopping_ && i < config_->smarthosts.size(); ++i) co_await look(i);
  }
}

boost::asio::awaitable<void> ReadinessWatch::look(std::uint32_t smarthost) {
  const auto config = config_;
  const config::Smarthost& host = config->smarthosts[smarthost];
  const config::Readiness& wanted = config::readiness_of(host);
  const bool by_http = host.api && host.api->delivers;  // SES is asked about the account (AccountWatch); the others show by mail
  const bool early = now() < started_ + std::min(domains_after, wanted.interval);
  if (host.removed || (early && !book_.hurried())) co_return;
  for (const std::string& domain : book_.domains(smarthost, now())) {
    if (stopping_ || config_ != config) co_return;
    const auto& known = book_.smarthost(smarthost).domains;
    const auto it = known.find(domain);
    if (it == known.end() || it->second.due <= now()) co_await check(smarthost, domain);
  }
  if (stopping_ || config_ != config || !wanted.check || !wanted.login || by_http || now() < login_due_[smarthost]) co_return;
  co_await log_in(smarthost);
}

boost::asio::awaitable<void> ReadinessWatch::check(std::uint32_t smarthost, std::string domain) {
  const auto config = config_;
  const config::Readiness& wanted = config::readiness_of(config->smarthosts[smarthost]);
  const doctor::Dmarc dmarc = co_await doctor::find_dmarc_policy(&resolver_, domain);
  const routing::ReadinessFacts facts = co_await doctor::look_up_readiness(config.get(), smarthost, &resolver_, domain, &dmarc);
  if (stopping_ || config_ != config) co_return;  // broken off, or what was asked is not what counts now
  const routing::ReadinessVerdict verdict = routing::judge_readiness(facts, wanted.records);
  const Duration next = !verdict.ready   ? std::min(wanted.retry, unanswered_after)
                        : *verdict.ready ? wanted.interval
                                         : wanted.retry;
  book_.checked(smarthost, domain, verdict, now(), now() + jittered(next));
  owner_.publish_readiness();
}

boost::asio::awaitable<void> ReadinessWatch::log_in(std::uint32_t smarthost) {
  const auto config = config_;
  const config::Smarthost& host = config->smarthosts[smarthost];
  const config::Readiness& wanted = config::readiness_of(host);
  login_due_[smarthost] = now() + jittered(wanted.interval);
  const routing::SmarthostState& state = owner_.smarthost(smarthost);
  const bool resting = state.resting_until && now() < *state.resting_until;
  if (resting) {  // delivery has found out, and tries again in its own time
    login_due_[smarthost] = now() + jittered(wanted.retry);
    co_return;
  }
  doctor::Knock found;
  try {
    found = co_await doctor::knock_at_smarthost(config.get(), smarthost, &resolver_, &deadlines_);
  } catch (const std::exception& e) {
    found.text = e.what();  // certification authorities that cannot be read
  }
  if (stopping_ || config_ != config) co_return;
  // What did not come to a login cannot lock an account.
  if (!found.ready && !found.refusal) login_due_[smarthost] = now() + jittered(wanted.retry);
  if (found.dns_unanswered) co_return;
  const std::string text = smtp::printable(found.text);
  book_.login_tried(smarthost, found.ready, text, now());
  if (found.ready) co_return;
  const AccountTrouble trouble = found.refusal ? trouble_of(*config, host, *found.refusal) : AccountTrouble::none;
  owner_.report_smarthost_refused(smarthost, text, trouble);
}

}  // namespace egret::relay
