// Where each waiting message is stored: the one thing that the spool keeps in memory for each of them.
//
// What a start finds comes in the order of ids and mostly leaves from there: two sorted arrays, 20 octets a message, with
// nothing to look up while they are filled. What comes later is in a hash table.
#pragma once

#include <algorithm>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace egret::relay::spool {

/// Where a waiting message's ACCEPT record is.
struct Place {
  std::uint32_t segment = 0;  ///< the first is 1
  std::uint32_t offset = 0;
  std::uint32_t length = 0;  ///< of the payload
};

class Index {
 public:
  void reserve(std::size_t count) {
    ids_.reserve(count);
    places_.reserve(count);
  }
  /// Adds, or replaces what was there. Ids that only grow, before close(), are the cheap ones.
  void add(std::uint64_t id, const Place& place) {
    if (Place* const known = find(id)) {
      *known = place;
    } else if (!closed_ && (ids_.empty() || id > ids_.back())) {
      ids_.push_back(id);
      places_.push_back(place);
      ++alive_;
    } else {
      later_[id] = place;
    }
  }
  /// From now on everything goes into the hash table, which forgets it without a trace.
  void close() { closed_ = true; }

  /// Null when there is none; valid until the next call that changes the index.
  Place* find(std::uint64_t id) {
    if (!later_.empty())
      if (const auto it = later_.find(id); it != later_.end()) return &it->second;
    if (ids_.empty() || id > ids_.back()) return nullptr;
    const auto at = std::ranges::lower_bound(ids_, id);
    if (*at != id) return nullptr;
    Place& place = places_[static_cast<std::size_t>(at - ids_.begin())];
    return place.segment == 0 ? nullptr : &place;
  }
  bool contains(std::uint64_t id) { return find(id) != nullptr; }

  void erase(std::uint64_t id) {
    if (later_.erase(id) > 0) return;
    Place* const place = find(id);
    if (!place) return;
    place->segment = 0;
    --alive_;
    if (alive_ < ids_.size() / 2) compact();
  }
  std::size_t size() const { return alive_ + later_.size(); }

 private:
  /// Each time half of what there was is gone, its memory goes too.
  void compact() {
    std::vector<std::uint64_t> ids;
    std::vector<Place> places;
    ids.reserve(alive_);
    places.reserve(alive_);
    for (std::size_t i = 0; i < ids_.size(); ++i) {
      if (places_[i].segment == 0) continue;
      ids.push_back(ids_[i]);
      places.push_back(places_[i]);
    }
    ids_.swap(ids);
    places_.swap(places);
  }

  std::vector<std::uint64_t> ids_;  ///< ascending
  std::vector<Place> places_;       ///< parallel; segment 0: gone
  std::size_t alive_ = 0;           ///< of these
  bool closed_ = false;
  boost::unordered_flat_map<std::uint64_t, Place> later_;
};

}  // namespace egret::relay::spool
