#include "routing/event_kinds.hpp"

#include <algorithm>

namespace egret::routing {
namespace {

constexpr EventKind kinds[] = {
    {"listed", "listing", true, true, "a blocklist lists the source"},
    {"delisted", "listing", true, true, "no blocklist lists the source any more"},
    {"blocked", "block", true, false, "a receiver refuses the source"},
    {"throttled", "throttle", false, false, "a receiver wants less from the source"},
    {"misconfigured", "misconfiguration", true, false, "address, PTR record, EHLO name or range of the source are wrong"},
    {"drained", "drain", false, false, "an operator took the source out of service"},
    {"trial", "return", false, false, "the source returns with one message at a time"},
    {"warming", "return", false, false, "the share of the source grows"},
    {"clean", "return", false, false, "the source carries its full share"},
    {"unknown", "return", false, false, "nothing counts against the source, but no list has answered yet"},
    {"dns-mismatch", "dns", false, false, "PTR record, address and EHLO name of the source do not fit together"},
    {"dns-match", "dns", false, false, "they fit together again"},
    {"pool-exhausted", "pool", true, false, "every source of a pool is out of service"},
    {"smarthost-rests", "smarthost", true, false, "a smarthost refused, and rests"},
    {"smarthost-login", "smarthost", true, false, "a smarthost refuses the login, and rests"},
    {"smarthost-sender", "smarthost-sender", true, false,
     "a smarthost does not take a sender, whose domain is not verified there"},
    {"budget", "budget", true, false, "half or four fifths of a budget are used, or all of it"},
    {"poison", "poison", true, false, "a message or sender is held because it gets sources blocked"},
    {"list-down", "blocklist", true, true, "a blocklist fails its test points; its answers do not count"},
    {"list-up", "blocklist", true, true, "a blocklist passes its test points again"},
    {"list-budget", "blocklist", false, true, "a blocklist is asked less often than its interval, to keep to its query budget"},
    {"blocklists-down", "blocklists", true, false, "no blocklist can be asked: standings stay as they are"},
    {"blocklists-up", "blocklists", true, false, "blocklists can be asked again"},
    {"sender-held", "sender", true, false, "a sender's mail is held until it is released"},
    {"sender-slowed", "sender", true, false, "a sender's mail is slowed because it is refused for its content"},
    {"sender-released", "sender", false, false, "an operator released a sender"},
    {"reloaded", "reload", false, false, "the configuration is another"},
    {"reload-refused", "reload", true, false, "the configuration has errors, and the old one stays"},
    {"held", "queue", false, false, "an operator holds mail"},
    {"released", "queue", false, false, "an operator released mail"},
    {"cancelled", "queue", false, false, "an operator ended mail"},
};

}  // namespace

std::span<const EventKind> event_kinds() {
  return kinds;
}

const EventKind* find_event_kind(std::string_view name) {
  const auto* it = std::ranges::find(kinds, name, &EventKind::name);
  return it == std::end(kinds) ? nullptr : it;
}

}  // namespace egret::routing
