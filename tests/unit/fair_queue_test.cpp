#include "routing/fair_queue.hpp"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <vector>

namespace egret::routing {
namespace {

constexpr std::uint32_t transactional = 0, bulk = 1, third = 2;

struct Item {
  std::uint32_t message_class;
  int number;
};

void fill(FairQueue<Item>& queue, std::uint32_t message_class, int weight, int count) {
  for (int i = 0; i < count; ++i) queue.push_back(message_class, weight, {message_class, i});
}

std::map<std::uint32_t, int> served(FairQueue<Item>& queue, int turns) {
  std::map<std::uint32_t, int> out;
  for (int i = 0; i < turns; ++i) ++out[queue.pop()->message_class];
  return out;
}

TEST(FairQueue, KeepsTheOrderWithinAClass) {
  FairQueue<Item> queue;
  fill(queue, bulk, 1, 50);
  fill(queue, transactional, 10, 50);
  std::map<std::uint32_t, int> next;
  while (auto item = queue.pop()) EXPECT_EQ(item->number, next[item->message_class]++);
  EXPECT_EQ(next[transactional], 50);
  EXPECT_EQ(next[bulk], 50);
  EXPECT_TRUE(queue.empty());
}

TEST(FairQueue, ServesClassesThatAlwaysWaitByTheirWeights) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    const int weights[] = {std::uniform_int_distribution(1, 1000)(random), std::uniform_int_distribution(1, 1000)(random),
                           std::uniform_int_distribution(1, 1000)(random)};
    const int sum = weights[0] + weights[1] + weights[2];
    FairQueue<Item> queue;
    for (std::uint32_t c = 0; c < 3; ++c) fill(queue, c, weights[c], sum + 1);
    const auto got = served(queue, sum);
    for (std::uint32_t c = 0; c < 3; ++c) {
      const auto it = got.find(c);
      EXPECT_NEAR(it == got.end() ? 0 : it->second, weights[c], 2.0 + weights[c] * 0.01)
          << weights[0] << ' ' << weights[1] << ' ' << weights[2];
    }
  }
}

TEST(FairQueue, LeavesNoClassWithoutService) {
  FairQueue<Item> queue;
  fill(queue, bulk, 1, 1);
  fill(queue, transactional, 1000, 5000);
  int turns = 1;
  while (queue.pop()->message_class != bulk) ++turns;
  EXPECT_LE(turns, 1002);
}

TEST(FairQueue, TakesANewcomerBeforeALongBacklog) {
  FairQueue<Item> queue;
  fill(queue, bulk, 1, 100'000);
  served(queue, 1000);
  queue.push_back(transactional, 10, {transactional, 0});
  EXPECT_EQ(queue.pop()->message_class, transactional);
  // And again: who waits seldom is never behind more than one of the others.
  for (int i = 0; i < 100; ++i) {
    served(queue, i % 3);
    queue.push_back(transactional, 10, {transactional, i});
    const auto got = served(queue, 2);
    EXPECT_EQ(got.count(transactional), 1u) << i;
    while (queue.size(transactional) > 0) queue.pop();
  }
}

TEST(FairQueue, GivesNoCreditForHavingBeenEmpty) {
  FairQueue<Item> queue;
  fill(queue, bulk, 1, 3000);
  served(queue, 1000);
  fill(queue, transactional, 1, 2000);
  const auto got = served(queue, 1000);
  EXPECT_NEAR(got.at(transactional), 500, 1);
}

TEST(FairQueue, GivesNoCreditForNotHavingBeenAdmitted) {
  FairQueue<Item> queue;
  fill(queue, bulk, 1, 3000);
  fill(queue, transactional, 1, 3000);
  for (int i = 0; i < 1000; ++i)
    EXPECT_EQ(queue.pop([](std::uint32_t c) { return c == transactional; })->message_class, transactional);
  EXPECT_NEAR(served(queue, 1000).at(transactional), 500, 1);
  EXPECT_FALSE(queue.pop([](std::uint32_t) { return false; }).has_value());
}

TEST(FairQueue, DoesNotLetATrickleTakeMoreThanItsPart) {
  // One at a time, always one more as soon as it was taken: not better than a backlog.
  FairQueue<Item> queue;
  fill(queue, transactional, 10, 5000);
  queue.push_back(bulk, 1, {bulk, 0});
  int trickled = 0;
  for (int i = 0; i < 1100; ++i) {
    if (queue.pop()->message_class != bulk) continue;
    ++trickled;
    queue.push_back(bulk, 1, {bulk, 0});
  }
  EXPECT_NEAR(trickled, 100, 2);
}

TEST(FairQueue, PutsBackWhatWasNotServedWithItsTurn) {
  FairQueue<Item> queue;
  fill(queue, transactional, 1, 10);
  fill(queue, bulk, 1, 10);
  const auto first = queue.pop();
  queue.push_front(first->message_class, 1, *first);
  const auto again = queue.pop();
  EXPECT_EQ(again->message_class, first->message_class);
  EXPECT_EQ(again->number, first->number);
  EXPECT_EQ(queue.size(), 19u);
}

TEST(FairQueue, TakesTheLastWeightThatItWasTold) {
  FairQueue<Item> queue;
  fill(queue, transactional, 1, 2000);
  fill(queue, bulk, 1, 2000);
  queue.push_back(transactional, 3, {transactional, 2000});
  EXPECT_NEAR(served(queue, 1000).at(transactional), 750, 2);
}

TEST(FairQueue, MovesEverythingBehindWhatIsThere) {
  FairQueue<std::unique_ptr<int>> from, to;
  to.push_back(bulk, 1, std::make_unique<int>(1));
  from.push_back(bulk, 1, std::make_unique<int>(2));
  from.push_back(third, 1, std::make_unique<int>(3));
  to.splice(from);
  EXPECT_TRUE(from.empty());
  EXPECT_FALSE(from.pop().has_value());
  EXPECT_EQ(to.size(bulk), 2u);
  std::vector<int> all;
  to.for_each([&](const auto& item) { all.push_back(*item); });
  EXPECT_EQ(all, (std::vector<int>{1, 2, 3}));
}

TEST(FairQueue, CountsWhatIsTakenOut) {
  FairQueue<Item> queue;
  fill(queue, transactional, 10, 10);
  fill(queue, bulk, 1, 10);
  EXPECT_EQ(queue.erase_if([](const Item& item) { return item.number % 2 == 0; }), 10u);
  EXPECT_EQ(queue.size(), 10u);
  std::map<std::uint32_t, std::size_t> sizes;
  queue.for_each_class([&](std::uint32_t c, std::size_t size) { sizes[c] = size; });
  EXPECT_EQ(sizes, (std::map<std::uint32_t, std::size_t>{{transactional, 5}, {bulk, 5}}));
  EXPECT_EQ(queue.next([](std::uint32_t c) { return c == bulk; }), bulk);
}

}  // namespace
}  // namespace egret::routing
