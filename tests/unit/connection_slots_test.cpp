#include "relay/delivery/connection_slots.hpp"

#include <gtest/gtest.h>

#include <string>

namespace egret::relay {
namespace {

using Slots = ConnectionSlots<std::string>;
using Want = Slots::Want;

/// All of its connections are open.
Slots full(std::size_t limit = 1) {
  Slots slots;
  slots.set_limit(limit);
  while (slots.begin()) {
  }
  return slots;
}

/// Whom next() names while each that ends makes room for one.
std::string order(Slots& slots) {
  std::string out;
  for (slots.end(); const auto key = slots.next(); slots.end()) out += *key;
  return out;
}

TEST(ConnectionSlots, OpensAsManyAsTheLimitAndOneMoreWhenOneEnds) {
  Slots slots = full(2);
  EXPECT_EQ(slots.open(), 2u);
  EXPECT_FALSE(slots.begin());
  slots.end();
  EXPECT_TRUE(slots.begin());
}

TEST(ConnectionSlots, ServesWhoWaitsInOrderAndBeforeAnybodyElse) {
  Slots slots = full();
  EXPECT_TRUE(slots.wait("a", Want::first));
  EXPECT_TRUE(slots.wait("b", Want::first));
  EXPECT_FALSE(slots.wait("a", Want::first)) << "once";
  EXPECT_EQ(slots.waiting(), 2u);
  EXPECT_FALSE(slots.next()) << "there is no room";
  slots.end();
  EXPECT_FALSE(slots.begin()) << "others wait";
  EXPECT_EQ(slots.next(), "a");
  EXPECT_EQ(slots.open(), 1u) << "it is counted";
  slots.end();
  EXPECT_EQ(slots.next(), "b");
  EXPECT_FALSE(slots.wanted());
  slots.end();
  EXPECT_FALSE(slots.next());
  EXPECT_TRUE(slots.begin());
}

TEST(ConnectionSlots, GivesLesserMailOneTurnOfFour) {
  Slots slots = full();
  for (const char* key : {"a", "b", "c", "d", "e", "f"}) slots.wait(key, Want::first);
  for (const char* key : {"u", "v", "w", "x"}) slots.wait(key, Want::lesser);
  EXPECT_EQ(order(slots), "abcudefvwx");
}

TEST(ConnectionSlots, ServesWhoHasOneAlreadyWhenNobodyElseWaits) {
  Slots slots = full();
  EXPECT_FALSE(slots.wait("m", Want::more));
  EXPECT_FALSE(slots.wanted()) << "nobody gives up his for that";
  slots.wait("u", Want::lesser);
  slots.wait("a", Want::first);
  EXPECT_EQ(order(slots), "aum");
}

TEST(ConnectionSlots, MovesUpWhoWaitsForSomethingMoreUrgent) {
  Slots slots = full();
  for (const char* key : {"u", "v", "w"}) slots.wait(key, Want::lesser);
  slots.wait("m", Want::more);
  EXPECT_FALSE(slots.wait("w", Want::first)) << "it had none before, too";
  EXPECT_TRUE(slots.wait("m", Want::first)) << "it has none any more";
  EXPECT_FALSE(slots.wait("w", Want::more)) << "nobody is put back";
  EXPECT_EQ(slots.waiting(), 4u);
  EXPECT_EQ(order(slots), "wmuv");
}

TEST(ConnectionSlots, ForgetsWhoWaitsNoMore) {
  Slots slots = full();
  slots.wait("a", Want::first);
  slots.wait("b", Want::first);
  slots.forget("a");
  slots.forget("a");
  EXPECT_EQ(slots.waiting(), 1u);
  slots.wait("a", Want::lesser);  // again
  EXPECT_EQ(order(slots), "ba");
  EXPECT_EQ(slots.waiting(), 0u);
}

TEST(ConnectionSlots, ShareAddsUpToTheLimitAndIsNeverNothing) {
  for (const std::size_t limit : {3u, 7u, 2000u}) {
    std::size_t sum = 0;
    for (std::size_t index = 0; index < 3; ++index) sum += Slots::share(limit, 3, index);
    EXPECT_EQ(sum, limit);
  }
  EXPECT_EQ(Slots::share(1, 4, 3), 1u);
}

TEST(ConnectionSlots, OpensNoneAfterALowerLimitUntilEnoughHaveEnded) {
  Slots slots = full(3);
  slots.set_limit(1);
  slots.wait("a", Want::first);
  slots.end();
  slots.end();
  EXPECT_FALSE(slots.next());
  slots.end();
  EXPECT_EQ(slots.next(), "a");
}

}  // namespace
}  // namespace egret::relay
