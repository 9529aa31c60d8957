#include "routing/budget.hpp"

#include <gtest/gtest.h>

namespace egret::routing {
namespace {

using namespace std::chrono_literals;

const Budget daily{100, std::chrono::hours(24)};
const Time midnight{std::chrono::hours(24 * 20'000)};

TEST(Budget, PeriodsBeginAtMidnightUtc) {
  EXPECT_EQ(budget_window(daily, midnight), midnight);
  EXPECT_EQ(budget_window(daily, midnight + 24h - 1ms), midnight);
  EXPECT_EQ(budget_window(daily, midnight + 24h), midnight + 24h);
}

TEST(Budget, IsTakenUntilItIsUsedUp) {
  BudgetUse use;
  EXPECT_TRUE(charge(use, daily, 60, midnight));
  EXPECT_TRUE(charge(use, daily, 40, midnight + 1h));
  EXPECT_FALSE(charge(use, daily, 1, midnight + 2h));
}

TEST(Budget, IsTakenWholeOrNotAtAll) {
  BudgetUse use;
  charge(use, daily, 95, midnight);
  EXPECT_FALSE(charge(use, daily, 6, midnight));
  EXPECT_EQ(use.used, 95u);
  EXPECT_TRUE(charge(use, daily, 5, midnight));
}

TEST(Budget, IsRenewedWithThePeriod) {
  BudgetUse use;
  charge(use, daily, 100, midnight);
  EXPECT_TRUE(charge(use, daily, 100, midnight + 24h));
}

TEST(Budget, IsNotRenewedByAClockSetBack) {
  BudgetUse use;
  charge(use, daily, 100, midnight);
  EXPECT_FALSE(charge(use, daily, 1, midnight - 1h));
  EXPECT_FALSE(charge(use, daily, 1, midnight));
}

TEST(Budget, TakesBackWhatWasNotUsed) {
  BudgetUse use;
  charge(use, daily, 100, midnight);
  refund(use, daily, 30, midnight + 1h);
  EXPECT_TRUE(charge(use, daily, 30, midnight + 2h));
  EXPECT_FALSE(charge(use, daily, 1, midnight + 2h));
}

TEST(Budget, TakesNothingBackFromAnotherPeriod) {
  BudgetUse use;
  charge(use, daily, 100, midnight - 1h);
  charge(use, daily, 50, midnight);
  refund(use, daily, 40, midnight - 1h);
  EXPECT_EQ(use.used, 50u);
}

TEST(Budget, NeverTakesBackMoreThanWasUsed) {
  BudgetUse use;
  charge(use, daily, 10, midnight);
  refund(use, daily, 1000, midnight);
  EXPECT_EQ(use.used, 0u);
}

TEST(Budget, OfZeroAllowsNothing) {
  BudgetUse use;
  EXPECT_FALSE(charge(use, {0, 1h}, 1, midnight));
}

}  // namespace
}  // namespace egret::routing
