#include "relay/reputation/guard.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>

#include "relay/runtime/clock.hpp"
#include "relay/runtime/log.hpp"
#include "smtp/trace.hpp"

namespace egret::relay {
namespace {

Event sender_event(const char* kind, std::string_view sender, std::string text, bool enforced) {
  Event event;
  event.kind = kind;
  event.sender = routing::PoisonGuard::key_of(sender);
  event.rule = "poison-guard";
  event.text = std::move(text);
  event.action =
      enforced ? "find out who uses this address; then: egret sender release " + event.sender : "observed only, not enforced";
  return event;
}

}  // namespace

Guard::Guard(const boost::asio::any_io_executor& control, const config::Config& config, Reputation& reputation, Events& events)
    : control_(control), reputation_(reputation), events_(events), guard_(config.poison), enforce_(!config.topology.observe) {}

void Guard::configure(const config::Config& config) {
  enforce_ = !config.topology.observe;
  const std::lock_guard lock(mutex_);
  guard_ = routing::PoisonGuard(config.poison, guard_.memory());
}

void Guard::changed() {
  senders_ = guard_.memory().senders.size();
  changed_ = true;
}

/// Events are the control thread's.
void Guard::tell(Event event) {
  boost::asio::post(control_, [this, event = std::move(event)] { events_.add(event); });
}

std::optional<std::string> Guard::blocked(const routing::BlockedMessage& seen) {
  routing::PoisonVerdict verdict;
  {
    const std::lock_guard lock(mutex_);
    verdict = guard_.blocked(seen, now());
    changed();
  }
  if (verdict.kind == routing::PoisonVerdict::Kind::nothing) return std::nullopt;
  // Posted behind the reports of these very refusals: what is taken back has arrived by then.
  reputation_.report_withdrawn(verdict.message, verdict.concerned);
  const bool enforced = enforce_;
  if (!verdict.late) {
    Event event = sender_event("poison", verdict.sender, verdict.reason, enforced);
    event.message = smtp::to_string(static_cast<smtp::MessageId>(verdict.message));
    if (enforced)
      event.action = "the message is held and the sources are cleared of it. Look at it: egret message " + event.message +
                     "; then: egret queue release|cancel id=" + event.message;
    tell(std::move(event));
    if (verdict.kind == routing::PoisonVerdict::Kind::sender_held)
      tell(sender_event("sender-held", verdict.sender, "a further poison message: " + verdict.reason, enforced));
  }
  if (!enforced) return std::nullopt;
  return "poison: " + verdict.reason;
}

void Guard::refused_for_content(std::uint64_t message, std::string_view sender) {
  routing::ContentVerdict verdict;
  {
    const std::lock_guard lock(mutex_);
    verdict = guard_.content(message, sender, now());
    changed();
  }
  if (verdict.kind == routing::ContentVerdict::Kind::nothing) return;
  const char* kind = verdict.kind == routing::ContentVerdict::Kind::held ? "sender-held" : "sender-slowed";
  tell(sender_event(kind, sender, verdict.reason, enforce_));
}

void Guard::delivered(const smtp::Address& sender) {
  if (senders_.load(std::memory_order_relaxed) == 0) return;
  const std::lock_guard lock(mutex_);
  guard_.delivered(sender.to_string(), now());
}

routing::Admission Guard::admit(const smtp::Address& sender) {
  if (senders_.load(std::memory_order_relaxed) == 0 || !enforce_.load(std::memory_order_relaxed)) return {};
  const std::lock_guard lock(mutex_);
  return guard_.admit(sender.to_string(), now());
}

void Guard::forget(std::uint64_t message) {
  const std::lock_guard lock(mutex_);
  guard_.forget(message);
  changed();
}

bool Guard::release(std::string_view sender) {
  {
    const std::lock_guard lock(mutex_);
    if (!guard_.release(sender)) return false;
    changed();
  }
  Event event;
  event.kind = "sender-released";
  event.sender = routing::PoisonGuard::key_of(sender);
  event.rule = "operator-release";
  event.text = "released by the operator";
  events_.add(std::move(event));
  return true;
}

std::vector<GuardedSender> Guard::senders() const {
  std::vector<GuardedSender> out;
  const std::lock_guard lock(mutex_);
  for (const auto& [name, sender] : guard_.memory().senders) {
    GuardedSender one{name, "watched", "", {}, sender.poison.size(), sender.content.size()};
    if (!sender.held.empty()) {
      one.state = "held";
      one.reason = sender.held;
      one.since = sender.held_since;
    } else if (sender.slowed) {
      one.state = "slowed";
      one.reason = "refused for content";
    }
    out.push_back(std::move(one));
  }
  std::ranges::stable_sort(out, {}, [](const auto& one) { return one.state != "held" ? one.state == "slowed" ? 1 : 2 : 0; });
  return out;
}

std::optional<std::string> Guard::take_changed(bool in_any_case) {
  if (!changed_.exchange(false) && !in_any_case) return std::nullopt;
  const std::lock_guard lock(mutex_);
  guard_.age(now());
  senders_ = guard_.memory().senders.size();
  return routing::encode_poison(guard_.memory());
}

void Guard::restore(std::string_view saved) {
  auto memory = routing::decode_poison(saved, now());
  if (!memory) return log::warn("what was remembered of senders cannot be read", {});
  const std::lock_guard lock(mutex_);
  guard_ = routing::PoisonGuard(guard_.policy(), std::move(*memory));
  senders_ = guard_.memory().senders.size();
}

}  // namespace egret::relay
