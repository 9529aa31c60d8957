#include "relay/delivery/connection_slots.hpp"

#include <gtest/gtest.h>

#include <string>

namespace egret::relay {
namespace {

using Slots = ConnectionSlots<std::string>;

TEST(ConnectionSlots, OpensAsManyAsTheLimitAndOneMoreWhenOneEnds) {
  Slots slots;
  slots.set_limit(2);
  EXPECT_TRUE(slots.begin(false));
  EXPECT_TRUE(slots.begin(false));
  EXPECT_FALSE(slots.begin(false));
  slots.end();
  EXPECT_TRUE(slots.begin(false));
  EXPECT_EQ(slots.open(), 2u);
}

TEST(ConnectionSlots, ServesWhoWaitsInOrderAndBeforeAnybodyElse) {
  Slots slots;
  slots.set_limit(1);
  ASSERT_TRUE(slots.begin(false));
  slots.wait("a", false);
  slots.wait("b", false);
  slots.wait("a", false);  // once
  EXPECT_EQ(slots.waiting(), 2u);
  EXPECT_FALSE(slots.next()) << "there is no room";
  slots.end();
  EXPECT_FALSE(slots.begin(false)) << "others wait";
  EXPECT_EQ(slots.next(), "a");
  EXPECT_TRUE(slots.begin(true));
  slots.end();
  EXPECT_EQ(slots.next(), "b");
  EXPECT_FALSE(slots.wanted());
  EXPECT_FALSE(slots.next());
}

TEST(ConnectionSlots, GivesLesserMailOneTurnOfFour) {
  Slots slots;
  slots.set_limit(1);
  for (int i = 0; i < 6; ++i) {
    slots.wait("first" + std::to_string(i), false);
    slots.wait("lesser" + std::to_string(i), true);
  }
  std::string order;
  while (const auto key = slots.next()) order += key->front();
  EXPECT_EQ(order,
            "fffl"
            "fffl"
            "llll");
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
  Slots slots;
  slots.set_limit(3);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(slots.begin(false));
  slots.set_limit(1);
  slots.wait("a", false);
  slots.end();
  slots.end();
  EXPECT_FALSE(slots.next());
  slots.end();
  EXPECT_EQ(slots.next(), "a");
}

}  // namespace
}  // namespace egret::relay
