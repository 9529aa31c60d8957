#include "relay/spool/watch.hpp"

namespace egret::relay::spool {
namespace {

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
  timer_.expires_after(std::chrono::milliseconds(100));
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) look();
  });
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
