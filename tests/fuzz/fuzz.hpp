// What the fuzzers share: properties that end the program, parameters from the front of an input, and its octets in
// pieces as a network would bring them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

namespace egret::fuzz {

/// A property that every input must have. Its name is what a finding shows.
inline void require(bool holds, const char* property) {
  if (holds) return;
  std::fprintf(stderr, "PROPERTY BROKEN: %s\n", property);
  std::abort();
}

/// An input: a few octets of parameters, then what is parsed. Whatever is missing at its end is zero.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}

  std::uint8_t octet() {
    const std::string_view one = take(1);
    return one.empty() ? std::uint8_t{0} : static_cast<std::uint8_t>(one.front());
  }
  /// Up to the next `mark`, which is taken away; everything if there is none.
  std::string_view until(char mark) {
    const std::size_t end = std::min(rest_.find(mark), rest_.size());
    const std::string_view out = take(end);
    take(1);
    return out;
  }
  std::string_view rest() { return take(rest_.size()); }
  bool empty() const { return rest_.empty(); }

 private:
  std::string_view take(std::size_t size) {
    const std::string_view out = rest_.substr(0, size);
    rest_.remove_prefix(out.size());
    return out;
  }

  std::string_view rest_;
};

/// Cuts octets into pieces: short ones, longer ones or all at once, as `seed` has it.
class Pieces {
 public:
  explicit Pieces(std::uint32_t seed) : state_(seed * 2654435761u + 1), longest_(seed % 4 == 0 ? 0 : 1u << seed % 11) {}

  /// Calls `feed(std::string_view)` for each piece, in order.
  template <class Feed>
  void each(std::string_view octets, Feed&& feed) {
    while (!octets.empty()) {
      const std::string_view piece = octets.substr(0, size());
      octets.remove_prefix(piece.size());
      feed(piece);
    }
  }

 private:
  std::size_t size() {
    if (longest_ == 0) return std::string_view::npos;
    state_ = state_ * 1664525u + 1013904223u;
    return 1 + (state_ >> 16) % longest_;
  }

  std::uint32_t state_;
  std::uint32_t longest_;
};

/// The reader's side of a connection: what was not consumed is offered again with more behind it. The octets offered lie
/// in a buffer of exactly their size, so that a read behind the end is seen.
class Reader {
 public:
  /// Calls `consume(std::string_view& in)`, which takes from the front of `in`.
  template <class Consume>
  void offer(std::string_view piece, Consume&& consume) {
    const std::size_t size = pending_.size() + piece.size();
    const std::unique_ptr<char[]> exact(new char[size]);
    std::copy(pending_.begin(), pending_.end(), exact.get());
    std::copy(piece.begin(), piece.end(), exact.get() + pending_.size());
    std::string_view in(exact.get(), size);
    consume(in);
    pending_ = std::string(in);
  }
  const std::string& pending() const { return pending_; }

 private:
  std::string pending_;
};

/// Text that may stand on one line of a dialog, a log or a report.
inline bool one_line(std::string_view text) {
  return std::ranges::none_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

/// Whether `text` is lines that end in CRLF, without CR, LF or NUL anywhere else.
inline bool crlf_lines(std::string_view text) {
  while (!text.empty()) {
    const std::size_t end = text.find_first_of(std::string_view("\r\n\0", 3));
    if (end == std::string_view::npos || text.substr(end, 2) != "\r\n") return false;
    text.remove_prefix(end + 2);
  }
  return true;
}

/// Takes the next line off `text`, its LF excluded.
inline std::string_view next_line(std::string_view& text) {
  const std::string_view line = text.substr(0, text.find('\n'));
  text.remove_prefix(std::min(text.size(), line.size() + 1));
  return line;
}

}  // namespace egret::fuzz
