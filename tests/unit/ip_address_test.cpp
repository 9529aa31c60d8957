#include "routing/address.hpp"

#include <gtest/gtest.h>

namespace egret::routing {
namespace {

IpAddress ip(std::string_view text) {
  return *IpAddress::parse(text);
}

bool contains(std::string_view network, std::string_view address) {
  return Network::parse(network)->contains(ip(address));
}

TEST(IpAddress, RoundTrips) {
  for (const auto text : {"0.0.0.0", "192.0.2.1", "255.255.255.255", "::", "::1", "2001:db8::25", "fe80::1", "::ffff:192.0.2.1"})
    EXPECT_EQ(ip(text).to_string(), text);
  EXPECT_EQ(ip("2001:DB8:0:0:0:0:0:25").to_string(), "2001:db8::25");
}

TEST(IpAddress, RefusesWhatIsNone) {
  for (const auto text :
       {"", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.4 ", " 1.2.3.4", "1.2.3.04x", ":::", "2001:db8::1::2", "fe80::1%eth0",
        "[::1]", "a.b.c.d", "1.2.3.4/8", "12345::", "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000"})
    EXPECT_FALSE(IpAddress::parse(text)) << text;
}

TEST(IpAddress, IsBuiltFromFourOctets) {
  EXPECT_EQ(IpAddress::v4(192, 0, 2, 1), ip("192.0.2.1"));
}

TEST(IpAddress, FamiliesAreNeverEqual) {
  EXPECT_NE(ip("0.0.0.0"), ip("::"));
  EXPECT_NE(ip("::ffff:192.0.2.1"), ip("192.0.2.1"));
}

TEST(IpAddress, UnmapsOnlyMappedOnes) {
  EXPECT_EQ(ip("::ffff:192.0.2.1").unmapped(), ip("192.0.2.1"));
  EXPECT_EQ(ip("::192.0.2.1").unmapped(), ip("::192.0.2.1"));
  EXPECT_EQ(ip("2001:db8::1").unmapped(), ip("2001:db8::1"));
  EXPECT_EQ(ip("192.0.2.1").unmapped(), ip("192.0.2.1"));
}

TEST(IpAddress, KnowsWhereNoPublicServerIs) {
  for (const auto text : {"0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1",
                          "172.31.255.255", "192.168.1.1", "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1",
                          "fd12::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"})
    EXPECT_TRUE(ip(text).special()) << text;
}

TEST(IpAddress, KnowsPublicOnes) {
  for (const auto text :
       {"8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "172.15.255.255",
        "172.32.0.0", "192.167.255.255", "223.255.255.255", "2a00:1450:4001::1a", "2606:4700::1", "::ffff:8.8.8.8"})
    EXPECT_FALSE(ip(text).special()) << text;
}

TEST(Network, OfMappedAddressesIsTheIpv4Network) {
  const auto network = Network::parse("::ffff:10.0.0.0/104");
  ASSERT_TRUE(network);
  EXPECT_EQ(network->to_string(), "10.0.0.0/8");
  EXPECT_TRUE(network->contains(*IpAddress::parse("10.1.2.3")));
  EXPECT_TRUE(network->contains(*IpAddress::parse("::ffff:10.1.2.3")));
  EXPECT_FALSE(network->contains(*IpAddress::parse("11.1.2.3")));
}

TEST(Network, ContainsItsBounds) {
  EXPECT_TRUE(contains("10.0.0.0/8", "10.0.0.0"));
  EXPECT_TRUE(contains("10.0.0.0/8", "10.255.255.255"));
  EXPECT_FALSE(contains("10.0.0.0/8", "11.0.0.0"));
  EXPECT_TRUE(contains("192.0.2.64/26", "192.0.2.127"));
  EXPECT_FALSE(contains("192.0.2.64/26", "192.0.2.128"));
  EXPECT_TRUE(contains("2001:db8::/33", "2001:db8:7fff::1"));
  EXPECT_FALSE(contains("2001:db8::/33", "2001:db8:8000::1"));
}

TEST(Network, OfABareAddressIsThatAddress) {
  EXPECT_TRUE(contains("192.0.2.1", "192.0.2.1"));
  EXPECT_FALSE(contains("192.0.2.1", "192.0.2.0"));
  EXPECT_FALSE(contains("::1", "::2"));
}

TEST(Network, OfPrefixZeroIsItsWholeFamily) {
  EXPECT_TRUE(contains("0.0.0.0/0", "203.0.113.9"));
  EXPECT_FALSE(contains("0.0.0.0/0", "2001:db8::1"));
  EXPECT_TRUE(contains("::/0", "2001:db8::1"));
}

TEST(Network, ContainsMappedIpv4) {
  EXPECT_TRUE(contains("127.0.0.0/8", "::ffff:127.0.0.1"));
  EXPECT_FALSE(contains("127.0.0.0/8", "::ffff:128.0.0.1"));
}

TEST(Network, SaysWhatIsWrong) {
  const auto why = [](std::string_view text) {
    std::string out;
    EXPECT_FALSE(Network::parse(text, &out)) << text;
    return out;
  };
  EXPECT_EQ(why("10.0.0.1/8"), "host bits are set");
  EXPECT_EQ(why("2001:db8::1/64"), "host bits are set");
  for (const auto text : {"10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "10.0.0.0/x", "10.0.0.0/8 ", "::/129"})
    EXPECT_EQ(why(text), "not a prefix length") << text;
  for (const auto text : {"", "/8", "10.0.0/8", "example.com"}) EXPECT_EQ(why(text), "not an IP address") << text;
}

TEST(Network, RoundTrips) {
  EXPECT_EQ(Network::parse("10.0.0.0/8")->to_string(), "10.0.0.0/8");
  EXPECT_EQ(Network::parse("192.0.2.1")->to_string(), "192.0.2.1/32");
  EXPECT_EQ(Network::parse("::1/128")->to_string(), "::1/128");
}

}  // namespace
}  // namespace egret::routing
