// Which events become alerts of their own, and which are folded into one that is already out.
//
// A story is what happens to the same thing: events whose kinds are of one family (routing/event_kinds.hpp) and which
// concern the same source, provider, smarthost, pool, message and, for listings, blocklist. Its first event, and the first
// turn to each other state, are told at once. When it turns back to a state that was told already it flaps: that is told
// once; from then on turns are counted, summed up every two windows while it goes on, and once more when nothing has
// happened for a window. Repetitions of the same state are counted in the same way, without the word.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "relay/reputation/events.hpp"

namespace egret::relay {

/// One notification. Those of one story have the same id and count up.
struct Alert {
  enum class Phase {
    opened,    ///< the first of its story
    changed,   ///< another state, at once
    flapping,  ///< it goes back and forth: more turns are counted, not told
    repeated,  ///< the same again, summed up
    settled,   ///< quiet again, with what was counted
  };
  std::string id;
  std::uint32_t sequence = 1;
  Phase phase = Phase::opened;
  Event event;                                  ///< the latest of the story
  std::map<std::string, std::uint64_t> counts;  ///< events of the story so far, by kind
  routing::Time first{};
  routing::Time last{};
};
std::string_view to_string(Alert::Phase phase);

/// A value without clock and I/O. The latest time given must not go back by more than clocks do: a step back only delays
/// what is due.
class AlertFold {
 public:
  static constexpr std::size_t max_stories = 4096;  ///< beyond, the one that has been quiet longest is forgotten

  explicit AlertFold(routing::Duration window = std::chrono::minutes(30)) : window_(window) {}

  /// The alert that is to go out now, if any.
  std::optional<Alert> add(const Event& event, routing::Time now);
  /// Summaries whose time has come. Ends stories that have been quiet for a window.
  std::vector<Alert> due(routing::Time now);
  /// When due() is to be called next; nullopt while there is nothing to wait for.
  std::optional<routing::Time> next_due() const;
  std::size_t stories() const { return stories_.size(); }

 private:
  struct Story {
    Alert alert;
    std::set<std::string> told;  ///< states that were told
    std::string state;           ///< the present one
    routing::Time told_at{};
    std::uint64_t folded = 0;  ///< events since then
    bool flapping = false;
    bool folded_ever = false;
  };

  routing::Time due_at(const Story& story) const;
  static Alert tell(Story& story, Alert::Phase phase, routing::Time now);
  void make_room();

  routing::Duration window_;
  std::map<std::string, Story> stories_;
};

}  // namespace egret::relay
