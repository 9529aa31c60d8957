// Attempts of recent messages, for /api/v1/messages/ID. Bounded; one per worker, used from its thread.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
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

class History {
 public:
  static constexpr std::size_t kept = 10'000;
  static constexpr std::size_t attempts_kept = 50;

  MessageHistory& of(smtp::MessageId id) {
    const auto [it, fresh] = messages_.try_emplace(static_cast<std::uint64_t>(id));
    if (fresh) {
      order_.push_back(it->first);
      if (order_.size() > kept) {
        messages_.erase(order_.front());
        order_.pop_front();
      }
    }
    return it->second;
  }
  const MessageHistory* find(smtp::MessageId id) const {
    const auto it = messages_.find(static_cast<std::uint64_t>(id));
    return it == messages_.end() ? nullptr : &it->second;
  }

 private:
  std::unordered_map<std::uint64_t, MessageHistory> messages_;
  std::deque<std::uint64_t> order_;
};

}  // namespace egret::relay
