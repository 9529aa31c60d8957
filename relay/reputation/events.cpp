#include "relay/reputation/events.hpp"

#include <algorithm>

#include "relay/runtime/clock.hpp"
#include "relay/runtime/log.hpp"

namespace egret::relay {

void Events::add(Event event) {
  event.id = next_id_++;
  event.time = now();
  std::vector<log::Field> fields{{"kind", event.kind}};
  const auto field = [&](std::string_view name, const std::string& value) {
    if (!value.empty()) fields.emplace_back(name, value);
  };
  field("source", event.source);
  field("provider", event.provider);
  field("smarthost", event.smarthost);
  field("blocklist", event.blocklist);
  field("sender", event.sender);
  field("id", event.message);
  field("rule", event.rule);
  field("from", event.from);
  field("to", event.to);
  field("text", event.text);
  field("action", event.action);
  // What went well is no warning.
  const bool good = event.kind == "reloaded" || event.kind == "clean" || event.kind == "list-up" || event.kind == "delisted";
  log::write(good ? log::Level::info : log::Level::warn, "event", fields);
  events_.push_front(std::move(event));
  if (events_.size() > kept) events_.pop_back();
  const auto listeners = listeners_;
  for (const auto& [number, listener] : listeners) listener(events_.front());
}

std::uint64_t Events::subscribe(Listener listener) {
  listeners_.emplace_back(next_listener_, std::move(listener));
  return next_listener_++;
}

void Events::unsubscribe(std::uint64_t number) {
  std::erase_if(listeners_, [&](const auto& entry) { return entry.first == number; });
}

}  // namespace egret::relay
