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
    {"smarthost-unready", "readiness", true, false, "a sender domain is not prepared at a smarthost: its mail does not go by it"},
    {"smarthost-ready", "readiness", true, false, "it is prepared there now"},
    {"canary-failed", "canary", true, false, "a smarthost did not take a message that was to show that it works"},
    {"canary-works", "canary", true, false, "it takes them again"},
    {"smarthost-account", "smarthost-account", true, false, "an ESP says that the account there is limited, or no longer is"},
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
    {"rate-exceeded", "rate", false, false,
     "a user, client network or sender domain sends more than its rate; the rest gets 450"},
    {"unusual-sender", "unusual", true, false, "a user, client network or sender domain sends far more than is usual"},
    {"user-slowed", "user", true, false, "a user's mail is slowed because too much of it is refused"},
    {"user-suspended", "user", true, false, "a user may not send until an operator lets him"},
    {"user-resumed", "user", true, false, "a user may send as before"},
    {"spool-low", "spool", true, false, "the disk is getting full: mail of lesser classes is not accepted"},
    {"spool-full", "spool", true, false, "the disk is too full to accept mail"},
    {"spool-broken", "spool", true, false, "the disk failed: nothing is accepted or delivered until a restart"},
    {"spool-ok", "spool", true, false, "mail is accepted again"},
    {"spool-slow", "spool-slow", true, false, "the disk takes a second or more to make mail durable"},
    {"complaints", "complaints", true, false, "recipients told an ESP that a sender's mail is spam"},
    {"esp-events-refused", "esp-events", true, false, "webhook requests in an ESP's name are not believed"},
    {"esp-events-subscribed", "esp-events-subscription", false, false, "Amazon SNS sends events from now on"},
    {"esp-events-unsubscribed", "esp-events-subscription", true, false, "Amazon SNS sends no events any more"},
    {"reloaded", "reload", false, false, "the configuration is another"},
    {"reload-refused", "reload", true, false, "the configuration has errors, and the old one stays"},
    {"upgrading", "upgrade", false, false, "another program takes this one's place"},
    {"upgrade-refused", "upgrade", true, false, "the program on disk cannot take this one's place, and this one goes on"},
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
