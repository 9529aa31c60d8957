#include "routing/spending.hpp"

#include <gtest/gtest.h>

#include "config/config.hpp"
#include "config/read_spending.hpp"
#include "routing/budget_stage.hpp"

namespace egret::routing {
namespace {

using namespace std::chrono_literals;
using config::parse_limit;
using config::parse_price;

const Unit usd = *Unit::currency("USD");
const Unit eur = *Unit::currency("EUR");

TEST(Price, OfOneRecipientIsExact) {
  EXPECT_EQ(parse_price("0.10/1000"), (Price{100'000, usd}));
  EXPECT_EQ(parse_price("0.10 EUR/1000"), (Price{100'000, eur}));
  EXPECT_EQ(parse_price("1/1"), (Price{nanos, usd}));
  EXPECT_EQ(parse_price("0.4157 USD/1000"), (Price{415'700, usd}));
  EXPECT_EQ(parse_price("0/1000"), (Price{0, usd}));
}

TEST(Price, RefusesWhatIsNoneOrCannotBeExact) {
  for (const char* text :
       {"", "0.10", "/1000", "0.10/", "0.10/0", "-0.10/1000", "0,10/1000", "0.10 usd/1000", "0.10 USDT/1000", "0.10/d", "1/3",
        "0.1234567891/1", "2000/1", "99999999999999999999/1", "0.10  USD/1000", ".5/1", "1e-3/1"})
    EXPECT_FALSE(parse_price(text)) << text;
}

TEST(Price, DoesNotDriftOverAMillionRecipients) {
  const auto price = parse_price("0.10/1000");
  std::uint64_t sum = 0;
  for (int i = 0; i < 1'000'000; ++i) sum += *amount_of(usd, 1, price);
  EXPECT_EQ(sum, 100 * nanos);
  EXPECT_EQ(to_string(sum, usd), "100 USD");
}

TEST(SpendingLimit, CountsRecipientsOrMoney) {
  EXPECT_EQ(parse_limit("50000/d"), (SpendingLimit{Unit(), {50000, 24h}}));
  EXPECT_EQ(parse_limit("20 USD/d"), (SpendingLimit{usd, {20 * nanos, 24h}}));
  EXPECT_EQ(parse_limit("0.5 EUR/h"), (SpendingLimit{eur, {nanos / 2, 1h}}));
  EXPECT_EQ(parse_limit("10/5s"), (SpendingLimit{Unit(), {10, 5s}}));
  EXPECT_EQ(parse_limit("500 USD/30d"), (SpendingLimit{usd, {500 * nanos, 24h * 30}}));
}

TEST(SpendingLimit, RefusesWhatIsNone) {
  for (const char* text : {"", "20", "20 USD", "20 usd/d", "20.5/d", "20 USD/w", "20 USD/0s", "20 USD/500ms", "20 USD/400d",
                           "-1/d", "18446744073709551615/d", "1000000001 USD/d", "msg/d", "5 msg/d", "/d", "20 USD /d"})
    EXPECT_FALSE(parse_limit(text)) << text;
}

TEST(SpendingLimit, IsWrittenAsItIsRead) {
  for (const char* text : {"50000/d", "20 USD/d", "0.5 EUR/h", "10/5s", "14/s", "500 USD/30d", "0.000000001 USD/m"})
    EXPECT_EQ(to_string(parse_limit(text).value()), text);
  EXPECT_EQ(to_string(parse_price("0.10/1000").value()), "0.1 USD/1000");
}

TEST(Amount, OfMoneyNeedsAPriceInItsCurrency) {
  EXPECT_EQ(amount_of(usd, 3, Price{100, usd}), 300u);
  EXPECT_FALSE(amount_of(eur, 3, Price{100, usd}));
  EXPECT_FALSE(amount_of(usd, 3, std::nullopt));
  EXPECT_EQ(amount_of(Unit(), 3, std::nullopt), 3u);
  EXPECT_EQ(amount_of(Unit::messages(), 3, std::nullopt), 1u);
}

TEST(Amount, IsSoManyRecipientsAsItPaysInFull) {
  EXPECT_EQ(recipients_in(usd, 299, Price{100, usd}), 2u);
  EXPECT_EQ(recipients_in(Unit(), 7, std::nullopt), 7u);
  EXPECT_FALSE(recipients_in(usd, 299, Price{0, usd})) << "any number";
}

TEST(Spending, TakesThePresetsCostAndTheTightestLimitAsRecipients) {
  config::Problems problems;
  const auto config = config::load_text(R"(
hostname: relay.example.com
listeners: [{address: "127.0.0.1:2525"}]
sources: {out1: {address: 192.0.2.1}}
smarthosts:
  ses: {provider: ses, region: eu-west-1, username: u, password: p, budget: [300000/d, 20 USD/d], rate: 14/s}
  other: {address: "smtp.example.net:587"}
pools: {transactional: {sources: [out1], fallback: [ses]}}
classes: {transactional: {budget: 5 USD/d}}
)",
                                        "test.yaml", {}, problems);
  ASSERT_TRUE(config) << problems.size();
  const auto& ses = config->smarthosts.at(0);
  ASSERT_TRUE(ses.spending && config->classes.at(0).spending);
  EXPECT_EQ(ses.spending->cost, (Price{100'000, usd}));
  EXPECT_EQ(ses.spending->limits.size(), 2u);
  EXPECT_EQ(ses.spending->rate.value().recipients, 14u);
  EXPECT_EQ(ses.budget.value().recipients, 200'000u);
  EXPECT_EQ(config->classes.at(0).spending->limits.at(0), parse_limit("5 USD/d"));
  EXPECT_FALSE(config->smarthosts.at(1).spending);
}

TEST(Unit, IsKnownByItsCode) {
  for (const Unit unit : {Unit(), Unit::messages(), usd, eur}) EXPECT_EQ(Unit::of_code(unit.code()), unit);
  EXPECT_FALSE(Unit::of_code("usd"));
  EXPECT_FALSE(Unit::messages().money());
}

TEST(BudgetStage, BeginsAtHalfAtFourFifthsAndAtAll) {
  const Budget odd{7, 24h};
  EXPECT_EQ(budget_stage(3, odd), BudgetStage::plenty);
  EXPECT_EQ(budget_stage(4, odd), BudgetStage::half);
  EXPECT_EQ(budget_stage(5, odd), BudgetStage::half);
  EXPECT_EQ(budget_stage(6, odd), BudgetStage::low);
  EXPECT_EQ(budget_stage(7, odd), BudgetStage::used_up);
}

}  // namespace
}  // namespace egret::routing
