// Budgets as the workers charge them, with their table on disk. A crash is an object that is gone without close().
#include "relay/budgets.hpp"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <filesystem>
#include <random>
#include <thread>

#include "config/spending.hpp"
#include "relay/state/budget_store.hpp"

namespace egret::relay {
namespace {

using namespace std::chrono_literals;
using routing::BudgetStage;
using routing::Price;
using routing::SpendingLimit;
using routing::Time;
using routing::Unit;

const Unit usd = *Unit::currency("USD");
const Price cent{routing::nanos / 100, usd};  // for one recipient
const Time midnight{std::chrono::hours(24 * 20'000)};

SpendingLimit recipients(std::uint64_t n, routing::Duration per = 24h) {
  return {Unit(), {n, per}};
}
SpendingLimit cents(std::uint64_t n, routing::Duration per = 24h) {
  return {usd, {n * cent.amount, per}};
}

class Ledger : public testing::Test {
 protected:
  Ledger() : directory_(std::filesystem::temp_directory_path() / ("budgets-" + std::to_string(std::random_device{}()))) {
    std::filesystem::create_directories(directory_);
    config_.smarthosts.resize(2);
    config_.smarthosts[0].name = "esp";
    config_.smarthosts[1].name = "spare";
    config_.topology.smarthosts = {"esp", "spare"};
    config_.classes.resize(2);
    config_.classes[0].name = "transactional";
    config_.classes[1].name = "bulk";
    for (auto& host : config_.smarthosts) host.spending = spending({}, cent);
  }
  ~Ledger() override {
    budgets_.reset();
    std::filesystem::remove_all(directory_);
  }

  static std::shared_ptr<const config::Spending> spending(std::vector<SpendingLimit> limits, std::optional<Price> cost = cent) {
    auto out = std::make_shared<config::Spending>();
    out->limits = std::move(limits);
    out->cost = cost;
    return out;
  }
  void start(Time now = midnight) {
    budgets_ = std::make_unique<Budgets>(config_);
    budgets_->open(std::make_unique<BudgetStore>(directory_), now);
  }
  void crash(Time now = midnight) {
    budgets_.reset();
    start(now);
  }
  bool charge(std::uint32_t host, std::uint32_t of_class, std::uint64_t n, Time now = midnight) {
    charge_.reset();
    const auto refusal = budgets_->charge(host, of_class, n, now, charge_);
    why_ = refusal ? refusal->reason : "";
    until_ = refusal ? refusal->until : std::nullopt;
    return !refusal && budgets_->pay(*charge_);
  }
  std::uint64_t used(std::uint32_t host, Unit unit, Time now = midnight, routing::Duration per = 24h) {
    for (const auto& line : budgets_->smarthost_lines(host, now))
      if (line.unit == unit && line.per == per) return line.used;
    return UINT64_MAX;
  }
  std::vector<std::string> news(Time now = midnight) {
    std::vector<std::string> out;
    for (const auto& one : budgets_->take_news(now))
      out.push_back(one.smarthost + one.message_class + " " + std::string(to_string(one.to)));
    budgets_->save(now);
    return out;
  }

  std::filesystem::path directory_;
  config::Config config_;
  std::unique_ptr<Budgets> budgets_;
  std::optional<Charge> charge_;
  std::string why_;
  std::optional<Time> until_;
};

TEST_F(Ledger, HoldsSeveralLimitsAtOnce) {
  config_.smarthosts[0].spending = spending({recipients(10), cents(6), recipients(4, 1h)});
  start();
  EXPECT_TRUE(charge(0, 0, 4));
  EXPECT_FALSE(charge(0, 0, 1));
  EXPECT_EQ(why_, "budget used up: 4/h");
  EXPECT_EQ(until_, midnight + 1h);
  EXPECT_TRUE(charge(0, 0, 2, midnight + 1h));
  EXPECT_FALSE(charge(0, 0, 1, midnight + 1h));
  EXPECT_EQ(why_, "budget used up: 0.06 USD/d");
  EXPECT_EQ(until_, midnight + 24h);
}

TEST_F(Ledger, TakesNothingFromOneBudgetWhereAnotherRefuses) {
  config_.smarthosts[0].spending = spending({recipients(10), cents(6)});
  start();
  EXPECT_FALSE(charge(0, 0, 7));
  EXPECT_EQ(used(0, Unit()), 0u);
  EXPECT_EQ(used(0, usd), 0u);
}

TEST_F(Ledger, LimitsAClassAtAllSmarthostsTogetherAndNoOther) {
  config_.classes[1].spending = spending({cents(5)}, std::nullopt);
  start();
  EXPECT_TRUE(charge(0, 1, 3));
  EXPECT_TRUE(charge(1, 1, 2));
  EXPECT_FALSE(charge(0, 1, 1));
  EXPECT_EQ(why_, "budget used up of class bulk: 0.05 USD/d");
  EXPECT_FALSE(charge(1, 1, 1));
  EXPECT_TRUE(charge(0, 0, 100)) << "transactional has none";
}

TEST_F(Ledger, RefusesAClassWithABudgetInMoneyWhereThePriceIsNotKnown) {
  config_.classes[1].spending = spending({cents(5)}, std::nullopt);
  config_.smarthosts[0].spending = nullptr;
  start();
  EXPECT_FALSE(charge(0, 1, 1));
  EXPECT_TRUE(charge(0, 0, 1));
}

TEST_F(Ledger, GivesBackWhatWasNotSent) {
  config_.smarthosts[0].spending = spending({recipients(10), cents(10)});
  start();
  ASSERT_TRUE(charge(0, 0, 10));
  budgets_->refund(*charge_, 4);
  budgets_->refund(*charge_, 1);
  EXPECT_EQ(used(0, Unit()), 5u);
  EXPECT_EQ(used(0, usd), 5 * cent.amount);
  EXPECT_EQ(used(0, Unit::messages()), 1u);
  budgets_->refund(*charge_, 100);
  EXPECT_EQ(used(0, Unit()), 0u) << "never more than was charged";
  EXPECT_EQ(used(0, Unit::messages()), 0u);
  EXPECT_EQ(budgets_->today(0, 0, midnight).recipients, 0u);
}

TEST_F(Ledger, GivesNothingBackToAnotherPeriod) {
  config_.smarthosts[0].spending = spending({recipients(10)});
  start();
  ASSERT_TRUE(charge(0, 0, 10, midnight - 1ms));
  Charge before = *charge_;
  ASSERT_TRUE(charge(0, 0, 10, midnight));
  budgets_->refund(before, 10);
  EXPECT_EQ(used(0, Unit()), 10u);
}

TEST_F(Ledger, GivesBackAtThePriceThatWasCharged) {
  start();
  ASSERT_TRUE(charge(0, 0, 10));
  Charge before = *charge_;
  ASSERT_TRUE(charge(0, 0, 10));
  config_.smarthosts[0].spending = spending({}, Price{2 * cent.amount, usd});
  budgets_->configure(config_);
  budgets_->refund(before, 10);
  EXPECT_EQ(used(0, usd), 10 * cent.amount);
}

TEST_F(Ledger, KnowsWhatWaitedIntoAnotherPeriod) {
  config_.smarthosts[0].spending = spending({recipients(10, 5s)});
  start();
  ASSERT_TRUE(charge(0, 0, 1, midnight + 4s));
  EXPECT_TRUE(budgets_->current(*charge_, midnight + 4999ms));
  EXPECT_FALSE(budgets_->current(*charge_, midnight + 5s));
}

TEST_F(Ledger, NeverExceedsABudgetOverCrashes) {
  config_.smarthosts[0].spending = spending({recipients(1000), cents(900)});
  start();
  std::mt19937 random(7);
  std::uint64_t sent = 0;
  for (int life = 0; life < 40; ++life) {
    for (int i = static_cast<int>(random() % 60); i > 0; --i) {
      const std::uint64_t n = 1 + random() % 3;
      if (charge(0, 0, n)) sent += n;
      if (random() % 8 == 0) budgets_->save(midnight);
    }
    crash();
    ASSERT_GE(used(0, Unit()), sent) << "a crash forgot what was sent";
    ASSERT_LE(used(0, usd), 900 * cent.amount);
  }
  EXPECT_LE(sent, 900u);
  EXPECT_FALSE(charge(0, 0, 3));
}

TEST_F(Ledger, WastesABlockAtMostInACrash) {
  config_.smarthosts[0].spending = spending({recipients(1000)});
  start();
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(charge(0, 0, 1));
  crash();
  EXPECT_GE(used(0, Unit()), 50u);
  EXPECT_LE(used(0, Unit()), 50u + 10u) << "a hundredth";
}

TEST_F(Ledger, WastesNothingOfWhatWasNotSentYet) {
  config_.smarthosts[0].spending = spending({recipients(100)});
  start();
  std::optional<Charge> waits;
  ASSERT_FALSE(budgets_->charge(0, 0, 90, midnight, waits));
  ASSERT_TRUE(charge(0, 0, 10));
  ASSERT_FALSE(charge(0, 0, 1)) << "it is promised to what waits";
  budgets_->save(midnight);
  crash();
  EXPECT_LE(used(0, Unit()), 15u);
  EXPECT_GE(used(0, Unit()), 10u);
}

TEST_F(Ledger, WastesNothingWhereItIsStopped) {
  config_.smarthosts[0].spending = spending({recipients(1000)});
  start();
  ASSERT_TRUE(charge(0, 1, 7));
  budgets_->close(midnight);
  crash();
  EXPECT_EQ(used(0, Unit()), 7u);
  EXPECT_EQ(budgets_->today(0, 1, midnight).recipients, 7u);
  EXPECT_EQ(budgets_->today(0, 1, midnight).money.at(usd), 7 * cent.amount);
}

TEST_F(Ledger, HasARoomyBoundAfterASecondOfUse) {
  config_.smarthosts[0].spending = spending({recipients(100'000)});
  start();
  for (int i = 0; i < 400; ++i) ASSERT_TRUE(charge(0, 0, 10));
  budgets_->save(midnight);
  for (int i = 0; i < 400; ++i) ASSERT_TRUE(charge(0, 0, 10));
  budgets_->save(midnight);
  sqlite3* other = nullptr;  // nobody can write any more
  ASSERT_EQ(sqlite3_open((directory_ / "state.db").c_str(), &other), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(other, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr), SQLITE_OK);
  for (int i = 0; i < 400; ++i) EXPECT_TRUE(charge(0, 0, 10)) << "the disk is not needed";
  sqlite3_close(other);
}

TEST_F(Ledger, SpendsNothingThatCannotBeSaved) {
  config_.smarthosts[0].spending = spending({recipients(10)});
  start();
  sqlite3* other = nullptr;
  ASSERT_EQ(sqlite3_open((directory_ / "state.db").c_str(), &other), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(other, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr), SQLITE_OK);
  EXPECT_FALSE(charge(0, 0, 1)) << "not to be sent";
  budgets_->refund(*charge_, 1);
  EXPECT_FALSE(charge(0, 0, 1));
  EXPECT_EQ(why_, "what is used of its budget cannot be saved");
  EXPECT_GT(until_, midnight);
  EXPECT_TRUE(charge(1, 0, 1)) << "no limit, nothing to be safe for";
  sqlite3_close(other);
  budgets_->save(midnight);
  EXPECT_TRUE(charge(0, 0, 1));
}

TEST_F(Ledger, NeverExceedsABudgetChargedFromManyThreads) {
  config_.smarthosts[0].spending = spending({recipients(500)});
  config_.classes[1].spending = spending({recipients(300)});
  start();
  std::atomic<std::uint64_t> all{0}, bulk{0};
  std::vector<std::jthread> threads;
  for (std::uint32_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 300; ++i) {
        std::optional<Charge> mine;
        if (budgets_->charge(0, t % 2, 1, midnight, mine) || !budgets_->pay(*mine)) continue;
        if (i % 5 == 0) {
          budgets_->refund(*mine, 1);
          continue;
        }
        all.fetch_add(1);
        if (t % 2) bulk.fetch_add(1);
      }
    });
  threads.emplace_back([&] {
    for (int i = 0; i < 20; ++i) budgets_->save(midnight);
  });
  threads.clear();
  EXPECT_LE(all.load(), 500u);
  EXPECT_LE(bulk.load(), 300u);
  EXPECT_EQ(used(0, Unit()), all.load());
  crash();
  EXPECT_GE(used(0, Unit()), all.load());
}

TEST_F(Ledger, TellsEachStageOnceInAPeriodOverCrashesToo) {
  config_.smarthosts[0].spending = spending({cents(10, 1h)});
  start();
  ASSERT_TRUE(charge(0, 0, 4));
  EXPECT_EQ(news(), std::vector<std::string>{});
  ASSERT_TRUE(charge(0, 0, 1));
  EXPECT_EQ(news(), std::vector<std::string>{"esp half"});
  crash();
  EXPECT_EQ(news(), std::vector<std::string>{});
  ASSERT_TRUE(charge(0, 0, 5));
  EXPECT_EQ(news(), (std::vector<std::string>{"esp low", "esp used-up"}));
  budgets_->refund(*charge_, 5);
  ASSERT_TRUE(charge(0, 0, 5));
  crash();
  EXPECT_EQ(news(), std::vector<std::string>{});
  ASSERT_TRUE(charge(0, 0, 10, midnight + 1h));
  EXPECT_EQ(news(midnight + 1h), (std::vector<std::string>{"esp half", "esp low", "esp used-up"}));
}

TEST_F(Ledger, IsUsedUpForAMessageThatDoesNotFit) {
  config_.classes[1].spending = spending({recipients(10)});
  start();
  ASSERT_TRUE(charge(0, 1, 6));
  ASSERT_FALSE(charge(0, 1, 5));
  EXPECT_EQ(news(), (std::vector<std::string>{"bulk half", "bulk used-up"}));
}

TEST_F(Ledger, TellsOfALargerBudgetAnew) {
  config_.smarthosts[0].spending = spending({recipients(10)});
  start();
  ASSERT_TRUE(charge(0, 0, 10));
  EXPECT_EQ(news().size(), 3u);
  config_.smarthosts[0].spending = spending({recipients(20)});
  budgets_->configure(config_);
  EXPECT_EQ(news(), std::vector<std::string>{}) << "half of it was used already";
  ASSERT_TRUE(charge(0, 0, 6));
  EXPECT_EQ(news(), std::vector<std::string>{"esp low"});
}

TEST_F(Ledger, KeepsWhatWasUsedOverAReload) {
  config_.smarthosts[0].spending = spending({recipients(10)});
  start();
  ASSERT_TRUE(charge(0, 0, 8));
  config_.smarthosts[0].spending = nullptr;
  budgets_->configure(config_);
  ASSERT_TRUE(charge(0, 0, 8));
  config_.smarthosts[0].spending = spending({recipients(20)});
  budgets_->configure(config_);
  EXPECT_FALSE(charge(0, 0, 5));
  EXPECT_TRUE(charge(0, 0, 4));
}

TEST_F(Ledger, BelongsToTheNameWhenAReloadMovesTheSmarthost) {
  config_.smarthosts[0].spending = spending({recipients(10)});
  start();
  ASSERT_TRUE(charge(0, 0, 8));
  config_.smarthosts[0].removed = true;
  config_.smarthosts.push_back(config_.smarthosts[0]);
  config_.smarthosts.back().removed = false;
  budgets_->configure(config_);
  EXPECT_FALSE(charge(2, 0, 3));
  EXPECT_TRUE(charge(2, 0, 2));
}

TEST_F(Ledger, SaysHowManyFitInAWholePeriod) {
  config_.smarthosts[0].spending = spending({cents(7), recipients(100)});
  config_.classes[1].spending = spending({recipients(3)});
  start();
  EXPECT_EQ(budgets_->most_recipients(0, 0), 7u);
  EXPECT_EQ(budgets_->most_recipients(0, 1), 3u);
  EXPECT_GT(budgets_->most_recipients(1, 0), 100'000u);
}

TEST_F(Ledger, SpreadsMailToItsRate) {
  auto paced = std::make_shared<config::Spending>();
  paced->rate = routing::Budget{10, 1s};
  config_.smarthosts[0].spending = paced;
  start();
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(charge(0, 0, 5));
  EXPECT_EQ(budgets_->wait(0, begin), 0ms);
  budgets_->take_turn(*charge_, begin);
  EXPECT_EQ(budgets_->wait(0, begin), 500ms);
  EXPECT_EQ(budgets_->wait(0, begin + 500ms), 0ms);
}

TEST_F(Ledger, RefusesWhatWouldWaitTooLongForTheRateEachClassForItself) {
  auto paced = std::make_shared<config::Spending>();
  paced->rate = routing::Budget{10, 1s};
  config_.smarthosts[0].spending = paced;
  start();
  std::vector<Charge> waiting;
  while (charge(0, 1, 10)) waiting.push_back(*charge_);
  EXPECT_EQ(waiting.size(), 11u) << "ten seconds of mail, and one more";
  EXPECT_EQ(why_, "rate of 10/s: 11s wait already");
  EXPECT_GT(until_, midnight);
  EXPECT_TRUE(charge(0, 0, 10)) << "transactional does not wait for bulk";
  budgets_->refund(waiting.back(), 10);
  EXPECT_TRUE(charge(0, 1, 10));
}

}  // namespace
}  // namespace egret::relay
