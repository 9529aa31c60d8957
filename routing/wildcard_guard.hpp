// The second line against a blocklist that lists everybody, behind its test points and the random name: addresses that
// have nothing to do with each other do not get listed at once. Half of them within one cycle, and at least three, is
// the list's fault and not theirs.
//
// Addresses are unrelated when they are in different networks (/24, for IPv6 /48): a list that takes in a whole network, as
// some do with good reason, is no wildcard, and neither is a pool of one or two sources.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "routing/address.hpp"
#include "routing/probe_schedule.hpp"

namespace egret::routing {

class WildcardGuard {
 public:
  static constexpr std::size_t least_networks = 3;

  WildcardGuard() = default;
  /// `addresses`: all that the list is asked about. `cycle`: the time in which each is asked once.
  WildcardGuard(const std::vector<IpAddress>& addresses, Duration cycle);

  /// Moves what was seen to a clock that began `passed` later.
  void rebase(Instant passed) {
    for (auto& seen : fresh_at_)
      if (seen) *seen -= passed;
  }

  /// A conclusive answer about an address; `known`: a listing that counted before. Policy listings speak of networks and are
  /// not reported here.
  void saw(std::size_t target, bool listed, bool known, Instant now);
  /// When half of the networks or more were newly listed within the last cycle: the addresses whose listings are in question.
  std::optional<std::vector<std::size_t>> trip(Instant now);
  /// Whether as many are still listed as made it trip: what has to fall before the list is believed again.
  bool high() const;
  /// A second network is newly listed within the cycle: the others are worth a look now.
  bool suspicious(Instant now) const;
  /// "5 of 6 unrelated networks".
  std::string share() const;

 private:
  std::size_t networks_listed(std::optional<Instant> since) const;
  bool enough(std::size_t listed) const { return listed >= least_networks && listed * 2 >= networks_; }

  std::vector<std::size_t> network_of_;           ///< by target
  std::vector<std::optional<Instant>> fresh_at_;  ///< by target: when its new listing was first seen
  std::vector<bool> counted_;                     ///< by target: listed for longer, and not in question
  std::size_t networks_ = 0;
  Duration cycle_{};
};

}  // namespace egret::routing
