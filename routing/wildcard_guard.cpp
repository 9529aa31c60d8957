#include "routing/wildcard_guard.hpp"

#include <algorithm>
#include <map>

namespace egret::routing {
namespace {

IpAddress network_of(const IpAddress& given) {
  IpAddress out = given.unmapped();
  std::fill(out.bytes.begin() + (out.v6 ? 6 : 3), out.bytes.end(), std::uint8_t{0});
  return out;
}

}  // namespace

WildcardGuard::WildcardGuard(const std::vector<IpAddress>& addresses, Duration cycle)
    : fresh_at_(addresses.size()), counted_(addresses.size(), false), cycle_(cycle) {
  std::map<IpAddress, std::size_t> networks;
  for (const IpAddress& address : addresses)
    network_of_.push_back(networks.emplace(network_of(address), networks.size()).first->second);
  networks_ = networks.size();
}

void WildcardGuard::saw(std::size_t target, bool listed, bool known, Instant now) {
  std::optional<Instant>& at = fresh_at_[target];
  if (!listed) {
    at.reset();
    counted_[target] = false;
  } else if (known) {
    counted_[target] = true;
  } else if (!at && !counted_[target]) {
    at = now;
  }
}

std::size_t WildcardGuard::networks_listed(std::optional<Instant> since) const {
  std::vector<bool> listed(networks_, false);
  for (std::size_t i = 0; i < fresh_at_.size(); ++i)
    if (fresh_at_[i] && (!since || *fresh_at_[i] >= *since)) listed[network_of_[i]] = true;
  return static_cast<std::size_t>(std::ranges::count(listed, true));
}

std::optional<std::vector<std::size_t>> WildcardGuard::trip(Instant now) {
  if (!enough(networks_listed(now - cycle_))) return std::nullopt;
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < fresh_at_.size(); ++i) {
    if (!fresh_at_[i]) continue;
    if (*fresh_at_[i] >= now - cycle_)
      out.push_back(i);
    else
      fresh_at_[i].reset();  // an older listing that was believed with good reason
  }
  return out;
}

bool WildcardGuard::high() const {
  return enough(networks_listed(std::nullopt));
}

bool WildcardGuard::suspicious(Instant now) const {
  return networks_ >= least_networks && networks_listed(now - cycle_) == 2;
}

std::string WildcardGuard::share() const {
  return std::to_string(networks_listed(std::nullopt)) + " of " + std::to_string(networks_) + " unrelated networks";
}

}  // namespace egret::routing
