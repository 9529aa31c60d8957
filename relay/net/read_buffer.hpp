// Octets that were read and not used yet. Unlike a vector it does not clear what is about to be written over.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>

namespace egret::relay {

/// Used from one thread only.
class ReadBuffer {
 public:
  /// Begins with what was `received` already, and has room for `size` octets at least.
  ReadBuffer(std::string_view received, std::size_t size) {
    resize(std::max(received.size(), size));
    std::ranges::copy(received, octets_.get());
    filled_ = received.size();
  }

  std::string_view view() const { return {octets_.get(), filled_}; }
  std::size_t filled() const { return filled_; }
  std::size_t size() const { return size_; }
  bool full() const { return filled_ == size_; }
  /// Where the next octets go.
  char* end() { return octets_.get() + filled_; }
  std::size_t room() const { return size_ - filled_; }
  void add(std::size_t count) { filled_ += count; }
  /// Drops the first `count` octets.
  void consume(std::size_t count) {
    filled_ -= count;
    if (count > 0 && filled_ > 0) std::memmove(octets_.get(), octets_.get() + count, filled_);
  }
  /// Keeps what it holds, which must fit.
  void resize(std::size_t size) {
    auto octets = std::make_unique_for_overwrite<char[]>(size);
    std::copy_n(octets_.get(), filled_, octets.get());
    octets_ = std::move(octets);
    size_ = size;
  }

 private:
  std::unique_ptr<char[]> octets_;
  std::size_t size_ = 0;
  std::size_t filled_ = 0;
};

}  // namespace egret::relay
