// What each source has sent to each provider of late, shared by all workers: the memory behind routing/shaping.
#pragma once

#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "routing/shaping.hpp"
#include "routing/standing.hpp"

namespace egret::relay {

/// What one source has sent to each provider. Sites of no known provider are providers of their own, so there may be a
/// great many: beyond `most` the one that got nothing for longest is forgotten, before those with a cap in use.
class ShapingUses {
 public:
  explicit ShapingUses(std::size_t most = 10'000) : most_(most) {}
  // Its entries point into it: moved they still do, copied they would not.
  ShapingUses(ShapingUses&&) noexcept = default;
  ShapingUses& operator=(ShapingUses&&) noexcept = default;
  ShapingUses(const ShapingUses&) = delete;
  ShapingUses& operator=(const ShapingUses&) = delete;

  /// Made where it is not known. Stays valid until the next call.
  routing::ShapingUse& of(const std::string& provider) {
    const auto [it, fresh] = uses_.try_emplace(provider);
    Entry& entry = it->second;
    if (!fresh) {
      order_.splice(order_.end(), order_, entry.place);
      return entry.use;
    }
    entry.place = order_.insert(order_.end(), &it->first);
    if (uses_.size() > most_) make_room();
    return entry.use;
  }
  routing::ShapingUse* find(const std::string& provider) {
    const auto it = uses_.find(provider);
    return it == uses_.end() ? nullptr : &it->second.use;
  }
  std::size_t size() const { return uses_.size(); }
  template <class Visit>
  void each(Visit&& visit) const {
    for (const auto& [provider, entry] : uses_) visit(provider, entry.use);
  }

 private:
  struct Entry {
    routing::ShapingUse use;
    std::list<const std::string*>::iterator place;
  };
  static constexpr int tries = 8;  // entries with a cap in use that are passed over: forgetting stays cheap

  /// Never the last, which was asked for just now.
  void make_room() {
    auto victim = order_.begin();
    for (auto it = order_.begin(); it != std::prev(order_.end()) && std::distance(order_.begin(), it) < tries; ++it)
      if (uses_.find(**it)->second.use.day.used == 0) {
        victim = it;
        break;
      }
    uses_.erase(uses_.find(**victim));
    order_.erase(victim);
  }

  std::size_t most_;
  std::map<std::string, Entry, std::less<>> uses_;
  std::list<const std::string*> order_;  ///< keys of uses_, the longest unused first
};

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
    routing::ShapingUse& use = uses_[source].of(provider);
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
    if (routing::ShapingUse* use = uses_[source].find(provider))
      routing::take_back(*use, {view.throttle, view.per_day}, recipients, at);
  }
  /// The recipients counted against caps, by provider.
  std::map<std::string, routing::ShapingUse, std::less<>> capped(std::uint32_t source) const {
    const std::lock_guard lock(mutex_);
    std::map<std::string, routing::ShapingUse, std::less<>> out;
    uses_[source].each([&](const std::string& provider, const routing::ShapingUse& use) {
      if (use.day.used > 0) out.emplace(provider, use);
    });
    return out;
  }
  void restore(std::uint32_t source, const std::string& provider, routing::BudgetUse day, routing::BudgetUse hour) {
    routing::ShapingUse& use = uses_[source].of(provider);
    use.day = day;
    use.hour = hour;
  }
  /// True once after counts against caps have changed: time to save.
  bool take_changed() {
    const std::lock_guard lock(mutex_);
    return std::exchange(changed_, false);
  }

 private:
  mutable std::mutex mutex_;
  std::vector<ShapingUses> uses_;
  bool changed_ = false;
};

}  // namespace egret::relay
