#include "relay/spool/watch.hpp"

namespace egret::relay::spool {
namespace {

using namespace std::chrono_literals;

constexpr auto slow = 1s;          // for one sync
constexpr auto slow_pause = 1min;  // between two events that say so

std::string_view name(Trouble trouble) {
  switch (trouble) {
    case Trouble::none:
      return "accepting";
    case Trouble::no_space:
      return "full";
    case Trouble::broken:
      return "broken";
  }
  return "";
}

}  // namespace

void Watch::look() {
  if (const Trouble present = spool_.trouble(); present != last_) {
    tell(last_, present);
    last_ = present;
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

void Watch::tell(Trouble from, Trouble to) {
  Event event;
  event.kind = to == Trouble::none ? "spool-ok" : to == Trouble::no_space ? "spool-full" : "spool-broken";
  event.rule = "spool";
  event.from = name(from);
  event.to = name(to);
  event.text = to == Trouble::none ? "mail is accepted again" : spool_.trouble_text();
  if (to == Trouble::no_space) event.action = "clients get 452 4.3.1 and keep their mail. Make room: accepting goes on by itself";
  if (to == Trouble::broken)
    event.action =
        "clients get 421 4.3.0, nothing is delivered. Look after the disk and start egret again: what it accepted is kept";
  events_.add(std::move(event));
}

}  // namespace egret::relay::spool
