#include "config/units.hpp"

#include <gtest/gtest.h>

namespace egret::config {
namespace {

using namespace std::chrono_literals;
using routing::Duration;

TEST(ParseDuration, ReadsEveryUnit) {
  EXPECT_EQ(parse_duration("500ms"), Duration(500ms));
  EXPECT_EQ(parse_duration("30s"), Duration(30s));
  EXPECT_EQ(parse_duration("5m"), Duration(5min));
  EXPECT_EQ(parse_duration("2h"), Duration(2h));
  EXPECT_EQ(parse_duration("1d"), Duration(24h));
}

TEST(ParseDuration, TakesItAsWrittenWithoutAFloor) {
  EXPECT_EQ(parse_duration("1ms"), Duration(1ms));
  EXPECT_EQ(parse_duration("0s"), Duration(0));
  EXPECT_EQ(parse_duration("0"), Duration(0));
}

TEST(ParseDuration, RefusesWhatIsNoDuration) {
  for (const char* text : {"", "5", "s", "5 s", " 5s", "5s ", "-5s", "+5s", "1.5h", "5S", "5sec", "1h30m", "0x5s", "5w"})
    EXPECT_EQ(parse_duration(text), std::nullopt) << text;
}

TEST(ParseDuration, EndsAtTenYears) {
  EXPECT_EQ(parse_duration("3650d"), Duration(24h * 3650));
  for (const char* text : {"3651d", "315360001s", "18446744073709551615d", "18446744073709551615ms", "99999999999999999999s"})
    EXPECT_EQ(parse_duration(text), std::nullopt) << text;
}

TEST(ParseSize, CountsInPowersOfTwo) {
  EXPECT_EQ(parse_size("512"), 512u);
  EXPECT_EQ(parse_size("1K"), 1024u);
  EXPECT_EQ(parse_size("50M"), 50ull << 20);
  EXPECT_EQ(parse_size("1G"), 1ull << 30);
  EXPECT_EQ(parse_size("2T"), 2ull << 40);
}

TEST(ParseSize, RefusesWhatIsNoSize) {
  for (const char* text : {"", "M", "50MB", "50 M", "-1", "1.5G", "50m", "1e6", "0x10"})
    EXPECT_EQ(parse_size(text), std::nullopt) << text;
}

TEST(ParseSize, RefusesWhatDoesNotFit) {
  EXPECT_EQ(parse_size("9223372036854775807"), 9223372036854775807u);
  EXPECT_EQ(parse_size("8388607T"), 8388607ull << 40);
  for (const char* text : {"8388608T", "9223372036854775808", "18446744073709551615K", "99999999999999999999"})
    EXPECT_EQ(parse_size(text), std::nullopt) << text;
}

TEST(ParseBudget, IsRecipientsInAPeriod) {
  const auto budget = parse_budget("50000/d");
  ASSERT_TRUE(budget);
  EXPECT_EQ(budget->recipients, 50000u);
  EXPECT_EQ(budget->per, Duration(24h));
}

TEST(ParseBudget, KnowsSecondsMinutesAndHours) {
  EXPECT_EQ(parse_budget("14/s").value().per, Duration(1s));
  EXPECT_EQ(parse_budget("14/m").value().per, Duration(1min));
  EXPECT_EQ(parse_budget("500/h").value().per, Duration(1h));
}

TEST(ParseBudget, RefusesWhatIsNoRate) {
  for (const char* text :
       {"", "500", "500/", "/d", "500/ms", "500/w", "500/hour", "500 /h", "-5/h", "5.5/h", "99999999999999999999/d"})
    EXPECT_FALSE(parse_budget(text)) << text;
}

TEST(ParseShare, ReadsPercentAndFraction) {
  EXPECT_EQ(parse_share("25%"), 0.25);
  EXPECT_EQ(parse_share("0.25"), 0.25);
  EXPECT_EQ(parse_share("0%"), 0.0);
  EXPECT_EQ(parse_share("100%"), 1.0);
  EXPECT_EQ(parse_share("1"), 1.0);
}

TEST(ParseShare, IsFromZeroToOne) {
  for (const char* text : {"101%", "1.01", "-1%", "-0.5", "nan", "nan%", "inf", "25"})
    EXPECT_EQ(parse_share(text), std::nullopt) << text;
}

TEST(ParseShare, RefusesWhatIsNoNumber) {
  for (const char* text : {"", "%", "half", "25 %", "25%%", "0.5x"}) EXPECT_EQ(parse_share(text), std::nullopt) << text;
}

TEST(ParseHostPort, SplitsNameAndPort) {
  const auto parsed = parse_host_port("smtp.example.net:587");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->host, "smtp.example.net");
  EXPECT_EQ(parsed->port, 587);
}

TEST(ParseHostPort, TakesTheBracketsOffAnIpv6Address) {
  const auto parsed = parse_host_port("[2001:db8::25]:25");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->host, "2001:db8::25");
  EXPECT_EQ(parsed->port, 25);
}

TEST(ParseHostPort, WantsBracketsAroundAnIpv6Address) {
  EXPECT_FALSE(parse_host_port("::1:25"));
  EXPECT_FALSE(parse_host_port("[::1:25"));
  EXPECT_FALSE(parse_host_port("::1]:25"));
}

TEST(ParseHostPort, RefusesAMissingHalf) {
  for (const char* text : {"", ":", ":25", "host", "host:", "[]:25", "[::1]"}) EXPECT_FALSE(parse_host_port(text)) << text;
}

TEST(ParseHostPort, RefusesWhatIsNoPort) {
  EXPECT_TRUE(parse_host_port("host:65535"));
  for (const char* text : {"host:65536", "host:-1", "host:25x", "host: 25", "host:smtp", "host:99999999999999999999"})
    EXPECT_FALSE(parse_host_port(text)) << text;
}

}  // namespace
}  // namespace egret::config
