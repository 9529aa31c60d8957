// Refusals that no reply rule understood, counted by their text without its particulars, so that an operator can write
// a rule for the frequent ones (`egret replies unknown`).
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "routing/types.hpp"

namespace egret::relay {

struct UnknownReply {
  std::string text;      ///< normalised
  std::string example;   ///< the latest one as it came
  std::string provider;  ///< who said the latest one
  std::uint64_t count = 0;
  routing::Time first_seen{};
  routing::Time last_seen{};
};

/// The text with what differs from message to message masked: addresses, IPs, numbers, ids. Bounded in length.
std::string normalised_reply(std::string_view reply);

/// Thread-safe. Keeps at most `kept` texts: a new one takes the place of the rarest, among those the one unseen longest.
class UnknownReplies {
 public:
  static constexpr std::size_t kept = 1000;

  void add(std::string_view reply, std::string_view provider, routing::Time now);
  /// The most frequent first, equal ones by text.
  std::vector<UnknownReply> all() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, UnknownReply, std::less<>> replies_;  // by normalised text
};

}  // namespace egret::relay
