// The brakes (section `brakes`): how much each may send, what is an unusual rise, and whose mail causes so much trouble
// that it is slowed and suspended. docs/brakes.md.
#pragma once

#include <vector>

#include "config/config.hpp"
#include "routing/brakes.hpp"
#include "routing/budget.hpp"

namespace egret::config {

/// All of them hold; empty: no limit.
struct SendingRates {
  std::vector<routing::Budget> messages;    ///< (Budget::recipients counts messages here)
  std::vector<routing::Budget> recipients;  ///< a user's own `rate` in the users file takes the place of these
  bool any() const { return !messages.empty() || !recipients.empty(); }
};

struct Brakes {
  bool observe = false;  ///< say what would be done, and do nothing
  SendingRates user, network, sender_domain;
  routing::UsualPolicy usual;
  routing::JudgePolicy judge;
  routing::Budget slow_rate{10, std::chrono::minutes(1)};  ///< messages of a slowed user
};

/// Those of a configuration, or the defaults.
const Brakes& brakes_of(const Config& config);

}  // namespace egret::config
