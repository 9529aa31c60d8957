#include "smtp/xtext.hpp"

#include <gtest/gtest.h>

namespace egret::smtp {
namespace {

using namespace std::string_view_literals;

TEST(Xtext, LeavesGraphicAsciiAsItIs) {
  EXPECT_EQ(xtext_encode("QQ314159@example.com"), "QQ314159@example.com");
  EXPECT_EQ(xtext_decode("rfc822;Dana@Ivory.EDU"), "rfc822;Dana@Ivory.EDU");
  EXPECT_EQ(xtext_encode(""), "");
  EXPECT_EQ(xtext_decode(""), "");
}

TEST(Xtext, EncodesPlusEqualsBlankAndWhatIsNotAscii) {
  EXPECT_EQ(xtext_encode("a+b=c d"), "a+2Bb+3Dc+20d");
  EXPECT_EQ(xtext_encode("\xC3\xA4\x7F"), "+C3+A4+7F");
  EXPECT_EQ(xtext_encode("\r\n\0"sv), "+0D+0A+00");
}

TEST(Xtext, DecodesWhatItEncodes) {
  for (int c = 0; c < 256; ++c) {
    const std::string octet(1, static_cast<char>(c));
    const bool control = c < 0x20 || c == 0x7F;
    EXPECT_EQ(xtext_decode(xtext_encode(octet)), control ? std::nullopt : std::optional(octet)) << c;
  }
}

TEST(Xtext, DecodesOctetsThatNeedNotHaveBeenEncoded) {
  EXPECT_EQ(xtext_decode("+41+7E+2B"), "A~+");
}

TEST(Xtext, RefusesRawOctetsThatMustBeEncoded) {
  for (int c = 0; c < 256; ++c)
    if (c < '!' || c > '~' || c == '+' || c == '=')
      EXPECT_EQ(xtext_decode("a" + std::string(1, static_cast<char>(c))), std::nullopt) << c;
}

TEST(Xtext, RefusesHexThatIsShortLowerCaseOrNoHex) {
  for (const auto text : std::initializer_list<std::string_view>{"+", "a+", "+4", "a+4", "+4g", "+g4", "+2b", "+c3", "++2B",
                                                                 "+ 41", "+-1", "+4\0"sv})
    EXPECT_EQ(xtext_decode(text), std::nullopt) << text;
}

TEST(Xtext, RefusesSmuggledControls) {
  for (const auto text : {"x+0D+0AMAIL", "+00", "+09", "+1F", "+7F", "ok+0A"})
    EXPECT_EQ(xtext_decode(text), std::nullopt) << text;
}

}  // namespace
}  // namespace egret::smtp
