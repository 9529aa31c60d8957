#include "relay/spool/watch.hpp"

namespace egret::relay::spool {
namespace {

using namespace std::chrono_literals;

constexpr auto slow = 1s;          // for one sync
constexpr auto slow_pause = 1min;  // between two events that say so

std::string_view name(Watch::State state) {
  switch (state) {
    case Watch::State::accepting:
      return "accepting";
    case Watch::State::low:
      return "low";
    case Watch::State::full:
      return "full";
    case Watch::State::broken:
      return "broken";
  }
  return "";
}

}  // namespace

Watch::State Watch::present() const {
  switch (spool_.trouble()) {
    case Trouble::no_space:
      return State::full;
    case Trouble::broken:
      return State::broken;
    case Trouble::none:
      break;
  }
  return spool_.low() ? State::low : State::accepting;
}

void Watch::look() {
  if (const State state = present(); state != last_) {
    tell(last_, state);
    last_ = state;
  }
  look_at_syncs();
  timer_.expires_after(100ms);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) look();
  });
}

void Watch::look_at_syncs() {
  const auto time = std::chrono::steady_clock::now();
  const auto longest = spool_.sync_times().take_longest(time);
  const bool told = slow_told_.time_since_epoch().count() != 0 && time - slow_told_ < slow_pause;
  if (longest < slow || told) return;
  slow_told_ = time;
  Event event;
  event.kind = "spool-slow";
  event.rule = "spool";
  event.text = "the disk takes " + std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(longest).count()) +
               " ms for a sync: clients wait that long for their 250";
  event.action = "nothing is lost. Look what else uses this disk, and at egret_spool_sync_seconds";
  events_.add(std::move(event));
}

void Watch::tell(State from, State to) {
  Event event;
  event.rule = "spool";
  event.from = name(from);
  event.to = name(to);
  switch (to) {
    case State::accepting:
      event.kind = "spool-ok";
      event.text = "mail is accepted again";
      break;
    case State::low:
      event.kind = "spool-low";
      event.text = "less than twice spool.reserve of the disk is free";
      event.action =
          "clients get 452 4.3.1 for mail of lesser weight than the greatest, and keep it. Make room: accepting goes on by "
          "itself";
      break;
    case State::full:
      event.kind = "spool-full";
      event.text = spool_.trouble_text();
      event.action = "clients get 452 4.3.1 and keep their mail. Make room: accepting goes on by itself";
      break;
    case State::broken:
      event.kind = "spool-broken";
      event.text = spool_.trouble_text();
      event.action =
          "clients get 421 4.3.0, nothing is delivered. Look after the disk and start egret again: what it accepted is kept";
      break;
  }
  events_.add(std::move(event));
}

}  // namespace egret::relay::spool
