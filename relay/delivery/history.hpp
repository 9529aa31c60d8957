// Attempts of recent messages, for /api/v1/messages/ID. Bounded; one per worker, used from its thread.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "routing/types.hpp"
#include "smtp/trace.hpp"

namespace egret::relay {

struct AttemptRecord {
  routing::Time time{};
  std::string egress;
  std::string site;
  std::string host;
  std::string outcome;  ///< delivered, failed, deferred, failover, ambiguous
  std::string reply;
  std::string label;
  std::string rule;
  std::string route;
  std::string esp_id;  ///< the smarthost's name for the message, from its reply to the final dot
  std::vector<std::string> recipients;
};

struct MessageHistory {
  std::string message_class;
  std::string sender;
  routing::Time accepted{};
  std::vector<AttemptRecord> attempts;
};

/// Kept packed: a record alone is 320 octets without its texts, and there are 10 000 messages on each worker.
class History {
 public:
  static constexpr std::size_t kept = 10'000;
  static constexpr std::size_t attempts_kept = 50;
  /// Of a message's attempts. The last of them may go beyond: with a hundred recipients of 320 octets it has 32 KB itself.
  static constexpr std::size_t octets_kept = 16 * 1024;

  /// What is known of the message but for its attempts.
  MessageHistory& of(smtp::MessageId id) {
    const auto [it, fresh] = messages_.try_emplace(static_cast<std::uint64_t>(id));
    if (fresh) {
      order_.push_back(it->first);
      if (order_.size() > kept) {
        messages_.erase(order_.front());
        order_.pop_front();
      }
    }
    return it->second.head;
  }
  /// Null when it is not known; without its attempts.
  const MessageHistory* head(smtp::MessageId id) const {
    const auto it = messages_.find(static_cast<std::uint64_t>(id));
    return it == messages_.end() ? nullptr : &it->second.head;
  }
  /// Of a message that of() was called for; those behind the first fifty, or behind octets_kept, are not kept.
  void add(smtp::MessageId id, const AttemptRecord& attempt) {
    const auto it = messages_.find(static_cast<std::uint64_t>(id));
    if (it == messages_.end() || it->second.count >= attempts_kept || it->second.packed.size() >= octets_kept) return;
    const std::string packed = pack(attempt);
    it->second.packed.reserve(it->second.packed.size() + packed.size());
    it->second.packed += packed;
    ++it->second.count;
  }
  std::optional<MessageHistory> find(smtp::MessageId id) const {
    const auto it = messages_.find(static_cast<std::uint64_t>(id));
    if (it == messages_.end()) return std::nullopt;
    MessageHistory out = it->second.head;
    std::string_view packed = it->second.packed;
    while (!packed.empty()) out.attempts.push_back(unpack(packed));
    return out;
  }

 private:
  struct Kept {
    MessageHistory head;
    std::string packed;
    std::uint32_t count = 0;
  };
  static constexpr std::array texts{&AttemptRecord::egress,  &AttemptRecord::site,  &AttemptRecord::host,
                                    &AttemptRecord::outcome, &AttemptRecord::reply, &AttemptRecord::label,
                                    &AttemptRecord::rule,    &AttemptRecord::route, &AttemptRecord::esp_id};

  template <class T>
  static void put(std::string& out, T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  static void put_text(std::string& out, const std::string& text) {
    put(out, static_cast<std::uint32_t>(text.size()));
    out += text;
  }
  template <class T>
  static T get(std::string_view& in) {
    T value{};
    std::memcpy(&value, in.data(), sizeof value);
    in.remove_prefix(sizeof value);
    return value;
  }
  static std::string get_text(std::string_view& in) {
    const auto size = get<std::uint32_t>(in);
    std::string out(in.substr(0, size));
    in.remove_prefix(size);
    return out;
  }
  static std::string pack(const AttemptRecord& attempt) {
    std::string out;
    put(out, static_cast<std::int64_t>(attempt.time.time_since_epoch().count()));
    for (const auto text : texts) put_text(out, attempt.*text);
    put(out, static_cast<std::uint32_t>(attempt.recipients.size()));
    for (const auto& recipient : attempt.recipients) put_text(out, recipient);
    return out;
  }
  /// Takes one that pack() made off the front.
  static AttemptRecord unpack(std::string_view& in) {
    AttemptRecord out;
    out.time = routing::Time(routing::Duration(get<std::int64_t>(in)));
    for (const auto text : texts) out.*text = get_text(in);
    out.recipients.resize(get<std::uint32_t>(in));
    for (auto& recipient : out.recipients) recipient = get_text(in);
    return out;
  }

  std::unordered_map<std::uint64_t, Kept> messages_;
  std::deque<std::uint64_t> order_;
};

}  // namespace egret::relay
