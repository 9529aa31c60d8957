#include "smtp/reply.hpp"

#include <gtest/gtest.h>

namespace egret::smtp {
namespace {

using Status = ReplyParser::Status;

Reply parse_one(std::string_view bytes) {
  ReplyParser parser;
  EXPECT_EQ(parser.feed(bytes), Status::complete);
  return parser.take();
}

Status status_of(std::string_view bytes) {
  ReplyParser parser;
  return parser.feed(bytes);
}

TEST(ReplyParser, ReadsAnEnhancedCode) {
  const Reply reply = parse_one("550 5.7.1 blocked\r\n");
  EXPECT_EQ(reply.code, 550);
  EXPECT_EQ(reply.enhanced(), (EnhancedCode{5, 7, 1}));
  EXPECT_EQ(reply.text(), "blocked");
}

TEST(ReplyParser, JoinsLinesWithTheSameCode) {
  const Reply reply = parse_one("550-5.7.1 one\r\n550-5.7.1 two\r\n550 5.7.1 three\r\n");
  EXPECT_EQ(reply.text(), "one two three");
  EXPECT_EQ(reply.to_string(), "550-5.7.1 one\n550-5.7.1 two\n550 5.7.1 three");
}

TEST(ReplyParser, GivesTheSameReplyInEveryChunking) {
  const std::string bytes = "421-4.7.0 a\r\n421 4.7.0 b\r\n";
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
    ReplyParser parser;
    std::string_view first = std::string_view(bytes).substr(0, cut), second = std::string_view(bytes).substr(cut);
    if (parser.feed(first) == Status::need_more) {
      EXPECT_EQ(parser.feed(second), Status::complete) << cut;
    }
    EXPECT_EQ(parser.take().text(), "a b") << cut;
  }
}

TEST(ReplyParser, LeavesWhatFollowsAReply) {
  ReplyParser parser;
  std::string_view bytes = "250 ok\r\n354 go\r\n";
  ASSERT_EQ(parser.feed(bytes), Status::complete);
  EXPECT_EQ(bytes, "354 go\r\n");
}

TEST(ReplyParser, AcceptsABareCodeAndABareLineFeed) {
  EXPECT_EQ(parse_one("250\r\n").code, 250);
  EXPECT_EQ(parse_one("250 ok\n").code, 250);
}

TEST(ReplyParser, RefusesWhatIsNoReply) {
  EXPECT_EQ(status_of("hello\r\n"), Status::malformed);
  EXPECT_EQ(status_of("2500 x\r\n"), Status::malformed);
  EXPECT_EQ(status_of("199 x\r\n"), Status::malformed);
  EXPECT_EQ(status_of("250-a\r\n251 b\r\n"), Status::malformed);
  EXPECT_EQ(status_of(std::string("250 a\0b\r\n", 9)), Status::malformed);
}

TEST(ReplyParser, BoundsLineLinesAndBytes) {
  EXPECT_EQ(status_of(std::string(5000, '2')), Status::malformed);
  std::string many;
  for (int i = 0; i < 200; ++i) many += "250-x\r\n";
  EXPECT_EQ(status_of(many), Status::malformed);
  std::string large;
  for (int i = 0; i < 100; ++i) large += "250-" + std::string(1500, 'x') + "\r\n";
  EXPECT_EQ(status_of(large), Status::malformed);
}

TEST(ReplyParser, ReplacesControlCharacters) {
  EXPECT_EQ(parse_one("550 a\x1b[31mb\r\n").text(), "a?[31mb");
}

TEST(ReplyText, ToleratesAMissingCode) {
  const ReplyText text = reply_text("mailbox  unavailable");
  EXPECT_EQ(text.code, 0);
  EXPECT_EQ(text.text, "mailbox unavailable");
}

TEST(ReplyText, IsCutTo2048Octets) {
  EXPECT_EQ(reply_text("550 " + std::string(9000, 'x')).text.size(), 2048u);
}

TEST(ParseReply, ReadsWhatToStringWrote) {
  for (const auto* text : {"250 ok", "550-5.7.1 first\n550 5.7.1 second", "450 "}) EXPECT_EQ(parse_reply(text).to_string(), text);
  EXPECT_EQ(parse_reply("550 " + std::string(2043, 'x')).code, 550);
}

TEST(ParseReply, TakesAReplyThatWasCut) {
  const Reply reply = parse_reply("550-5.7.1 first\n550-5.7.1 sec");
  EXPECT_EQ(reply.code, 550);
  EXPECT_EQ(reply.lines.size(), 2u);
}

TEST(ParseReply, MakesAnythingElseATemporaryFailure) {
  EXPECT_EQ(parse_reply("").code, 451);
  EXPECT_EQ(parse_reply("connection lost").code, 451);
}

}  // namespace
}  // namespace egret::smtp
