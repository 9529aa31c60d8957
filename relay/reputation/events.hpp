// What happened, for operators: the last few thousand events. Lives on the control thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "routing/types.hpp"

namespace egret::relay {

struct Event {
  std::uint64_t id = 0;
  routing::Time time{};
  std::string kind;  ///< listed, delisted, blocked, throttled, misconfigured, trial, warming, clean, drained,
                     ///< list-down, list-up, list-budget, blocklists-down, blocklists-up, dns-mismatch, dns-match,
                     ///< pool-exhausted, smarthost-rests
  std::string source;
  std::string provider;
  std::string smarthost;
  std::string blocklist;
  std::string sender;
  std::string message;
  std::string rule;
  std::string from;
  std::string to;
  std::string text;    ///< what was seen
  std::string action;  ///< what the operator can do
};

class Events {
 public:
  static constexpr std::size_t kept = 5000;
  using Listener = std::function<void(const Event&)>;

  /// Gives it an id, logs it and keeps it.
  void add(Event event);
  /// Newest first.
  const std::deque<Event>& all() const { return events_; }
  /// Called for every event from now on; the number is for unsubscribe().
  std::uint64_t subscribe(Listener listener);
  void unsubscribe(std::uint64_t number);

 private:
  std::deque<Event> events_;
  std::vector<std::pair<std::uint64_t, Listener>> listeners_;
  std::uint64_t next_id_ = 1;
  std::uint64_t next_listener_ = 1;
};

}  // namespace egret::relay
