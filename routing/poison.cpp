#include "routing/poison.hpp"

#include <algorithm>
#include <set>

#include "smtp/text.hpp"

namespace egret::routing {
namespace {

constexpr std::size_t max_concerned = 64;  // (source, provider) pairs of one message
constexpr int turns_ahead = 10;            // are promised; whoever comes then asks again: the sender may have been released

/// Makes room for one more where `limit` is reached: of those that need not be kept the longest untouched eighth goes, so
/// that a flood pays for the search now and then and not each time. False: there is no room.
template <typename Map, typename Keep>
bool make_room(Map& map, std::size_t limit, Keep keep) {
  if (map.size() < limit) return true;
  std::vector<Time> touched;
  for (const auto& [key, value] : map)
    if (!keep(value)) touched.push_back(value.touched);
  if (touched.empty()) return false;
  const auto last = touched.begin() + static_cast<std::ptrdiff_t>(touched.size() / 8);
  std::ranges::nth_element(touched, last);
  std::erase_if(map, [&](const auto& entry) { return !keep(entry.second) && entry.second.touched <= *last; });
  return true;
}

std::vector<std::string> sources_of(const std::vector<Concerned>& concerned) {
  std::set<std::string> names;
  for (const Concerned& c : concerned) names.insert(c.source);
  return {names.begin(), names.end()};
}

std::string reason_for(const std::vector<Concerned>& concerned) {
  std::string out;
  for (const std::string& name : sources_of(concerned)) out += (out.empty() ? "blocked through " : ", ") + name;
  return out;
}

/// Notes a message with its time, once. False: it was noted before.
bool note(std::vector<std::pair<std::uint64_t, Time>>& messages, std::uint64_t message, std::size_t most, Time now) {
  if (std::ranges::find(messages, message, &std::pair<std::uint64_t, Time>::first) != messages.end()) return false;
  if (messages.size() >= most) messages.erase(messages.begin());
  messages.emplace_back(message, now);
  return true;
}

void drop_older(std::vector<std::pair<std::uint64_t, Time>>& messages, Time oldest) {
  std::erase_if(messages, [&](const auto& m) { return m.second <= oldest; });
}

bool nothing_against(const PoisonMemory::Sender& sender) {
  return sender.held.empty() && !sender.slowed && sender.poison.empty() && sender.content.empty();
}

}  // namespace

PoisonGuard::PoisonGuard(PoisonPolicy policy, PoisonMemory memory) : policy_(policy), memory_(std::move(memory)) {}

std::string PoisonGuard::key_of(std::string_view sender) {
  const std::size_t at = sender.rfind('@');
  if (at == std::string_view::npos) return std::string(sender);
  return std::string(sender.substr(0, at + 1)) + smtp::lower(sender.substr(at + 1));
}

PoisonMemory::Message& PoisonGuard::message_of(const BlockedMessage& seen, Time now) {
  const auto it = memory_.messages.find(seen.message);
  if (it != memory_.messages.end() && now - it->second.touched > policy_.memory) memory_.messages.erase(it);
  if (!memory_.messages.contains(seen.message))
    make_room(memory_.messages, policy_.max_messages, [](const auto&) { return false; });
  PoisonMemory::Message& message = memory_.messages[seen.message];
  message.sender = key_of(seen.sender);
  message.touched = now;
  return message;
}

/// A sender's record, made where there is none; null for the null sender and where only held senders are left.
PoisonMemory::Sender* PoisonGuard::sender_of(std::string_view sender, Time now) {
  if (sender.empty()) return nullptr;
  std::string key = key_of(sender);
  if (!memory_.senders.contains(key) &&
      !make_room(memory_.senders, policy_.max_senders, [](const PoisonMemory::Sender& s) { return !s.held.empty(); }))
    return nullptr;
  PoisonMemory::Sender& out = memory_.senders[std::move(key)];
  age_sender(out, now);
  out.touched = now;
  return &out;
}

void PoisonGuard::age_sender(PoisonMemory::Sender& sender, Time now) const {
  drop_older(sender.poison, now - policy_.sender_memory);
  drop_older(sender.content, now - policy_.window);
  // What an earlier window counted counts half, what the one before counted a quarter: no list of it is kept.
  while (sender.refused + sender.delivered > 0 && now - sender.counted >= policy_.window) {
    sender.refused /= 2;
    sender.delivered /= 2;
    sender.counted += policy_.window;
  }
  if (sender.refused + sender.delivered == 0) sender.counted = now;
  if (sender.slowed && !too_much_content(sender, policy_.slow_after)) sender.slowed = false;
}

bool PoisonGuard::too_much_content(const PoisonMemory::Sender& sender, int limit) const {
  const auto refused = static_cast<double>(sender.refused);
  return limit > 0 && sender.content.size() >= static_cast<std::size_t>(limit) &&
         refused >= policy_.content_share * (refused + static_cast<double>(sender.delivered));
}

/// True when this message makes the sender held.
bool PoisonGuard::note_poison(const BlockedMessage& seen, Time now) {
  PoisonMemory::Sender* sender = sender_of(seen.sender, now);
  if (!sender) return false;
  note(sender->poison, seen.message, 16, now);
  if (!sender->held.empty() || policy_.held_after <= 0 || sender->poison.size() < static_cast<std::size_t>(policy_.held_after))
    return false;
  sender->held = "poison: " + std::to_string(sender->poison.size()) + " messages were blocked through every source tried";
  sender->held_since = now;
  return true;
}

PoisonVerdict PoisonGuard::blocked(const BlockedMessage& seen, Time now) {
  PoisonVerdict out;
  if (policy_.poison_after <= 0 || seen.message == 0 || seen.kind != EgressKind::source ||
      seen.pool_sources < static_cast<std::size_t>(policy_.poison_after))
    return out;
  PoisonMemory::Message& message = message_of(seen, now);
  const Concerned concerned{std::string(seen.egress), std::string(seen.provider)};
  const auto place = std::ranges::lower_bound(message.concerned, concerned);
  const bool fresh = place == message.concerned.end() || *place != concerned;
  if (fresh && message.concerned.size() < max_concerned) message.concerned.insert(place, concerned);
  out.message = seen.message;
  out.sender = message.sender;
  if (message.poison) {
    out.kind = PoisonVerdict::Kind::poison;
    out.late = true;
    out.concerned = {concerned};
    out.reason = reason_for(message.concerned);
    return out;
  }
  if (sources_of(message.concerned).size() < static_cast<std::size_t>(policy_.poison_after)) return out;
  message.poison = true;
  out.concerned = message.concerned;
  out.reason = reason_for(message.concerned);
  out.kind = note_poison(seen, now) ? PoisonVerdict::Kind::sender_held : PoisonVerdict::Kind::poison;
  return out;
}

ContentVerdict PoisonGuard::content(std::uint64_t message, std::string_view sender, Time now) {
  PoisonMemory::Sender* record = message == 0 ? nullptr : sender_of(sender, now);
  if (!record) return {};
  const auto most = static_cast<std::size_t>(std::max({policy_.slow_after, policy_.hold_after, 1}));
  if (!note(record->content, message, most, now)) return {};
  ++record->refused;
  if (!record->held.empty()) return {};
  const std::string reason =
      std::to_string(record->content.size()) + " messages were refused for their content within " + to_string(policy_.window);
  if (too_much_content(*record, policy_.hold_after)) {
    record->held = "content: " + reason;
    record->held_since = now;
    return {ContentVerdict::Kind::held, reason};
  }
  if (record->slowed || !too_much_content(*record, policy_.slow_after)) return {};
  record->slowed = true;
  record->next = now + policy_.slow_interval;
  return {ContentVerdict::Kind::slowed, reason};
}

void PoisonGuard::delivered(std::string_view sender, Time now) {
  if (memory_.senders.empty() || sender.empty()) return;
  const auto it = memory_.senders.find(key_of(sender));
  if (it == memory_.senders.end()) return;
  age_sender(it->second, now);
  ++it->second.delivered;
}

Admission PoisonGuard::admit(std::string_view sender, Time now) {
  if (memory_.senders.empty() || sender.empty()) return {};
  const auto it = memory_.senders.find(key_of(sender));
  if (it == memory_.senders.end()) return {};
  PoisonMemory::Sender& record = it->second;
  if (!record.held.empty()) return {Admission::Kind::held, {}, "sender " + it->first + " is held: " + record.held};
  age_sender(record, now);
  if (!record.slowed) return {};
  // A clock set back must not make the wait longer than one interval.
  record.next = std::min(record.next, now + policy_.slow_interval);
  if (now >= record.next) {
    record.next =
        std::max(record.next, now - policy_.slow_interval) + policy_.slow_interval;  // a little late delays nobody behind
    return {};
  }
  // Each has a time of his own, or all would come at once, be read back, and all but one put off again.
  record.queued = std::clamp(record.queued, record.next, record.next + turns_ahead * policy_.slow_interval);
  const Time turn = record.queued;
  record.queued += policy_.slow_interval;
  return {Admission::Kind::wait, turn, "sender " + it->first + " is slowed: his mail was refused for its content"};
}

void PoisonGuard::forget(std::uint64_t message) {
  memory_.messages.erase(message);
}

bool PoisonGuard::release(std::string_view sender) {
  const auto it = memory_.senders.find(key_of(sender));
  if (it == memory_.senders.end()) return false;
  const bool was = !it->second.held.empty() || it->second.slowed;
  memory_.senders.erase(it);
  return was;
}

const PoisonMemory::Sender* PoisonGuard::held(std::string_view sender) const {
  const auto it = memory_.senders.find(key_of(sender));
  return it == memory_.senders.end() || it->second.held.empty() ? nullptr : &it->second;
}

std::vector<std::string> PoisonGuard::held_senders() const {
  std::vector<std::string> out;
  for (const auto& [name, sender] : memory_.senders)
    if (!sender.held.empty()) out.push_back(name);
  return out;
}

void PoisonGuard::age(Time now) {
  std::erase_if(memory_.messages, [&](const auto& m) { return now - m.second.touched > policy_.memory; });
  for (auto& [name, sender] : memory_.senders) age_sender(sender, now);
  std::erase_if(memory_.senders, [](const auto& s) { return nothing_against(s.second); });
}

}  // namespace egret::routing
