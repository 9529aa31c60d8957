// Which of many patterns can match a text at all, found in one pass over the text: each pattern is reduced to a few
// sets of literal strings, and it cannot match unless of every set at least one string occurs. RE2 knows the strings
// (FilteredRE2); one Aho-Corasick automaton looks for all of them at once.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace egret::routing {

/// Immutable after construction; `possible` is thread-safe and linear in the length of the text.
class LiteralFilter {
 public:
  /// `patterns` are RE2 patterns, searched without regard to ASCII case. An empty one is always possible. The indices of those
  /// that are not valid go to `invalid`, ascending.
  LiteralFilter(const std::vector<std::string>& patterns, std::vector<std::size_t>& invalid);

  /// One bit per pattern, 64 in a word, the first pattern the lowest bit of the first word.
  using Bits = std::vector<std::uint64_t>;
  /// The patterns that may match `text`: all that do, and few that do not. `scratch` is reused between calls.
  void possible(std::string_view text, Bits& scratch, Bits& out) const;

 private:
  /// How many sets a pattern is given; more say little that these have not said.
  static constexpr std::size_t sets = 4;

  struct Literal {
    std::string text;
    std::vector<std::size_t> bits;  ///< set k of pattern p: bit p of plane k
  };
  void build(const std::vector<Literal>& literals);

  std::size_t words_ = 0;                  ///< per plane
  Bits none_;                              ///< the planes while nothing has been seen: missing sets count as seen
  std::array<std::uint8_t, 256> class_{};  ///< byte to column; 0: in no literal
  std::size_t columns_ = 1;
  std::vector<std::uint32_t> next_;  ///< state * columns_ + column
  std::vector<std::uint32_t> mask_;  ///< state to index in masks_ (of whole planes); 0: nothing ends here
  Bits masks_;
};

}  // namespace egret::routing
