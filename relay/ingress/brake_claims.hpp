// Which rates a message and its recipients count towards, and how a refusal names them: the client's and the user's own
// (`limits.rate_per_client`, `rate` in the users file), those of the brakes, and that of a slowed user.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/brakes.hpp"
#include "relay/brakes/brakes.hpp"
#include "relay/ingress/admission.hpp"

namespace egret::relay {

struct BrakeSubject {
  routing::IpAddress client;
  std::string_view user;           ///< empty: did not log in
  std::string_view sender_domain;  ///< empty: not known yet, or the null sender
  std::optional<routing::Budget> own_rate;
  std::optional<Brakes::Barrier> barrier;
  std::uint64_t messages = 0;    ///< 1 with the first recipient of a message
  std::uint64_t recipients = 0;  ///< 0, without a message either: only ask whether there is room
};

struct BrakeClaim {
  RateClaim claim;
  std::string what;      ///< "user joe may send to 500 recipients in 1h"
  std::string rule;      ///< "rate-per-user"
  std::string name;      ///< "joe"
  bool enforced = true;  ///< false: the brakes only observe
  bool told = true;      ///< an event says it; a slowed user has one already
};

std::vector<BrakeClaim> brake_claims(const config::Config& config, const BrakeSubject& subject);

/// Takes those claims that are (or are not) enforced, all or none; `claim` of the refusal is an index into all of them.
std::optional<RateRefusal> take_claims(Rates& rates, const std::vector<BrakeClaim>& claims, bool enforced, routing::Time now);

/// What a suspended user's client is told behind the enhanced code. `reason` is that of his holds.
std::string suspended_text(std::string_view reason, std::string_view user);

}  // namespace egret::relay
