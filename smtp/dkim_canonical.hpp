// The "relaxed" canonical form of header fields and bodies (RFC 6376 section 3.4): what a DKIM signature is made over.
//
// Both take mail in the wire form of smtp/body.hpp and undo its dot-stuffing, because the verifier sees the content.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace egret::smtp {

/// A header field: the name without the blanks that may stand before its colon; what follows the colon with its folds,
/// without the last CRLF. Both point into the text that was split.
struct HeaderField {
  std::string_view name;
  std::string_view value;
};

/// A header section from wire form to content: the dot that transparency put in front of a line is taken away.
std::string unstuff(std::string_view wire);

/// The fields of an unstuffed header section, in order; reading stops at an empty line. nullopt when a line is neither a
/// field nor the continuation of one: readers disagree about where the body of such a message starts.
std::optional<std::vector<HeaderField>> split_header(std::string_view content);

/// RFC 6376 section 3.4.2: "name:value" CRLF with the name in lower case, unfolded, blanks reduced.
std::string relaxed_field(std::string_view name, std::string_view value);

/// RFC 6376 section 3.4.4 for a body that comes in pieces of any size. Memory does not grow with the body. CR and LF
/// that are not a CRLF are content like any other octet.
class RelaxedBody {
 public:
  /// `sink` receives the canonical body piece by piece.
  explicit RelaxedBody(std::function<void(std::string_view)> sink) : sink_(std::move(sink)) {}

  /// The next octets of the body in wire form, the final dot line excluded.
  void update(std::string_view wire);
  /// The body is complete. Nothing may follow.
  void finish();

 private:
  std::size_t canonical_lines(std::string_view wire);
  void whole_line(std::string_view line);
  void part_of_line(std::string_view wire);
  void content(std::string_view run);
  void end_line();
  void empty_lines();
  void put(std::string_view bytes);
  void flush();

  std::function<void(std::string_view)> sink_;
  std::array<char, 8192> buffer_;
  std::size_t buffered_ = 0;
  std::uint64_t empty_lines_ = 0;  // dropped at the end of the body, so held back until something follows
  bool line_start_ = true;         // nothing of the current line was read
  bool has_content_ = false;       // the current line has octets other than blanks
  bool blank_ = false;             // blanks were read that count only if the line goes on
  bool cr_ = false;                // the last octet was CR
};

}  // namespace egret::smtp
