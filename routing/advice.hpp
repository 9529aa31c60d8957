// What a change of standing is called and what an operator can do about it: the words of the log, the API, alerts and
// simulations, made in one place. And the snapshot that routing sees of one source. Pure.
#pragma once

#include <string>

#include "routing/route.hpp"
#include "routing/site.hpp"
#include "routing/standing.hpp"

namespace egret::routing {

/// The kind of the event: "listed", "delisted", else the new standing's name.
std::string event_kind(const Transition& transition);

/// What the operator can do: until when it lasts, where to ask for removal, whom to write to. Empty when the source is
/// in service.
std::string advice(const Transition& transition, const Blocklists& lists, const Providers& providers);

/// What becomes of a pool's mail while every source of it is out of service.
std::string exhausted_action(WhenExhausted when);

/// The standings of a source as route() reads them.
SourceSnapshot snapshot_of(const SourceState& state, const StandingContext& context);

}  // namespace egret::routing
