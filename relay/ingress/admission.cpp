#include "relay/ingress/admission.hpp"

namespace egret::relay {
namespace {
constexpr std::size_t max_windows = 100'000;
}

std::string Admission::enter(bool passing) {
  const std::lock_guard lock(mutex_);
  const int most = connections_;
  if (total_ >= most) return "4.3.2 too many connections, try again later";
  if (passing && passing_ >= most - most / 4) return "4.3.2 too many connections wait for receivers, try again later";
  ++total_;
  passing_ += passing;
  return {};
}

void Admission::leave(bool passing) {
  const std::lock_guard lock(mutex_);
  --total_;
  passing_ -= passing;
}

std::string Admission::enter(const routing::IpAddress& client) {
  const std::lock_guard lock(mutex_);
  int& mine = clients_[client.customer()];
  if (mine >= connections_per_client_) return "4.7.0 too many connections from " + client.to_string();
  ++mine;
  return {};
}

void Admission::leave(const routing::IpAddress& client) {
  const std::lock_guard lock(mutex_);
  const auto it = clients_.find(client.customer());
  if (it != clients_.end() && --it->second <= 0) clients_.erase(it);
}

Rates::Window& Rates::open(const RateClaim& claim, routing::Time now) {
  Window& window = windows_[(claim.messages ? "m " : "r ") + std::to_string(claim.rate.per.count()) + ' ' + claim.who];
  if (window.used == 0 || window.start + claim.rate.per <= now || window.start > now) window = {now, 0, claim.rate.per};
  return window;
}

std::optional<RateRefusal> Rates::take(const std::vector<RateClaim>& claims, routing::Time now) {
  const std::lock_guard lock(mutex_);
  if (windows_.size() >= max_windows) {
    std::erase_if(windows_, [&](const auto& w) { return w.second.start + w.second.per <= now; });
    // Names that were made up to be used once must not be what ends the limits of the others.
    if (windows_.size() >= max_windows) std::erase_if(windows_, [](const auto& w) { return w.second.used <= 2; });
    // More clients than that in one period: no limit is better than no mail, or than a search for room at each recipient.
    if (windows_.size() >= max_windows / 10 * 9) windows_.clear();
  }
  std::vector<Window*> windows;  // a map's entries stay where they are
  for (std::size_t i = 0; i < claims.size(); ++i) {
    Window& window = open(claims[i], now);
    if (window.used + std::max<std::uint64_t>(claims[i].amount, 1) > claims[i].rate.recipients)
      return RateRefusal{i, window.start + claims[i].rate.per - now};
    windows.push_back(&window);
  }
  for (std::size_t i = 0; i < claims.size(); ++i) windows[i]->used += claims[i].amount;
  return std::nullopt;
}

}  // namespace egret::relay
