// Destinations that put off whoever connects. For a moment nobody tries again: what comes meanwhile shares what was found
// out, instead of a connection for each message.
#pragma once

#include <map>

#include "relay/delivery/connection.hpp"
#include "relay/runtime/clock.hpp"

namespace egret::relay {

/// By lane. Used from one worker's thread; time is passed in.
template <class Key>
class Closed {
 public:
  static constexpr std::size_t most = 10'000;

  /// What the last attempt met counts for everybody until then.
  void note(const Key& key, AttemptResult result, Deadline now, Deadline until) {
    if (entries_.size() >= most) std::erase_if(entries_, [&](const auto& entry) { return entry.second.until <= now; });
    if (entries_.size() >= most) entries_.clear();  // it only costs connections
    entries_[key] = {until, std::move(result)};
  }
  /// Null when it may be tried. Valid until the next call.
  const AttemptResult* find(const Key& key, Deadline now) {
    if (entries_.empty()) return nullptr;
    const auto it = entries_.find(key);
    if (it == entries_.end()) return nullptr;
    if (it->second.until > now) return &it->second.result;
    entries_.erase(it);
    return nullptr;
  }
  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    Deadline until;
    AttemptResult result;
  };
  std::map<Key, Entry> entries_;
};

}  // namespace egret::relay
