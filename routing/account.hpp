// What a smarthost's refusal says about our account there, and how long the smarthost rests for it. Rules of
// config/replies.yaml give the trouble (`account`); where none does, the phase and the code do.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "routing/types.hpp"

namespace egret::routing {

enum class AccountTrouble {
  none,                      ///< nothing is known: host, network or an unexplained refusal
  rate,                      ///< too fast for now
  quota,                     ///< used up until it renews
  hourly_quota,              ///< used up for this hour
  authentication,            ///< the login is refused: an operator must act
  authentication_temporary,  ///< the login cannot be checked now
  sender,                    ///< this sender is not verified there; others are not concerned
  paused,                    ///< the account may not send
  recipient,                 ///< final for the recipient: suppressed, inactive
  content,                   ///< final for the message
};
/// As rules write it: "hourly-quota".
std::string_view to_string(AccountTrouble trouble);
/// None for a name that is no trouble; "none" cannot be written.
std::optional<AccountTrouble> parse_account_trouble(std::string_view name);

/// When a daily quota is there again.
enum class QuotaRenewal {
  midnight,  ///< at 0:00 UTC
  rolling,   ///< as what was sent a day ago leaves the count: worth a try every hour
};

struct RefusedSender {
  std::string reason;
  Time until{};
};
/// Domains of envelope senders ("" is the null sender) that a smarthost does not know as ours.
using RefusedSenders = std::map<std::string, RefusedSender, std::less<>>;

/// A smarthost's own troubles, and the senders that it refuses.
struct SmarthostState {
  std::optional<Time> resting_until;
  int rests = 0;  ///< in a row, for the same trouble
  std::string reason;
  AccountTrouble trouble = AccountTrouble::none;
  std::shared_ptr<const RefusedSenders> senders = nullptr;  ///< null: none. Replaced, never changed: snapshots share it
};

inline constexpr Duration sender_refused_for = std::chrono::hours(24);
inline constexpr std::size_t max_refused_senders = 1000;  ///< of one smarthost; those that end first give way

/// The smarthost rests: seconds for a rate, until it renews for a quota, five minutes to an hour for a login (accounts
/// are locked by tries), an hour when paused, else a minute doubling up to an hour. What comes in while it rests can make
/// the rest longer only when it is about another trouble. Not for the troubles of senders, recipients and content.
/// `at_least` is what the smarthost asks for itself, a day at most. True when it rests longer than before.
bool smarthost_refused(SmarthostState& state, std::string reason, Time now, AccountTrouble trouble = AccountTrouble::none,
                       QuotaRenewal renewal = QuotaRenewal::midnight, Duration at_least = Duration{0});
/// The account works. What was on its way when the rest began does not say so, and ends no rest.
void smarthost_delivered(SmarthostState& state, Time now);
/// The sender is refused for a day. True when that is news.
bool sender_refused(SmarthostState& state, const std::string& domain, std::string reason, Time now);
/// The entry of a sender that is refused at `now`, else null.
const RefusedSender* find_refused(const std::shared_ptr<const RefusedSenders>& senders, std::string_view domain, Time now);

/// What the smarthost does now, for the event: "rests until ...; mail takes the next smarthost".
std::string rest_action(const SmarthostState& state);

}  // namespace egret::routing
