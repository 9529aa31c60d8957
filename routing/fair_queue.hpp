// A queue that several classes share by weight, first in first out within each.
//
// Start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM 1996), every item being of the same
// length: each class has a tag, which grows by 1/weight with every item taken; the class with the least tag is next, and
// a class that was empty begins at the present tag. So classes that always wait are served by weight, none starves, and
// an item of a class that waits seldom is taken next, or behind one item of each other class that waits as seldom.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <iterator>
#include <list>
#include <optional>
#include <utility>

namespace egret::routing {

/// Classes are small numbers; their weights (1 to 1000) come with each item, and the last one counts. Costs nothing per
/// item above a std::deque. Not for several threads.
template <typename T>
class FairQueue {
 public:
  static constexpr int max_weight = 1000;

  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  std::size_t size(std::uint32_t message_class) const {
    const auto it = find(message_class);
    return it == classes_.end() ? 0 : it->items.size();
  }

  void push_back(std::uint32_t message_class, int weight, T item) {
    enter(message_class, weight).items.push_back(std::move(item));
    ++size_;
  }

  /// An item that was taken and not served: it is the first of its class again, and its turn is given back.
  void push_front(std::uint32_t message_class, int weight, T item) {
    Class& its = enter(message_class, weight);
    its.tag -= std::min(its.tag, step(its));
    its.items.push_front(std::move(item));
    ++size_;
  }

  /// The class whose turn it is among those that `admits(class)` lets pass; none when nothing of theirs waits.
  template <typename Admits>
  std::optional<std::uint32_t> next(Admits admits) const {
    const Class* best = first(admits);
    return best ? std::optional(best->number) : std::nullopt;
  }

  /// Takes the item whose turn it is. A class that is not admitted saves nothing up for later.
  template <typename Admits>
  std::optional<T> pop(Admits admits) {
    Class* best = const_cast<Class*>(first(admits));
    if (!best) return std::nullopt;
    clock_ = std::max(clock_, best->tag);
    for (Class& other : classes_)
      if (!other.items.empty() && other.tag < best->tag) other.tag = best->tag;
    best->tag += step(*best);
    std::optional<T> out(std::move(best->items.front()));
    best->items.pop_front();
    if (--size_ == 0) rewind();
    return out;
  }
  std::optional<T> pop() {
    return pop([](std::uint32_t) { return true; });
  }

  /// Everything of `other` moves behind what is here, in its order. Cheap where a class has nothing here.
  void splice(FairQueue& other) {
    for (Class& theirs : other.classes_) {
      if (theirs.items.empty()) continue;
      Class& mine = enter(theirs.number, theirs.weight);
      size_ += theirs.items.size();
      if (mine.items.empty())
        mine.items.swap(theirs.items);
      else
        std::move(theirs.items.begin(), theirs.items.end(), std::back_inserter(mine.items));
      theirs.items.clear();
    }
    other.size_ = 0;
    other.rewind();
  }

  /// visit(item) for all, class by class.
  template <typename Visit>
  void for_each(Visit visit) const {
    for (const Class& c : classes_)
      for (const T& item : c.items) visit(item);
  }

  /// visit(class, items) for the classes that have any.
  template <typename Visit>
  void for_each_class(Visit visit) const {
    for (const Class& c : classes_)
      if (!c.items.empty()) visit(c.number, c.items.size());
  }

  /// Takes out the items for which `fits(item)`, which may move them away, is true; nobody is charged for them.
  template <typename Fits>
  std::size_t erase_if(Fits fits) {
    std::size_t gone = 0;
    for (Class& c : classes_) gone += std::erase_if(c.items, fits);
    size_ -= gone;
    if (size_ == 0) rewind();
    return gone;
  }

 private:
  struct Class {
    std::uint32_t number = 0;
    int weight = 1;
    std::uint64_t tag = 0;
    std::deque<T> items;
  };

  // Whole for every weight up to 10, fine enough for the others, and far from an overflow for any number of items.
  static std::uint64_t step(const Class& c) { return 2'520'000u / static_cast<std::uint64_t>(c.weight); }

  auto find(std::uint32_t number) const {
    return std::find_if(classes_.begin(), classes_.end(), [&](const Class& c) { return c.number == number; });
  }

  Class& enter(std::uint32_t number, int weight) {
    auto it = std::find_if(classes_.begin(), classes_.end(), [&](const Class& c) { return c.number == number; });
    if (it == classes_.end()) it = classes_.insert(it, Class{number, 1, 0, {}});
    it->weight = std::clamp(weight, 1, max_weight);
    if (it->items.empty()) it->tag = std::max(it->tag, clock_);
    return *it;
  }

  /// Of equal tags the greater weight goes first.
  template <typename Admits>
  const Class* first(Admits admits) const {
    const Class* best = nullptr;
    for (const Class& c : classes_) {
      if (c.items.empty() || !admits(c.number)) continue;
      if (!best || c.tag < best->tag || (c.tag == best->tag && c.weight > best->weight)) best = &c;
    }
    return best;
  }

  void rewind() {
    clock_ = 0;
    for (Class& c : classes_) c.tag = 0;
  }

  std::list<Class> classes_;  // few; a std::deque is not moved without a copy
  std::uint64_t clock_ = 0;
  std::size_t size_ = 0;
};

}  // namespace egret::routing
