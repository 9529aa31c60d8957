#include "relay/ingress/admission.hpp"

namespace egret::relay {
namespace {
constexpr std::size_t max_windows = 100'000;
}

std::string Admission::enter() {
  const std::lock_guard lock(mutex_);
  if (total_ >= connections_) return "4.3.2 too many connections, try again later";
  ++total_;
  return {};
}

void Admission::leave() {
  const std::lock_guard lock(mutex_);
  --total_;
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

std::optional<routing::Duration> Rates::take(const std::string& who, const routing::Budget& rate, std::uint64_t recipients,
                                             routing::Time now) {
  const std::lock_guard lock(mutex_);
  if (windows_.size() >= max_windows) {
    std::erase_if(windows_, [&](const auto& w) { return w.second.start + w.second.per <= now; });
    if (windows_.size() >= max_windows)
      windows_.clear();  // more clients than that in one period: no limit is better than no mail
  }
  Window& window = windows_[who];
  if (window.used == 0 || window.start + rate.per <= now || window.start > now) window = {now, 0, rate.per};
  if (window.used + std::max<std::uint64_t>(recipients, 1) > rate.recipients) return window.start + rate.per - now;
  window.used += recipients;
  return std::nullopt;
}

}  // namespace egret::relay
