#include "routing/account.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace egret::routing {
namespace {

using namespace std::chrono_literals;

constexpr std::array<std::pair<AccountTrouble, std::string_view>, 10> names{{
    {AccountTrouble::none, "none"},
    {AccountTrouble::rate, "rate"},
    {AccountTrouble::quota, "quota"},
    {AccountTrouble::hourly_quota, "hourly-quota"},
    {AccountTrouble::authentication, "authentication"},
    {AccountTrouble::authentication_temporary, "authentication-temporary"},
    {AccountTrouble::sender, "sender"},
    {AccountTrouble::paused, "paused"},
    {AccountTrouble::recipient, "recipient"},
    {AccountTrouble::content, "content"},
}};

Duration doubled(Duration first, int times, Duration most) {
  for (; times > 0 && first < most; --times) first *= 2;
  return std::min(first, most);
}

/// The next full `period` of UTC, but not so soon that clocks that differ make it a try too early.
Time next_full(Duration period, Time now) {
  const auto since = now.time_since_epoch() % period;
  return std::max<Time>(now - since + period, now + 1min);
}

Time rest_end(AccountTrouble trouble, QuotaRenewal renewal, int rests, Time now) {
  switch (trouble) {
    case AccountTrouble::rate:
      return now + doubled(5s, rests, 5min);
    case AccountTrouble::quota:
      return renewal == QuotaRenewal::rolling ? now + 1h : next_full(24h, now);
    case AccountTrouble::hourly_quota:
      return next_full(1h, now);
    case AccountTrouble::authentication:
      return now + doubled(5min, rests, 1h);
    case AccountTrouble::paused:
      return now + 1h;
    case AccountTrouble::none:
    case AccountTrouble::authentication_temporary:
    case AccountTrouble::sender:
    case AccountTrouble::recipient:
    case AccountTrouble::content:
      break;
  }
  return now + doubled(1min, rests, 1h);
}

}  // namespace

std::string_view to_string(AccountTrouble trouble) {
  return std::ranges::find(names, trouble, &std::pair<AccountTrouble, std::string_view>::first)->second;
}

std::optional<AccountTrouble> parse_account_trouble(std::string_view name) {
  for (const auto& [trouble, known] : names)
    if (known == name && trouble != AccountTrouble::none) return trouble;
  return std::nullopt;
}

bool smarthost_refused(SmarthostState& state, std::string reason, Time now, AccountTrouble trouble, QuotaRenewal renewal,
                       Duration at_least) {
  const bool resting = state.resting_until && now < *state.resting_until;
  const bool same = state.trouble == trouble;
  if (resting && same) {
    state.reason = std::move(reason);
    return false;
  }
  const int rests = same ? state.rests : 0;
  const Time until = std::max<Time>(rest_end(trouble, renewal, rests, now), now + std::clamp<Duration>(at_least, 0s, 24h));
  if (resting && until <= *state.resting_until) return false;
  state.resting_until = until;
  state.rests = rests + 1;
  state.reason = std::move(reason);
  state.trouble = trouble;
  return true;
}

void smarthost_delivered(SmarthostState& state, Time now) {
  if (state.resting_until && now < *state.resting_until) return;
  auto senders = std::move(state.senders);
  state = {};
  state.senders = std::move(senders);
}

bool sender_refused(SmarthostState& state, const std::string& domain, std::string reason, Time now) {
  if (find_refused(state.senders, domain, now)) return false;
  auto next = state.senders ? std::make_shared<RefusedSenders>(*state.senders) : std::make_shared<RefusedSenders>();
  std::erase_if(*next, [&](const auto& entry) { return entry.second.until <= now; });
  if (next->size() >= max_refused_senders)
    next->erase(std::ranges::min_element(*next, {}, [](const auto& entry) { return entry.second.until; }));
  (*next)[domain] = {std::move(reason), now + sender_refused_for};
  state.senders = std::move(next);
  return true;
}

const RefusedSender* find_refused(const std::shared_ptr<const RefusedSenders>& senders, std::string_view domain, Time now) {
  if (!senders) return nullptr;
  const auto it = senders->find(domain);
  return it != senders->end() && now < it->second.until ? &it->second : nullptr;
}

std::string rest_action(const SmarthostState& state) {
  const std::string until = state.resting_until ? to_rfc3339(*state.resting_until) : "";
  switch (state.trouble) {
    case AccountTrouble::rate:
      return "slows down: rests until " + until + "; mail takes the next smarthost, or waits";
    case AccountTrouble::quota:
    case AccountTrouble::hourly_quota:
      return "its quota is used up: rests until " + until + "; mail takes the next smarthost";
    case AccountTrouble::authentication:
      return "mend its user name and password; it is tried again at " + until + ", mail takes the next smarthost";
    case AccountTrouble::paused:
      return "its account may not send: see the account there; rests until " + until + ", mail takes the next smarthost";
    default:
      return "rests until " + until + "; mail takes the next smarthost";
  }
}

}  // namespace egret::routing
