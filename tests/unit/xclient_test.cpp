#include "smtp/xclient.hpp"

#include <gtest/gtest.h>

#include <sstream>

namespace egret::smtp {
namespace {

using namespace std::string_view_literals;

ForwardedAttributes taken(ForwardCommand command, std::string_view argument) {
  ForwardedAttributes out;
  const auto error = parse_forwarded(command, argument, out);
  EXPECT_EQ(error, std::nullopt) << argument;
  return out;
}

ForwardedAttributes xclient(std::string_view argument) {
  return taken(ForwardCommand::xclient, argument);
}

ForwardedAttributes xforward(std::string_view argument) {
  return taken(ForwardCommand::xforward, argument);
}

/// The error text; empty when the argument is taken. A refused command must leave what was there.
std::string refusal(ForwardCommand command, std::string_view argument) {
  const ForwardedAttributes before{.name = "before", .port = "1"};
  ForwardedAttributes out = before;
  const auto error = parse_forwarded(command, argument, out);
  if (error) EXPECT_EQ(out, before) << argument;
  return error.value_or("");
}

TEST(Xclient, ReadsAllItsAttributes) {
  const ForwardedAttributes expected{.name = "spike.example",
                                     .addr = "192.0.2.1",
                                     .port = "5678",
                                     .proto = "ESMTP",
                                     .helo = "spike",
                                     .login = "user@b.example",
                                     .destaddr = "2001:db8::1",
                                     .destport = "25"};
  EXPECT_EQ(xclient("NAME=spike.example ADDR=192.0.2.1 PORT=5678 PROTO=ESMTP HELO=spike LOGIN=user@b.example "
                    "DESTADDR=IPV6:2001:db8::1 DESTPORT=25"),
            expected);
}

TEST(Xforward, ReadsAllItsAttributes) {
  const ForwardedAttributes expected{.name = "spike.example",
                                     .addr = "192.0.2.1",
                                     .port = "5678",
                                     .proto = "ESMTP",
                                     .helo = "spike",
                                     .ident = "4Xyz12",
                                     .source = "REMOTE"};
  EXPECT_EQ(xforward("NAME=spike.example ADDR=192.0.2.1 PORT=5678 PROTO=ESMTP HELO=spike IDENT=4Xyz12 SOURCE=REMOTE"), expected);
}

TEST(Xforward, AddsToWhatEarlierCommandsSaid) {
  ForwardedAttributes out;
  EXPECT_EQ(parse_forwarded(ForwardCommand::xforward, "NAME=a ADDR=192.0.2.1 PORT=[UNAVAILABLE]", out), std::nullopt);
  EXPECT_EQ(parse_forwarded(ForwardCommand::xforward, "NAME=b HELO=c", out), std::nullopt);
  EXPECT_EQ(out, (ForwardedAttributes{.name = "b", .addr = "192.0.2.1", .port = "", .helo = "c"}));
}

TEST(Forwarded, TellsClearedFromNotGiven) {
  const ForwardedAttributes got = xclient("NAME=[UNAVAILABLE] ADDR=[tempunavail] PORT=[Unavailable] PROTO=[UNAVAILABLE]");
  EXPECT_EQ(got, (ForwardedAttributes{.name = "", .addr = "", .port = "", .proto = ""}));
  EXPECT_EQ(xforward("SOURCE=[UNAVAILABLE]").source, "");
  EXPECT_EQ(xclient("NAME=[UNKNOWN]").name, "[UNKNOWN]");
}

TEST(Forwarded, TakesNamesInAnyCaseAndBlanksInAnyNumber) {
  EXPECT_EQ(xclient("  name=a   Helo=b "), (ForwardedAttributes{.name = "a", .helo = "b"}));
}

TEST(Forwarded, DecodesXtext) {
  EXPECT_EQ(xclient("LOGIN=a+2Bb+3Dc HELO=+C3+A4.example"), (ForwardedAttributes{.helo = "\xC3\xA4.example", .login = "a+b=c"}));
  EXPECT_EQ(xclient("ADDR=IPV6+3A+3A+3A+31").addr, "::1");
}

TEST(Forwarded, LetsTheLastOfTwoCount) {
  EXPECT_EQ(xclient("PORT=1 PORT=2").port, "2");
}

TEST(Forwarded, MakesAddressesCanonical) {
  EXPECT_EQ(xclient("ADDR=IPV6:2001:DB8:0:0::1").addr, "2001:db8::1");
  EXPECT_EQ(xclient("ADDR=ipv6:::FFFF:192.0.2.1").addr, "::ffff:192.0.2.1");
  EXPECT_EQ(xclient("ADDR=2001:db8::1").addr, "2001:db8::1");
}

TEST(Forwarded, RefusesWhatIsNoAddress) {
  for (const auto value :
       {"1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "IPV6:", "IPV6:1.2.3.4", "IPV6:IPV6:::1", "host.example", "[1.2.3.4]",
        "1.2.3.4/32", "::1%25lo", "1.2.3.4+20", "1.2.3.4+00", "+0A1.2.3.4", ":::"})
    EXPECT_EQ(refusal(ForwardCommand::xclient, "ADDR=" + std::string(value)), "5.5.4 malformed value of ADDR") << value;
}

TEST(Forwarded, RefusesWhatIsNoPort) {
  EXPECT_EQ(xclient("PORT=65535 DESTPORT=1"), (ForwardedAttributes{.port = "65535", .destport = "1"}));
  EXPECT_EQ(xclient("PORT=0025").port, "25");
  for (const auto value : {"0", "65536", "-1", "+2B1", "1x", "0x19", "99999999999999999999", "smtp", "1+20"})
    EXPECT_EQ(refusal(ForwardCommand::xclient, "PORT=" + std::string(value)), "5.5.4 malformed value of PORT") << value;
}

TEST(Forwarded, KnowsProtocolsAndSources) {
  EXPECT_EQ(xclient("PROTO=smtp").proto, "SMTP");
  EXPECT_NE(refusal(ForwardCommand::xclient, "PROTO=QMQP"), "");
  EXPECT_EQ(xforward("PROTO=QMQP").proto, "QMQP");
  EXPECT_NE(refusal(ForwardCommand::xforward, "PROTO=" + std::string(65, 'x')), "");
  EXPECT_EQ(xforward("SOURCE=local").source, "LOCAL");
  EXPECT_NE(refusal(ForwardCommand::xforward, "SOURCE=ELSEWHERE"), "");
}

TEST(Forwarded, BoundsTexts) {
  for (const std::string attribute : {"NAME=", "HELO=", "LOGIN="}) {
    EXPECT_EQ(refusal(ForwardCommand::xclient, attribute + std::string(255, 'x')), "");
    EXPECT_NE(refusal(ForwardCommand::xclient, attribute + std::string(256, 'x')), "");
  }
  EXPECT_EQ(refusal(ForwardCommand::xforward, "IDENT=" + std::string(255, 'x')), "");
  EXPECT_NE(refusal(ForwardCommand::xforward, "IDENT=" + std::string(256, 'x')), "");
}

TEST(Forwarded, RefusesTextsWithControlsOrBrokenUtf8) {
  for (const auto value : std::initializer_list<std::string_view>{"a+0D+0AX", "a+00", "a+09b", "a+7F", "+C2+85", "+FF", "+C3",
                                                                  "a=b", "+2b", "+", "a\tb", "\xC3\xA4", "a\r\n", "a\0b"sv}) {
    EXPECT_NE(refusal(ForwardCommand::xclient, "HELO=" + std::string(value)), "") << value;
    EXPECT_NE(refusal(ForwardCommand::xforward, "IDENT=" + std::string(value)), "") << value;
  }
}

TEST(Forwarded, RefusesEmptyCommandsNamesAndValues) {
  for (const auto argument : {"", "   ", "NAME", "NAME=", "=", "=x", "NAME =x", "NAME= x", "NAME=a ADDR"})
    EXPECT_NE(refusal(ForwardCommand::xclient, argument), "") << argument;
}

TEST(Forwarded, OffersEveryAttributeThatItKnowsAndTakesNoOther) {
  for (const auto command : {ForwardCommand::xclient, ForwardCommand::xforward}) {
    const std::string_view mine = command == ForwardCommand::xclient ? xclient_attributes : xforward_attributes;
    std::istringstream all(std::string(xclient_attributes) + " IDENT SOURCE");
    for (std::string name; all >> name;) {
      const bool own = (" " + std::string(mine) + " ").find(" " + name + " ") != std::string::npos;
      EXPECT_EQ(refusal(command, name + "=[UNAVAILABLE]"), own ? "" : "5.5.4 attribute " + name + " not recognised");
    }
  }
}

TEST(Forwarded, CleansWhatItQuotesInItsRefusal) {
  EXPECT_EQ(refusal(ForwardCommand::xclient, "X\r\nY\x1B=1"), "5.5.4 attribute X??Y? not recognised");
  EXPECT_LT(refusal(ForwardCommand::xclient, std::string(5000, 'X') + "=1").size(), 80u);
}

}  // namespace
}  // namespace egret::smtp
