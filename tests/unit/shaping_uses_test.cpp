#include <gtest/gtest.h>

#include "relay/shaping.hpp"

namespace egret::relay {
namespace {

TEST(ShapingUses, ForgetTheProviderThatWasNotUsedForLongest) {
  ShapingUses uses(3);
  for (const char* name : {"a", "b", "c"}) uses.of(name).recent = 1;
  uses.of("a");
  uses.of("d");
  EXPECT_EQ(uses.size(), 3u);
  EXPECT_EQ(uses.find("b"), nullptr);
  EXPECT_NE(uses.find("a"), nullptr);
  EXPECT_NE(uses.find("d"), nullptr);
}

TEST(ShapingUses, KeepWhatACapHasCounted) {
  ShapingUses uses(3);
  uses.of("capped").day.used = 7;
  for (int i = 0; i < 100; ++i) uses.of("site" + std::to_string(i));
  ASSERT_NE(uses.find("capped"), nullptr);
  EXPECT_EQ(uses.find("capped")->day.used, 7u);
  EXPECT_EQ(uses.size(), 3u);
}

TEST(ShapingUses, StayBoundedWhenEverythingHasACap) {
  ShapingUses uses(20);
  for (int i = 0; i < 100; ++i) uses.of("site" + std::to_string(i)).day.used = 1;
  EXPECT_EQ(uses.size(), 20u);
  EXPECT_NE(uses.find("site99"), nullptr);
}

}  // namespace
}  // namespace egret::relay
