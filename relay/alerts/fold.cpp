#include "relay/alerts/fold.hpp"

#include <algorithm>

#include "routing/event_kinds.hpp"

namespace egret::relay {
namespace {

constexpr std::size_t max_told = 4;  // states of one story that are told at once, however many there are

/// What the story is about. Fields cannot hold a line end: remote text is cleaned before it is evidence.
std::string key_of(const Event& event) {
  const auto* kind = routing::find_event_kind(event.kind);
  std::string key(kind ? kind->family : std::string_view(event.kind));
  for (const std::string* part : {&event.source, &event.provider, &event.smarthost, &event.pool, &event.sender, &event.message})
    key += '\n' + *part;
  if (!kind || kind->per_blocklist) key += '\n' + event.blocklist;
  if (event.kind == "budget") key += '\n' + event.rule;  // each budget has its own story
  return key;
}

}  // namespace

std::string_view to_string(Alert::Phase phase) {
  switch (phase) {
    case Alert::Phase::opened:
      return "new";
    case Alert::Phase::changed:
      return "changed";
    case Alert::Phase::flapping:
      return "flapping";
    case Alert::Phase::repeated:
      return "repeated";
    case Alert::Phase::settled:
      return "settled";
  }
  return "new";
}

std::optional<Alert> AlertFold::add(const Event& event, routing::Time now) {
  const std::string key = key_of(event);
  const std::string state = event.kind + '\n' + event.to;
  auto it = stories_.find(key);
  const bool fresh = it == stories_.end();
  if (fresh) {
    if (stories_.size() >= max_stories) make_room();
    it = stories_.emplace(key, Story{}).first;
    // The id outlives a restart: event numbers alone begin again.
    it->second.alert.id = std::to_string(now.time_since_epoch().count()) + '-' + std::to_string(event.id);
    it->second.alert.sequence = 0;
    it->second.alert.first = now;
  }
  Story& story = it->second;
  const bool same = !fresh && story.state == state;
  story.alert.event = event;
  story.alert.last = now;
  ++story.alert.counts[event.kind];
  story.state = state;
  if (fresh) {
    story.told.insert(state);
    return tell(story, Alert::Phase::opened, now);
  }
  if (!same && !story.flapping) {
    if (story.told.size() < max_told && story.told.insert(state).second) return tell(story, Alert::Phase::changed, now);
    story.flapping = true;
    return tell(story, Alert::Phase::flapping, now);
  }
  ++story.folded;
  story.folded_ever = true;
  return std::nullopt;
}

Alert AlertFold::tell(Story& story, Alert::Phase phase, routing::Time now) {
  story.told_at = now;
  story.folded = 0;
  ++story.alert.sequence;
  story.alert.phase = phase;
  return story.alert;
}

/// Quiet for a window, or still going on two windows after the last word.
routing::Time AlertFold::due_at(const Story& story) const {
  const routing::Time quiet = story.alert.last + window_;
  return story.folded > 0 ? std::min(quiet, story.told_at + 2 * window_) : quiet;
}

std::vector<Alert> AlertFold::due(routing::Time now) {
  std::vector<Alert> out;
  for (auto it = stories_.begin(); it != stories_.end();) {
    Story& story = it->second;
    if (now >= story.alert.last + window_) {
      if (story.flapping || story.folded_ever) out.push_back(tell(story, Alert::Phase::settled, now));
      it = stories_.erase(it);
      continue;
    }
    if (now >= due_at(story)) out.push_back(tell(story, story.flapping ? Alert::Phase::flapping : Alert::Phase::repeated, now));
    ++it;
  }
  return out;
}

std::optional<routing::Time> AlertFold::next_due() const {
  std::optional<routing::Time> out;
  for (const auto& [key, story] : stories_) out = std::min(out.value_or(routing::Time::max()), due_at(story));
  return out;
}

void AlertFold::make_room() {
  const auto quietest = std::ranges::min_element(stories_, {}, [](const auto& entry) { return entry.second.alert.last; });
  stories_.erase(quietest);
}

}  // namespace egret::relay
