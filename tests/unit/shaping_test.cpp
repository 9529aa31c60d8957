#include "routing/shaping.hpp"

#include <gtest/gtest.h>

namespace egret::routing {
namespace {

using namespace std::chrono_literals;

/// One (source, provider) from the first minute of a day on.
class Shaped {
 public:
  std::optional<ShapingRefusal> send(std::uint64_t recipients = 1) { return admit(use, limits, recipients, now); }
  /// How many messages go within a time, asked for ten times a second.
  int sent_within(Duration duration) {
    int out = 0;
    for (const Time end = now + duration; now < end; now += 100ms) out += !send();
    return out;
  }

  ShapingUse use;
  ShapingLimits limits;
  Time now{std::chrono::hours(24 * 20'000)};
};

TEST(Shaping, WithoutLimitsEverythingGoes) {
  Shaped s;
  for (int i = 0; i < 10'000; ++i) ASSERT_FALSE(s.send(100));
}

TEST(WarmupCap, IsASixteenthOfTheDaysAnHour) {
  Shaped s;
  s.limits.per_day = 1600;
  for (int i = 0; i < 100; ++i) ASSERT_FALSE(s.send());
  const auto refusal = s.send();
  ASSERT_TRUE(refusal);
  EXPECT_TRUE(refusal->cap);
  EXPECT_EQ(refusal->until, s.now + 1h);
  EXPECT_EQ(refusal->reason, "warm-up: 100 recipients an hour are used up");
  s.now += 1h;
  EXPECT_FALSE(s.send());
}

TEST(WarmupCap, OfTheDayHoldsUntilMidnight) {
  Shaped s;
  s.limits.per_day = 1600;
  for (int hour = 0; hour < 16; ++hour, s.now += 1h)
    for (int i = 0; i < 100; ++i) ASSERT_FALSE(s.send());
  const auto refusal = s.send();
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->until, s.now + 8h);
  EXPECT_EQ(refusal->reason, "warm-up: 1600 recipients a day are used up");
}

TEST(WarmupCap, CountsRecipientsAndTakesNothingFromWhatItRefuses) {
  Shaped s;
  s.limits.per_day = 1600;
  EXPECT_FALSE(s.send(60));
  EXPECT_TRUE(s.send(41));
  EXPECT_FALSE(s.send(40));
}

TEST(WarmupCap, AMessageLargerThanASliceGoesAlone) {
  Shaped s;
  s.limits.per_day = 160;
  EXPECT_FALSE(s.send(500));
  EXPECT_TRUE(s.send(1));
}

TEST(WarmupCap, OfLessThanSixteenADayIsOneAnHour) {
  EXPECT_EQ(hourly(3), 1u);
  EXPECT_EQ(hourly(1600), 100u);
}

TEST(WarmupCap, AClockSetBackDoesNotHandOutTheHourAgain) {
  Shaped s;
  s.limits.per_day = 16;
  EXPECT_FALSE(s.send());
  s.now -= 2h;
  EXPECT_TRUE(s.send());
}

TEST(ThrottledRate, IsAPartOfTheRateBefore) {
  Shaped s;
  s.sent_within(10min);  // ten a second
  s.limits.throttle = 0.5;
  EXPECT_NEAR(s.sent_within(1min), 300, 10);
  s.limits.throttle = 0.25;
  EXPECT_NEAR(s.sent_within(1min), 150, 10);
}

TEST(ThrottledRate, GrowsWithTheThrottleAndIsFreeAtTheEnd) {
  Shaped s;
  s.sent_within(10min);
  s.limits.throttle = 0.5;
  s.sent_within(1min);
  s.limits.throttle = 0.75;
  EXPECT_NEAR(s.sent_within(1min), 450, 10);
  s.limits.throttle = 1;
  EXPECT_EQ(s.sent_within(1min), 600);
}

TEST(ThrottledRate, OfAQuietSourceStartsFromOneASecond) {
  Shaped s;
  s.limits.throttle = 0.5;
  EXPECT_FALSE(s.send());
  const auto refusal = s.send();
  ASSERT_TRUE(refusal);
  EXPECT_FALSE(refusal->cap);
  EXPECT_EQ(refusal->until, s.now + 2s);
  EXPECT_EQ(refusal->reason, "throttled: 50% of its rate");
  s.now = refusal->until;
  EXPECT_FALSE(s.send());
}

TEST(ThrottledRate, IsNoBurstAfterAPause) {
  Shaped s;
  s.limits.throttle = 0.5;
  s.send();
  s.now += 1h;
  EXPECT_FALSE(s.send());
  EXPECT_TRUE(s.send());
}

TEST(ThrottledRate, AClockSetBackDoesNotStopTheSource) {
  Shaped s;
  s.limits.throttle = 0.5;
  s.send();
  s.now -= 24h;
  const auto refusal = s.send();
  ASSERT_TRUE(refusal);
  EXPECT_LE(refusal->until - s.now, 2s);
}

}  // namespace
}  // namespace egret::routing
