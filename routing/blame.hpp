// What to do after a reply: who is to blame, and therefore who must not suffer for it.
#pragma once

#include <string_view>

#include "routing/reply_rules.hpp"
#include "routing/route.hpp"
#include "smtp/client_session.hpp"

namespace egret::routing {

enum class Action {
  delivered,
  fail,               ///< final for the recipient
  retry,              ///< later, by any egress
  retry_same_egress,  ///< later, by this egress and no other
  next_egress,        ///< now, in the same round
};

struct Blame {
  Action action = Action::retry;
  bool egress_at_fault = false;                   ///< the reply is evidence against the egress
  AccountTrouble trouble = AccountTrouble::none;  ///< of a smarthost at fault: what it says about our account
};

/// For a reply through a source. `spill` is the class's word on throttling.
Blame blame_source(const smtp::RecipientOutcome& outcome, const Verdict& verdict, bool spill);

/// For a reply through a smarthost: whatever refuses us as a customer (login, quota, paused, unverified sender) moves
/// on to the next smarthost; only what is about recipient or content is final. A refused login never is.
Blame blame_smarthost(const smtp::RecipientOutcome& outcome, const Verdict& verdict);

}  // namespace egret::routing
