#include "routing/wildcard_guard.hpp"

#include <gtest/gtest.h>

namespace egret::routing {
namespace {

using namespace std::chrono_literals;

constexpr Duration cycle = 5min;

/// Addresses in networks of their own.
std::vector<IpAddress> unrelated(std::size_t count) {
  std::vector<IpAddress> out;
  for (std::size_t i = 0; i < count; ++i) out.push_back(IpAddress::v4(192, 0, static_cast<std::uint8_t>(i), 1));
  return out;
}

TEST(WildcardGuard, TripsWhenHalfOfTheNetworksAreListedWithinACycle) {
  WildcardGuard guard(unrelated(6), cycle);
  guard.saw(0, true, false, 0s);
  guard.saw(1, true, false, 60s);
  EXPECT_FALSE(guard.trip(60s));
  EXPECT_TRUE(guard.suspicious(60s));
  guard.saw(2, true, false, 120s);
  EXPECT_EQ(guard.trip(120s), (std::vector<std::size_t>{0, 1, 2}));
  EXPECT_EQ(guard.share(), "3 of 6 unrelated networks");
}

TEST(WildcardGuard, LeavesPoolsOfOneOrTwoAlone) {
  for (const std::size_t count : {1u, 2u}) {
    WildcardGuard guard(unrelated(count), cycle);
    for (std::size_t i = 0; i < count; ++i) guard.saw(i, true, false, 1s);
    EXPECT_FALSE(guard.trip(1s)) << count;
    EXPECT_FALSE(guard.suspicious(1s)) << count;
  }
}

TEST(WildcardGuard, LessThanHalfIsBelieved) {
  WildcardGuard guard(unrelated(7), cycle);
  for (std::size_t i = 0; i < 3; ++i) guard.saw(i, true, false, 1s);
  EXPECT_FALSE(guard.trip(1s));
}

TEST(WildcardGuard, ListingsThatComeOneByOneOverTimeAreBelieved) {
  WildcardGuard guard(unrelated(4), cycle);
  for (std::size_t i = 0; i < 4; ++i) {
    guard.saw(i, true, false, Instant(10min) * static_cast<std::int64_t>(i));
    EXPECT_FALSE(guard.trip(Instant(10min) * static_cast<std::int64_t>(i)));
  }
}

TEST(WildcardGuard, ANetworkThatIsListedAsAWholeIsOneListing) {
  std::vector<IpAddress> addresses;
  for (std::uint8_t i = 1; i <= 20; ++i) addresses.push_back(IpAddress::v4(192, 0, 2, i));
  addresses.push_back(IpAddress::v4(198, 51, 100, 1));
  addresses.push_back(IpAddress::v4(203, 0, 113, 1));
  WildcardGuard guard(addresses, cycle);
  for (std::size_t i = 0; i < 20; ++i) guard.saw(i, true, false, 1s);
  EXPECT_FALSE(guard.trip(1s));
  guard.saw(20, true, false, 2s);
  guard.saw(21, true, false, 2s);
  EXPECT_TRUE(guard.trip(2s));
}

TEST(WildcardGuard, WhatWasListedBeforeIsNotNew) {
  WildcardGuard guard(unrelated(4), cycle);
  for (std::size_t i = 0; i < 4; ++i) guard.saw(i, true, true, 1s);
  EXPECT_FALSE(guard.trip(1s));
  // Also after its listings were taken back while the list was out of service.
  for (std::size_t i = 0; i < 4; ++i) guard.saw(i, true, false, 2s);
  EXPECT_FALSE(guard.trip(2s));
}

TEST(WildcardGuard, StaysHighUntilTheShareFalls) {
  WildcardGuard guard(unrelated(6), cycle);
  for (std::size_t i = 0; i < 6; ++i) guard.saw(i, true, false, 1s);
  ASSERT_TRUE(guard.trip(1s));
  EXPECT_TRUE(guard.high());
  for (std::size_t i = 0; i < 3; ++i) guard.saw(i, false, false, 1h);
  EXPECT_TRUE(guard.high());
  guard.saw(3, false, false, 1h);
  EXPECT_FALSE(guard.high());
}

TEST(WildcardGuard, AnOldListingIsNotTakenBackWithTheNewOnes) {
  WildcardGuard guard(unrelated(6), cycle);
  guard.saw(0, true, false, 0s);
  for (std::size_t i = 1; i < 4; ++i) guard.saw(i, true, false, 24h);
  EXPECT_EQ(guard.trip(24h), (std::vector<std::size_t>{1, 2, 3}));
}

TEST(WildcardGuard, KnowsIpv6NetworksByTheir48Bits) {
  std::vector<IpAddress> addresses;
  for (const char* text : {"2001:db8:1::1", "2001:db8:1:2::1", "2001:db8:1:3::1", "2001:db8:2::1"})
    addresses.push_back(*IpAddress::parse(text));
  WildcardGuard guard(addresses, cycle);
  for (std::size_t i = 0; i < 4; ++i) guard.saw(i, true, false, 1s);
  EXPECT_FALSE(guard.trip(1s));
}

}  // namespace
}  // namespace egret::routing
