#include "routing/blame.hpp"

#include <array>

#include "smtp/text.hpp"

namespace egret::routing {
namespace {

bool final_reply(const smtp::RecipientOutcome& outcome) {
  return outcome.reply.permanent();
}

/// How ESPs say that it is the account that is refused, not the message.
bool account_refused(const smtp::RecipientOutcome& outcome) {
  static constexpr std::array<std::string_view, 14> marks{
      "quota",        "credits",      "exceeded", "throttl",  "not verified",        "verified sender",
      "unverified",   "suspended",    "paused",   "disabled", "not allowed to send", "not authorized",
      "sending rate", "limit reached"};
  const std::string text = smtp::lower(outcome.reply.text());
  for (const std::string_view mark : marks)
    if (text.find(mark) != std::string::npos) return true;
  return false;
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
  const bool before_envelope = outcome.phase < smtp::Phase::mail;
  if (before_envelope) return {Action::next_egress, true};
  switch (verdict.label) {
    case Label::recipient:
    case Label::mailbox_full:
      return {final_reply(outcome) ? Action::fail : Action::retry, false};
    case Label::content:
      return {final_reply(outcome) ? Action::fail : Action::retry_same_egress, false};
    case Label::greylisted:
      return {Action::retry_same_egress, false};
    case Label::ip_blocked:
    case Label::ip_throttled:
    case Label::ip_config:
      return {Action::next_egress, true};
    case Label::auth_failed:
    case Label::domain_blocked:
    case Label::policy_other:
    case Label::temporary:
    case Label::other:
      break;
  }
  // Too large is the message's own trouble, whatever else the text says about limits.
  const auto code = outcome.reply.enhanced();
  if (outcome.reply.code == 552 || (code && code->subject == 3 && code->detail == 4))
    return {final_reply(outcome) ? Action::fail : Action::retry, false};
  if (account_refused(outcome) || outcome.phase == smtp::Phase::mail) return {Action::next_egress, true};
  return {final_reply(outcome) ? Action::fail : Action::retry, false};
}

}  // namespace egret::routing
