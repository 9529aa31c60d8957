// What each source has sent to each provider of late, shared by all workers: the memory behind routing/shaping.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "routing/shaping.hpp"
#include "routing/standing.hpp"

namespace egret::relay {

class Shaping {
 public:
  /// As many sources as that from now on; what was counted stays.
  void configure(std::size_t sources) {
    const std::lock_guard lock(mutex_);
    uses_.resize(sources);
  }

  /// Takes a message through a source to a provider, or says why it may not go now. `take` false: only says so.
  std::optional<routing::ShapingRefusal> admit(std::uint32_t source, const std::string& provider,
                                               const routing::StandingView& view, std::uint64_t recipients, routing::Time now,
                                               bool take = true) {
    const std::lock_guard lock(mutex_);
    auto& uses = uses_[source];
    if (uses.size() >= kept && !uses.contains(provider)) make_room(uses, now);
    routing::ShapingUse& use = uses[provider];
    if (take && view.per_day) changed_ = true;
    routing::ShapingUse tried = use;
    const auto refusal = routing::admit(tried, {view.throttle, view.per_day}, recipients, now);
    if (take) use = tried;
    return refusal;
  }
  /// Gives back what admit() took at `at` for a message that was not tried.
  void take_back(std::uint32_t source, const std::string& provider, const routing::StandingView& view, std::uint64_t recipients,
                 routing::Time at) {
    const std::lock_guard lock(mutex_);
    if (const auto use = uses_[source].find(provider); use != uses_[source].end())
      routing::take_back(use->second, {view.throttle, view.per_day}, recipients, at);
  }
  /// The recipients counted against caps, by provider.
  std::map<std::string, routing::ShapingUse, std::less<>> capped(std::uint32_t source) const {
    const std::lock_guard lock(mutex_);
    auto out = uses_[source];
    std::erase_if(out, [](const auto& entry) { return entry.second.day.used == 0; });
    return out;
  }
  void restore(std::uint32_t source, const std::string& provider, routing::BudgetUse day, routing::BudgetUse hour) {
    routing::ShapingUse& use = uses_[source][provider];
    use.day = day;
    use.hour = hour;
  }
  /// True once after counts against caps have changed: time to save.
  bool take_changed() {
    const std::lock_guard lock(mutex_);
    return std::exchange(changed_, false);
  }

 private:
  using Uses = std::map<std::string, routing::ShapingUse, std::less<>>;
  static constexpr std::size_t kept = 10'000;  // providers of a source

  /// Sites of no known provider are providers of their own: those that got nothing for an hour are forgotten first.
  static void make_room(Uses& uses, routing::Time now) {
    std::erase_if(
        uses, [&](const auto& entry) { return now - entry.second.last > std::chrono::hours(1) && entry.second.day.used == 0; });
    if (uses.size() >= kept) uses.erase(uses.begin());
  }

  mutable std::mutex mutex_;
  std::vector<Uses> uses_;
  bool changed_ = false;
};

}  // namespace egret::relay
