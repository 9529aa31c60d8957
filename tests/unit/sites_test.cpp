#include "relay/dns/sites.hpp"

#include <gtest/gtest.h>

namespace egret::relay {
namespace {

TEST(Sites, AreLookedUpAgainSomeMinutesAfterTheirTtlIsOver) {
  Site site;
  site.fresh_until = Deadline(std::chrono::hours(1));
  EXPECT_FALSE(site.stale(site.fresh_until + std::chrono::minutes(5))) << "one with a TTL of a second is used";
  EXPECT_TRUE(site.stale(site.fresh_until + std::chrono::minutes(6)));
}

}  // namespace
}  // namespace egret::relay
