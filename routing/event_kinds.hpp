// The kinds of events: one list for whoever makes them, filters them, or lets an operator name them.
#pragma once

#include <span>
#include <string_view>

namespace egret::routing {

struct EventKind {
  std::string_view name;
  /// Kinds of one family are turns of the same story ("listed", "delisted"): what goes back and forth within a family is
  /// one alert.
  std::string_view family;
  bool alerts = false;         ///< a target of alerts that names no kinds gets it
  bool per_blocklist = false;  ///< each blocklist is a story of its own
  std::string_view meaning;    ///< half a sentence for people
};

/// All of them, in the order in which documentation and errors name them.
std::span<const EventKind> event_kinds();
/// Null where there is no such kind.
const EventKind* find_event_kind(std::string_view name);

}  // namespace egret::routing
