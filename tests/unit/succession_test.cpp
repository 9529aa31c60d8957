#include "config/succession.hpp"

#include <gtest/gtest.h>

namespace egret::config {
namespace {

using routing::EgressKind;

std::shared_ptr<const Config> load(const std::string& egresses, const std::string& more = "") {
  Problems problems;
  const std::string text =
      "hostname: relay.example.com\nlisteners: [{address: \"127.0.0.1:2525\", class: a}]\nclasses: {a: {pool: a}, b: {pool: "
      "b}}\n" +
      egresses + more;
  auto out = load_text(
      text, "f", [](const std::string&) { return std::nullopt; }, problems);
  for (const auto& problem : problems) ADD_FAILURE() << problem.to_string();
  return out;
}

const std::string three = "sources: {s1: {address: 192.0.2.1}, s2: {address: 192.0.2.2}, s3: {address: 192.0.2.3}}\n";
const std::string hosts = "smarthosts: {h1: {address: \"h1.example.net:587\"}, h2: {address: \"h2.example.net:587\"}}\n";
const std::string pools = "pools: {a: {sources: [s1, s2], fallback: [h1, h2]}, b: {sources: [s3]}}\n";

TEST(Succession, KeepsTheIndicesOfWhatStays) {
  const auto first = load(three + hosts + pools);
  const auto second = load(
      "sources: {s0: {address: 192.0.2.9}, s3: {address: 192.0.2.3}, s2: {address: 192.0.2.2, weight: 5}, s1: {address: "
      "192.0.2.1}}\nsmarthosts: {h2: {address: \"h2.example.net:587\"}, h1: {address: \"h1.example.net:587\"}}\npools: {b: "
      "{sources: [s3]}, a: {sources: [s2, s0, s1], fallback: [h2, h1]}}\n");
  const auto merged = succeed(*first, *second);
  EXPECT_EQ(merged->version, first->version + 1);
  ASSERT_EQ(merged->topology.sources.size(), 4u);
  EXPECT_EQ(merged->topology.source_named("s1"), 0u);
  EXPECT_EQ(merged->topology.source_named("s2"), 1u);
  EXPECT_EQ(merged->topology.source_named("s3"), 2u);
  EXPECT_EQ(merged->topology.source_named("s0"), 3u);
  EXPECT_EQ(merged->topology.sources[1].weight, 5);
  EXPECT_EQ(merged->smarthost_named("h1"), 0u);
  EXPECT_EQ(merged->topology.smarthosts, (std::vector<std::string>{"h1", "h2"}));
  const auto& a = merged->topology.pools[*merged->pool_named("a")];
  EXPECT_EQ(a.sources, (std::vector<std::uint32_t>{1, 3, 0}));
  EXPECT_EQ(a.fallback, (std::vector<std::uint32_t>{1, 0}));
  EXPECT_EQ(merged->pool_named("a"), first->pool_named("a"));
  EXPECT_EQ(merged->classes[*merged->class_named("b")].pool, *merged->pool_named("b"));
}

TEST(Succession, LeavesAGravestoneForWhatIsGone) {
  const auto first = load(three + hosts + pools);
  const auto second =
      load("sources: {s1: {address: 192.0.2.1}, s3: {address: 192.0.2.3}}\npools: {a: {sources: [s1]}, b: {sources: [s3]}}\n");
  const auto merged = succeed(*first, *second);
  ASSERT_EQ(merged->topology.sources.size(), 3u);
  EXPECT_TRUE(merged->topology.sources[1].removed);
  EXPECT_FALSE(merged->topology.source_named("s2"));
  EXPECT_FALSE(merged->has({EgressKind::source, 1}));
  EXPECT_FALSE(merged->has({EgressKind::smarthost, 0}));
  EXPECT_TRUE(merged->has({EgressKind::source, 2}));
  EXPECT_EQ(merged->via.size(), 3u);
  // It comes back to its own place.
  const auto third = succeed(*merged, *load(three + hosts + pools));
  EXPECT_EQ(third->topology.source_named("s2"), 1u);
  EXPECT_EQ(third->smarthost_named("h2"), 1u);
  EXPECT_EQ(third->topology.sources.size(), 3u);
}

TEST(Succession, TakesAnotherAddressForAnotherSource) {
  const auto first = load(three + pools.substr(0, 0) + "pools: {a: {sources: [s1, s2]}, b: {sources: [s3]}}\n");
  const auto second = load(
      "sources: {s1: {address: 192.0.2.77}, s2: {address: 192.0.2.2}, s3: {address: 192.0.2.3}}\npools: {a: {sources: [s1, "
      "s2]}, b: {sources: [s3]}}\n");
  const auto merged = succeed(*first, *second);
  EXPECT_TRUE(merged->topology.sources[0].removed);
  EXPECT_EQ(merged->topology.source_named("s1"), 3u);
  EXPECT_EQ(merged->topology.pools[0].sources, (std::vector<std::uint32_t>{3, 1}));
}

TEST(Succession, GivesARemovedClassThePoolOfTheFirst) {
  const auto first = load(three + hosts + pools);
  Problems problems;
  const auto second = load_text(
      "hostname: relay.example.com\nlisteners: [{address: \"127.0.0.1:2525\"}]\nclasses: {b: {pool: b}}\nsources: {s3: {address: "
      "192.0.2.3}}\npools: {b: {sources: [s3]}}\n",
      "f", [](const std::string&) { return std::nullopt; }, problems);
  ASSERT_TRUE(second);
  const auto merged = succeed(*first, *second);
  const auto a = *first->class_named("a");
  EXPECT_TRUE(merged->classes[a].removed);
  EXPECT_FALSE(merged->class_named("a"));
  EXPECT_EQ(merged->classes[a].pool, *merged->pool_named("b"));
  EXPECT_EQ(merged->first_class(), *merged->class_named("b"));
  EXPECT_EQ(merged->listeners[0].message_class, *merged->class_named("b"));
  EXPECT_TRUE(merged->topology.pools[*first->pool_named("a")].removed);
  EXPECT_TRUE(merged->topology.pools[*first->pool_named("a")].sources.empty());
}

TEST(Succession, KeepsRoutesAtTheirPools) {
  const std::string route = "routes: [{domain: x.example, pool: b}]\n";
  const auto first = load(three + hosts + pools, route);
  const auto second = load(
      "sources: {s3: {address: 192.0.2.3}, s1: {address: 192.0.2.1}}\npools: {b: {sources: [s3]}, a: {sources: [s1]}}\n", route);
  const auto merged = succeed(*first, *second);
  EXPECT_EQ(merged->routes[0].pool, merged->pool_named("b"));
}

TEST(Succession, SaysWhatNeedsARestart) {
  const auto first = load(three + pools.substr(0, 0) + "pools: {a: {sources: [s1]}, b: {sources: [s3]}}\n");
  EXPECT_TRUE(needing_restart(*first, *first).empty());
  Config changed = *first;
  changed.threads = 7;
  changed.admin.address = "127.0.0.1:1";
  EXPECT_EQ(needing_restart(*first, changed), (std::vector<std::string>{"threads", "admin.address"}));
}

}  // namespace
}  // namespace egret::config
