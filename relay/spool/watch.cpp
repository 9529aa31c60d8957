#include "relay/spool/watch.hpp"

namespace egret::relay::spool {
namespace {

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
  timer_.expires_after(std::chrono::milliseconds(100));
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) look();
  });
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
