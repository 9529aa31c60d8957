#include "routing/literal_filter.hpp"

#include <gtest/gtest.h>
#include <re2/re2.h>

namespace egret::routing {
namespace {

/// The indices of the patterns that are possible in `text`.
std::vector<std::size_t> possible(const std::vector<std::string>& patterns, std::string_view text) {
  std::vector<std::size_t> invalid;
  const LiteralFilter filter(patterns, invalid);
  EXPECT_TRUE(invalid.empty());
  LiteralFilter::Bits scratch, bits;
  filter.possible(text, scratch, bits);
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < patterns.size(); ++i)
    if (bits[i / 64] >> (i % 64) & 1) out.push_back(i);
  return out;
}

using Found = std::vector<std::size_t>;

TEST(LiteralFilter, FindsPatternsByTheStringsTheyNeed) {
  const std::vector<std::string> patterns{"black ?list", "spam(haus|cop)", "rate.{0,20}limit"};
  EXPECT_EQ(possible(patterns, "you are on a BlackList"), (Found{0}));
  EXPECT_EQ(possible(patterns, "see spamcop"), (Found{1}));
  EXPECT_EQ(possible(patterns, "rate of limited spamhaus use"), (Found{1, 2}));
  EXPECT_EQ(possible(patterns, "nothing"), (Found{}));
}

TEST(LiteralFilter, NamesThePatternsThatAreNotValid) {
  std::vector<std::size_t> invalid;
  const LiteralFilter filter({"good", "(", "", "[z-a]"}, invalid);
  EXPECT_EQ(invalid, (Found{1, 3}));
}

TEST(LiteralFilter, AsksForEveryStringThatAPatternNeeds) {
  EXPECT_EQ(possible({"rate.{0,20}limit"}, "the rate is fine"), (Found{}));
  EXPECT_EQ(possible({"rate.{0,20}limit"}, "no limit"), (Found{}));
}

TEST(LiteralFilter, HoldsPatternsWithoutStringsAlwaysPossible) {
  EXPECT_EQ(possible({"", ".*", "[0-9]+", "x|black"}, "z"), (Found{0, 1, 2, 3}));
}

TEST(LiteralFilter, FindsStringsInsideAndBehindEachOther) {
  EXPECT_EQ(possible({"abcd", "bc", "cde", "hers", "she"}, "xabcdey ushers"), (Found{0, 1, 2, 3, 4}));
}

TEST(LiteralFilter, DoesNotTrustLettersWhoseCaseItCannotFold) {
  EXPECT_EQ(possible({"bo\xC3\xAEte"}, "BO\xC3\x8ETE"), (Found{0}));
}

TEST(LiteralFilter, CountsMoreThanOneWordOfPatterns) {
  std::vector<std::string> patterns(130, "never-there");
  patterns[0] = patterns[64] = patterns[129] = "there it is";
  EXPECT_EQ(possible(patterns, "THERE IT IS"), (Found{0, 64, 129}));
}

TEST(LiteralFilter, NeverLosesAMatch) {
  const std::vector<std::string> patterns{"a(bc|de)f?", "(ab|cd)+ef", "x?yz", "ab.{0,3}ef", "(?:ab|)ef", "a[bc]d", "\\bef\\b"};
  std::vector<std::size_t> invalid;
  const LiteralFilter filter(patterns, invalid);
  LiteralFilter::Bits scratch, bits;
  // Every text of seven letters over a small alphabet, by a fixed stride.
  const std::string_view letters = "abcdefyz ";
  for (std::size_t n = 0; n < 4782969; n += 101) {
    std::string text;
    for (std::size_t i = 0, rest = n; i < 7; ++i, rest /= letters.size()) text += letters[rest % letters.size()];
    filter.possible(text, scratch, bits);
    for (std::size_t p = 0; p < patterns.size(); ++p)
      if (RE2::PartialMatch(text, patterns[p])) ASSERT_TRUE(bits[0] >> p & 1) << patterns[p] << " in " << text;
  }
}

}  // namespace
}  // namespace egret::routing
