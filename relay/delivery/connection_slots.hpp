// How many connections a worker has open to receivers and smarthosts at once (its share of limits.connections_out), and whose
// turn it is when that many are: each connection holds a message in memory, and the number of destinations is not ours to choose.
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <optional>
#include <set>
#include <utility>

namespace egret::relay {

/// Not thread-safe: each worker has one. `Key` names who waits (a lane without any connection), each at most once.
template <class Key>
class ConnectionSlots {
 public:
  /// A connection that others wait for ends after this many messages.
  static constexpr int messages_each = 20;

  /// A worker's share of `limit`; one at least, or its destinations would have none.
  static std::size_t share(std::size_t limit, std::size_t workers, std::size_t index) {
    return std::max<std::size_t>(1, limit / workers + (index < limit % workers ? 1 : 0));
  }

  /// With less than are open, no new ones come until enough have ended.
  void set_limit(std::size_t limit) { limit_ = limit; }
  std::size_t open() const { return open_; }
  std::size_t waiting() const { return keys_.size(); }
  bool wanted() const { return !keys_.empty(); }

  /// A connection may be opened, and is counted until end(). While somebody waits it is his turn: `its_turn` says that next()
  /// has named the one who asks.
  bool begin(bool its_turn) {
    if (open_ >= limit_ || (wanted() && !its_turn)) return false;
    ++open_;
    return true;
  }
  void end() { --open_; }

  /// `lesser`: he has only mail that leaves room for other mail. Of four who are served while both kinds wait one is of those.
  void wait(Key key, bool lesser) {
    if (keys_.insert(key).second) (lesser ? lesser_ : first_).push_back(std::move(key));
  }
  /// Who may open one now, if there is room; he waits no more.
  std::optional<Key> next() {
    if (open_ >= limit_ || keys_.empty()) return std::nullopt;
    const bool its_lesser = first_.empty() || (!lesser_.empty() && ++served_ % 4 == 0);
    auto& queue = its_lesser ? lesser_ : first_;
    Key key = std::move(queue.front());
    queue.pop_front();
    keys_.erase(key);
    return key;
  }

 private:
  std::size_t limit_ = 1;
  std::size_t open_ = 0;
  std::size_t served_ = 0;
  std::deque<Key> first_, lesser_;
  std::set<Key> keys_;
};

}  // namespace egret::relay
