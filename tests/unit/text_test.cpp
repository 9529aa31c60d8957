#include "smtp/text.hpp"

#include <gtest/gtest.h>

#include <random>

namespace egret::smtp {
namespace {

using namespace std::string_literals;

TEST(Text, CaseIsAsciiOnly) {
  EXPECT_EQ(lower("ABC-xyz\xC3\x84"), "abc-xyz\xC3\x84");
  EXPECT_TRUE(iequals("EHLO", "ehlo"));
  EXPECT_FALSE(iequals("EHLO", "ehl"));
  EXPECT_FALSE(iequals("[", "{"));
}

TEST(Text, PrefixIsComparedWithoutCase) {
  EXPECT_TRUE(istarts_with("From:<>", "FROM:"));
  EXPECT_TRUE(istarts_with("x", ""));
  EXPECT_FALSE(istarts_with("FRO", "FROM"));
}

TEST(Text, TrimTakesBlanksTabsAndLineEnds) {
  EXPECT_EQ(trim(" \t\r\na b\r\n "), "a b");
  EXPECT_EQ(trim(" \t "), "");
  EXPECT_EQ(trim(""), "");
}

TEST(Utf8, AcceptsEveryLength) {
  for (const auto text :
       {"", "abc", "\x7f", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBF",
        "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "gr\xC3\xBC\xC3\x9F \xE2\x82\xAC \xF0\x9F\x93\xA7"})
    EXPECT_TRUE(valid_utf8(text)) << text;
}

TEST(Utf8, RefusesOverlongForms) {
  for (const auto text :
       {"\xC0\x80", "\xC0\xAF", "\xC1\xBF", "\xE0\x80\xAF", "\xE0\x9F\xBF", "\xF0\x80\x80\xAF", "\xF0\x8F\xBF\xBF"})
    EXPECT_FALSE(valid_utf8(text));
}

TEST(Utf8, RefusesSurrogatesAndWhatLiesAboveUnicode) {
  for (const auto text : {"\xED\xA0\x80", "\xED\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFE", "\xFF"})
    EXPECT_FALSE(valid_utf8(text));
}

TEST(Utf8, RefusesTruncatedSequencesAndStrayContinuations) {
  for (const auto text : {"\xC3", "\xE2\x82", "\xF0\x9F\x93", "a\x80", "\xC3(", "\xE2(\xAC", "\xE2\x82("})
    EXPECT_FALSE(valid_utf8(text));
}

TEST(Utf8, AgreesWithADecoderOnEveryPairOfBytes) {
  for (int a = 0; a < 256; ++a)
    for (int b = 0; b < 256; ++b) {
      const std::string text{static_cast<char>(a), static_cast<char>(b)};
      const bool pair = a >= 0xC2 && a <= 0xDF && b >= 0x80 && b <= 0xBF;
      ASSERT_EQ(valid_utf8(text), pair || (a < 0x80 && b < 0x80)) << a << ' ' << b;
    }
}

TEST(Printable, ReplacesAsciiControls) {
  EXPECT_EQ(printable("a\r\nb\x1b[31m\0\x7f"s + "c"), "a??b?[31m?\?c");
  EXPECT_EQ(printable("a\tb"), "a b");
}

TEST(Printable, KeepsUtf8AndReplacesBrokenBytes) {
  EXPECT_EQ(printable("gr\xC3\xBC\xC3\x9F"), "gr\xC3\xBC\xC3\x9F");
  EXPECT_EQ(printable("a\xFF\xC3(\xE2\x82"), "a?\?(?\?");
}

TEST(Printable, GivesValidUtf8WithoutControlsForAnyBytes) {
  std::mt19937 random(7);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes(random() % 12, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    const std::string out = printable(bytes);
    ASSERT_TRUE(valid_utf8(out));
    for (const char c : out) ASSERT_TRUE(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
  }
}

TEST(Base64, EncodesTheVectorsOfRfc4648) {
  EXPECT_EQ(base64_encode(""), "");
  EXPECT_EQ(base64_encode("f"), "Zg==");
  EXPECT_EQ(base64_encode("fo"), "Zm8=");
  EXPECT_EQ(base64_encode("foo"), "Zm9v");
  EXPECT_EQ(base64_encode("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64_encode("\xfb\xff\0"s), "+/8A");
}

TEST(Base64, RoundTripsAnyBytes) {
  std::mt19937 random(11);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes(random() % 20, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    ASSERT_EQ(base64_decode(base64_encode(bytes)), bytes);
  }
}

TEST(Base64, RefusesWrongPadding) {
  for (const auto text : {"Z", "Zg", "Zg=", "Zm8", "=", "====", "Z===", "=Zg=", "Zg==Zg==", "Zg=a", "Zm9v=", "Zm9v===="})
    EXPECT_FALSE(base64_decode(text)) << text;
}

TEST(Base64, RefusesEverythingOutsideItsAlphabet) {
  for (const auto text : {"Zm 9v===", "Zm9v\r\n==", " Zm9v===", "Zm9-", "Zm_v", "Zm9\xC3", "*", "Zm\n9"})
    EXPECT_FALSE(base64_decode(text)) << text;
  EXPECT_FALSE(base64_decode("Zm\0v"s));
}

TEST(Glob, MatchesWholeTextsWithoutCase) {
  EXPECT_TRUE(glob_match("Bcc", "bCC"));
  EXPECT_FALSE(glob_match("Bcc", "Bcc2"));
  EXPECT_FALSE(glob_match("Bcc", "ABcc"));
  EXPECT_TRUE(glob_match("", ""));
  EXPECT_FALSE(glob_match("", "a"));
}

TEST(Glob, StarStandsForAnythingEvenNothing) {
  EXPECT_TRUE(glob_match("X-SES-*", "x-ses-"));
  EXPECT_TRUE(glob_match("X-SES-*", "X-SES-TAG"));
  EXPECT_FALSE(glob_match("X-SES-*", "X-SE-TAG"));
  EXPECT_TRUE(glob_match("*", ""));
  EXPECT_TRUE(glob_match("*-id", "message-id"));
  EXPECT_TRUE(glob_match("a*b*c", "aXbYbZc"));
  EXPECT_FALSE(glob_match("a*b*c", "aXcYb"));
  EXPECT_TRUE(glob_match("**a**", "a"));
}

TEST(Glob, KnowsNoOtherWildcard) {
  EXPECT_FALSE(glob_match("X-?", "X-A"));
  EXPECT_TRUE(glob_match("X-?", "X-?"));
  EXPECT_FALSE(glob_match("[a]", "a"));
}

TEST(Glob, IsFastOnHostilePatterns) {
  EXPECT_FALSE(glob_match("*a*a*a*a*a*a*a*a*b", std::string(5000, 'a')));
}

}  // namespace
}  // namespace egret::smtp
