#include "smtp/trace.hpp"

#include <gtest/gtest.h>

#include <random>

namespace egret::smtp {
namespace {

using std::chrono::seconds;
using std::chrono::system_clock;

system_clock::time_point at(std::int64_t unix_seconds) {
  return system_clock::time_point(seconds(unix_seconds));
}

TraceInfo info() {
  TraceInfo out;
  out.helo = "client.example";
  out.client = "192.0.2.1";
  out.hostname = "relay.example.com";
  out.id = MessageId{1};
  out.time = at(0);
  return out;
}

TEST(MessageId, HasThirteenCharactersThatAreNotMistaken) {
  EXPECT_EQ(to_string(MessageId{0}), "0000000000000");
  EXPECT_EQ(to_string(MessageId{~0ull}), "FZZZZZZZZZZZZ");
  for (const char c : {'I', 'L', 'O', 'U'}) EXPECT_EQ(to_string(MessageId{0x123456789ABCDEFull}).find(c), std::string::npos);
}

TEST(MessageId, RoundTrips) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 20'000; ++i) {
    const MessageId id{random()};
    ASSERT_EQ(parse_message_id(to_string(id)), id);
  }
}

TEST(MessageId, TextIsOrderedLikeTheIds) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 20'000; ++i) {
    const std::uint64_t a = random() >> random() % 60, b = random() >> random() % 60;
    ASSERT_EQ(a < b, to_string(MessageId{a}) < to_string(MessageId{b})) << a << ' ' << b;
  }
}

TEST(MessageId, IsReadInLowerCaseToo) {
  EXPECT_EQ(parse_message_id("0000000000abc"), parse_message_id("0000000000ABC"));
}

TEST(MessageId, RefusesWhatIsNone) {
  for (const auto text : {"", "000000000000", "00000000000000", "000000000000I", "000000000000 ", "000000000000-",
                          "G000000000000", "ZZZZZZZZZZZZZ"})
    EXPECT_FALSE(parse_message_id(text)) << text;
}

TEST(Date, IsRfc5322InUtc) {
  EXPECT_EQ(rfc5322_date(at(0)), "Thu, 01 Jan 1970 00:00:00 +0000");
  EXPECT_EQ(rfc5322_date(at(1'795'317'255)), "Sun, 22 Nov 2026 03:14:15 +0000");
}

TEST(Date, KnowsLeapDaysAndLivesBeyond2038) {
  EXPECT_EQ(rfc5322_date(at(1'709'251'199)), "Thu, 29 Feb 2024 23:59:59 +0000");
  EXPECT_EQ(rfc5322_date(at(4'102'444'800)), "Fri, 01 Jan 2100 00:00:00 +0000");
}

TEST(ReceivedField, SaysWhoFromByWithAndWhen) {
  EXPECT_EQ(received_field(info()),
            "Received: from client.example ([192.0.2.1])\r\n"
            "\tby relay.example.com with ESMTP id 0000000000001;\r\n"
            "\tThu, 01 Jan 1970 00:00:00 +0000\r\n");
}

TEST(ReceivedField, TagsAnIpv6Client) {
  TraceInfo i = info();
  i.client = "2001:db8::1";
  EXPECT_NE(received_field(i).find("([IPv6:2001:db8::1])"), std::string::npos);
}

TEST(ReceivedField, NamesASingleRecipient) {
  TraceInfo i = info();
  i.recipient = "a@b.example";
  EXPECT_NE(received_field(i).find("id 0000000000001\r\n\tfor <a@b.example>;\r\n\t"), std::string::npos);
}

TEST(ReceivedField, NamesTheProtocol) {
  TraceInfo i = info();
  i.esmtp = false;
  EXPECT_NE(received_field(i).find(" with SMTP id "), std::string::npos);
  i.esmtp = i.utf8 = true;
  EXPECT_NE(received_field(i).find(" with UTF8SMTP id "), std::string::npos);
}

TEST(ReceivedField, IsOneFieldWithBoundedLines) {
  TraceInfo i = info();
  i.helo = std::string(253, 'h');
  i.hostname = std::string(253, 'r');
  i.recipient = std::string(64, 'l') + "@" + std::string(253, 'd');
  const std::string field = received_field(i);
  for (std::size_t start = 0; start < field.size();) {
    const std::size_t end = field.find("\r\n", start);
    ASSERT_NE(end, std::string::npos);
    EXPECT_LE(end - start, 998u);
    EXPECT_EQ(field[start], start ? '\t' : 'R');
    start = end + 2;
  }
}

}  // namespace
}  // namespace egret::smtp
