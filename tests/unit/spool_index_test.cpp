#include "relay/spool/index.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace egret::relay::spool {
namespace {

TEST(SpoolIndex, FindsWhatWasAddedInAnyOrder) {
  Index index;
  for (const std::uint64_t id : {10, 20, 30, 25, 5}) index.add(id, {1, static_cast<std::uint32_t>(id), 0});
  index.close();
  index.add(40, {2, 40, 0});
  EXPECT_EQ(index.size(), 6u);
  for (const std::uint64_t id : {5, 10, 20, 25, 30, 40}) {
    ASSERT_TRUE(index.find(id)) << id;
    EXPECT_EQ(index.find(id)->offset, id);
  }
  for (const std::uint64_t id : {0, 4, 11, 31, 41}) EXPECT_FALSE(index.contains(id)) << id;
}

TEST(SpoolIndex, ReplacesAPlaceWhereverItIs) {
  Index index;
  index.add(10, {1, 1, 0});
  index.add(10, {2, 2, 0});
  index.close();
  index.add(10, {3, 3, 0});
  EXPECT_EQ(index.size(), 1u);
  EXPECT_EQ(index.find(10)->segment, 3u);
}

TEST(SpoolIndex, IsWhatAMapIsThroughARandomHistory) {
  std::mt19937_64 random(1);
  Index index;
  std::map<std::uint64_t, std::uint32_t> model;
  for (std::uint32_t i = 1; i <= 2000; ++i) index.add(i * 3, {1, i, 0}), model[i * 3] = i;
  index.close();
  for (std::uint32_t step = 0; step < 20000; ++step) {
    const std::uint64_t id = random() % 7000;
    if (random() % 3 == 0) {
      index.add(id, {1, step, 0});
      model[id] = step;
    } else {
      index.erase(id);
      model.erase(id);
    }
    ASSERT_EQ(index.size(), model.size());
  }
  for (std::uint64_t id = 0; id < 7000; ++id) {
    const auto it = model.find(id);
    const Place* const place = index.find(id);
    ASSERT_EQ(place != nullptr, it != model.end()) << id;
    if (place) EXPECT_EQ(place->offset, it->second);
  }
}

}  // namespace
}  // namespace egret::relay::spool
