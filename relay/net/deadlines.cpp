#include "relay/net/deadlines.hpp"

namespace egret::relay {

void Deadlines::add(Expirable& item) {
  item.slot_ = items_.size();
  items_.push_back(&item);
  arm();
}

void Deadlines::remove(Expirable& item) {
  items_[item.slot_] = items_.back();
  items_[item.slot_]->slot_ = item.slot_;
  items_.pop_back();
}

void Deadlines::expire_all() {
  const std::vector<Expirable*> all = items_;
  for (Expirable* item : all) item->expire();
}

void Deadlines::arm() {
  if (armed_ || items_.empty()) return;
  armed_ = true;
  timer_.expires_after(std::chrono::milliseconds(100));
  timer_.async_wait([this](const boost::system::error_code& error) {
    armed_ = false;
    if (!error) look();
  });
}

void Deadlines::look() {
  const Deadline time = std::chrono::steady_clock::now();
  // Expiring only cancels: nothing is destroyed, and so removed, from within.
  for (std::size_t i = 0; i < items_.size(); ++i)
    if (items_[i]->deadline <= time) {
      items_[i]->deadline = Deadline::max();
      items_[i]->expire();
    }
  arm();
}

}  // namespace egret::relay
