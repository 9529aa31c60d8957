#include "routing/blame.hpp"

namespace egret::routing {
namespace {

bool final_reply(const smtp::RecipientOutcome& outcome) {
  return outcome.reply.permanent();
}

/// Too large is the message's own trouble, whatever else the text says about limits.
bool too_large(const smtp::Reply& reply) {
  const auto code = reply.enhanced();
  return reply.code == 552 || (code && code->subject == 3 && code->detail == 4);
}

/// What the refusal says about our account there. The rule knows the text; without one, the place in the dialogue tells.
AccountTrouble account_trouble(const smtp::RecipientOutcome& outcome, const Verdict& verdict) {
  const bool before_envelope = outcome.phase < smtp::Phase::mail;
  const bool of_the_envelope = verdict.account == AccountTrouble::sender || verdict.account == AccountTrouble::recipient ||
                               verdict.account == AccountTrouble::content;
  // Before there is an envelope no word can be about it.
  if (verdict.account != AccountTrouble::none && !(before_envelope && of_the_envelope)) return verdict.account;
  const int code = outcome.reply.code;
  if (outcome.phase == smtp::Phase::auth)
    return final_reply(outcome) ? AccountTrouble::authentication : AccountTrouble::authentication_temporary;
  if (code == 530 || code == 535) return AccountTrouble::authentication;
  // RFC 5321 section 4.3.2: at MAIL these are about the mailbox named there.
  if (outcome.phase == smtp::Phase::mail && (code == 550 || code == 553)) return AccountTrouble::sender;
  return AccountTrouble::none;
}

}  // namespace

Blame blame_source(const smtp::RecipientOutcome& outcome, const Verdict& verdict, bool spill) {
  if (outcome.delivered()) return {Action::delivered, false};
  const Action by_code = final_reply(outcome) ? Action::fail : Action::retry;
  switch (verdict.label) {
    case Label::ip_blocked:
    case Label::ip_config:
      return {Action::next_egress, true};
    case Label::ip_throttled:
      return {spill ? Action::next_egress : Action::retry, true};
    case Label::greylisted:
      return {Action::retry_same_egress, false};
    // A content verdict must not go shopping for another IP, not even a temporary one.
    case Label::content:
      return {final_reply(outcome) ? Action::fail : Action::retry_same_egress, false};
    case Label::temporary:
      return {Action::retry, false};
    case Label::auth_failed:
    case Label::domain_blocked:
    case Label::recipient:
    case Label::mailbox_full:
    case Label::policy_other:
    case Label::other:
      return {by_code, false};
  }
  return {by_code, false};
}

Blame blame_smarthost(const smtp::RecipientOutcome& outcome, const Verdict& verdict) {
  if (outcome.delivered()) return {Action::delivered, false};
  const AccountTrouble trouble = account_trouble(outcome, verdict);
  const Blame moves{Action::next_egress, true, trouble};
  if (outcome.phase < smtp::Phase::mail) return moves;
  const Action by_code = final_reply(outcome) ? Action::fail : Action::retry;
  switch (trouble) {
    case AccountTrouble::rate:
    case AccountTrouble::quota:
    case AccountTrouble::hourly_quota:
    case AccountTrouble::authentication:
    case AccountTrouble::authentication_temporary:
    case AccountTrouble::sender:
    case AccountTrouble::paused:
      return moves;
    // Some ESPs say 4xx to what they will never take.
    case AccountTrouble::recipient:
    case AccountTrouble::content:
      return {Action::fail, false};
    case AccountTrouble::none:
      break;
  }
  switch (verdict.label) {
    case Label::recipient:
    case Label::mailbox_full:
      return {by_code, false};
    case Label::content:
      return {final_reply(outcome) ? Action::fail : Action::retry_same_egress, false};
    case Label::greylisted:
      return {Action::retry_same_egress, false};
    case Label::ip_blocked:
    case Label::ip_throttled:
    case Label::ip_config:
      return moves;
    case Label::auth_failed:
    case Label::domain_blocked:
    case Label::policy_other:
    case Label::temporary:
    case Label::other:
      break;
  }
  if (outcome.phase == smtp::Phase::mail && !too_large(outcome.reply)) return moves;
  return {by_code, false};
}

}  // namespace egret::routing
