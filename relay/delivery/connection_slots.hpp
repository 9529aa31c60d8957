// How many connections a worker has open to receivers and smarthosts at once (its share of limits.connections_out), and whose
// turn it is when that many are: each connection holds a message in memory, and the number of destinations is not ours to choose.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <deque>
#include <map>
#include <optional>
#include <utility>

namespace egret::relay {

/// Not thread-safe: each worker has one. `Key` names who waits (a lane), each at most once.
template <class Key>
class ConnectionSlots {
 public:
  /// Why somebody waits, the most urgent first.
  enum class Want {
    first,   ///< he has no connection
    lesser,  ///< nor has he, but only mail that leaves room for other mail
    more,    ///< he has one, and work for another
  };
  /// A connection that others wait for ends after this many messages.
  static constexpr int messages_each = 20;

  /// A worker's share of `limit`; one at least, or its destinations would have none.
  static std::size_t share(std::size_t limit, std::size_t workers, std::size_t index) {
    return std::max<std::size_t>(1, limit / workers + (index < limit % workers ? 1 : 0));
  }

  /// With less than are open, no new ones come until enough have ended.
  void set_limit(std::size_t limit) { limit_ = limit; }
  std::size_t open() const { return open_; }
  /// Those who have none.
  std::size_t waiting() const { return urgent_; }
  /// Somebody has none: others should not keep theirs for long.
  bool wanted() const { return urgent_ > 0; }
  /// begin() would succeed.
  bool room() const { return open_ < limit_ && wants_.empty(); }

  /// A connection may be opened, and is counted until end(). While somebody waits it is his turn: next().
  bool begin() {
    if (!room()) return false;
    ++open_;
    return true;
  }
  void end() { --open_; }

  /// He waits, or waits for something more urgent than before. True when that makes him one of those who have none.
  bool wait(const Key& key, Want want) {
    const auto [it, fresh] = wants_.try_emplace(key, want);
    if (!fresh && it->second <= want) return false;
    const bool was_urgent = !fresh && it->second != Want::more;
    it->second = want;
    queues_[static_cast<std::size_t>(want)].push_back(key);
    if (want == Want::more || was_urgent) return false;
    ++urgent_;
    return true;
  }
  /// He does not wait any more. Should he wait for the same again before it would have been his turn, he has his old place.
  void forget(const Key& key) {
    const auto it = wants_.find(key);
    if (it == wants_.end()) return;
    urgent_ -= it->second != Want::more;
    wants_.erase(it);
  }
  /// Who may open one now, if there is room; it is counted, and he waits no more. Of four who are served while both kinds
  /// wait that have none, one has lesser mail.
  std::optional<Key> next() {
    if (open_ >= limit_ || wants_.empty()) return std::nullopt;
    for (auto want : {Want::first, Want::lesser, Want::more}) drop_stale(want);
    const bool its_lesser = !queue(Want::lesser).empty() && (queue(Want::first).empty() || ++served_ % 4 == 0);
    const Want want = its_lesser ? Want::lesser : queue(Want::first).empty() ? Want::more : Want::first;
    Key key = std::move(queue(want).front());
    queue(want).pop_front();
    forget(key);
    ++open_;
    return key;
  }

 private:
  std::deque<Key>& queue(Want want) { return queues_[static_cast<std::size_t>(want)]; }
  /// Whoever moved to another queue, or waits no more, leaves his place behind.
  void drop_stale(Want want) {
    auto& keys = queue(want);
    const auto stale = [&](const Key& key) {
      const auto it = wants_.find(key);
      return it == wants_.end() || it->second != want;
    };
    while (!keys.empty() && stale(keys.front())) keys.pop_front();
  }

  std::size_t limit_ = 1;
  std::size_t open_ = 0;
  std::size_t urgent_ = 0;
  std::size_t served_ = 0;
  std::array<std::deque<Key>, 3> queues_;
  std::map<Key, Want> wants_;
};

}  // namespace egret::relay
