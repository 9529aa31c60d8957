// The bytes of a message in wire form: CRLF line ends, dot-stuffed, without the final "CRLF.CRLF" dot line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace egret::smtp {

/// A rope of chunks that grows at its end. Small messages are one allocation; large ones never move.
class Body {
 public:
  static constexpr std::size_t max_chunk = 64 * 1024;

  /// `expected` is what the client declared (RFC 1870), a hint only.
  void reserve(std::uint64_t expected);
  void append(std::string_view bytes);

  std::uint64_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const std::vector<std::string>& chunks() const { return chunks_; }
  /// Hands out all chunks but keeps counting: size() stays what was appended since the start.
  std::vector<std::string> release_chunks();
  /// Everything in one string, for tests and small uses.
  std::string flat() const;

 private:
  std::vector<std::string> chunks_;
  std::uint64_t size_ = 0;
  std::size_t next_chunk_ = 4096;
};

/// A range of the body that is left out when the message is sent (a header field that must not travel on).
struct Cut {
  std::uint64_t offset = 0;
  std::uint32_t length = 0;
  bool operator==(const Cut&) const = default;
};

/// Calls `emit(std::string_view)` for the parts of `piece`, which starts at `offset` of the body, outside all cuts.
template <class Emit>
void without_cuts(std::string_view piece, std::uint64_t offset, const std::vector<Cut>& cuts, Emit&& emit) {
  const std::uint64_t end = offset + piece.size();
  std::uint64_t at = offset;
  for (const Cut& cut : cuts) {
    const std::uint64_t cut_end = cut.offset + cut.length;
    if (cut_end <= at || cut.offset >= end) continue;
    if (cut.offset > at) emit(piece.substr(at - offset, cut.offset - at));
    at = cut_end;
  }
  if (at < end) emit(piece.substr(at - offset));
}

/// The same as it goes out: `added` (header fields of our own) stands at offset `header_end`.
template <class Emit>
void as_sent(std::string_view piece, std::uint64_t offset, const std::vector<Cut>& cuts, std::uint64_t header_end,
             std::string_view added, Emit&& emit) {
  const std::uint64_t end = offset + piece.size();
  // At the end of a piece it is due when the header ends the message, or the next piece would have it: once only.
  if (added.empty() || header_end < offset || header_end > end || (header_end == offset && offset > 0)) {
    without_cuts(piece, offset, cuts, emit);
    return;
  }
  without_cuts(piece.substr(0, header_end - offset), offset, cuts, emit);
  emit(added);
  without_cuts(piece.substr(header_end - offset), header_end, cuts, emit);
}

}  // namespace egret::smtp
