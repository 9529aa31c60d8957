// What route() makes of domains that are not ready at a smarthost, and of canaries.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "routing/route.hpp"

namespace egret::routing {
namespace {

using namespace std::chrono_literals;

const Time now{std::chrono::hours(500'000)};
const EgressRef ses{EgressKind::smarthost, 0}, mailgun{EgressKind::smarthost, 1};

/// Two sources and two smarthosts; example.com is not ready at ses.
struct Scene {
  Scene() {
    PoolInfo pool;
    pool.name = "main";
    pool.when_exhausted = WhenExhausted::fallback;
    for (std::uint32_t i = 0; i < 2; ++i) {
      SourceInfo source;
      source.name = "out" + std::to_string(i);
      source.address = IpAddress::v4(192, 0, 2, static_cast<std::uint8_t>(i + 1));
      topology.sources.push_back(source);
      SourceSnapshot& with = snapshot.sources.emplace_back();
      with.standing.standing = Standing::clean;
      with.standing.share = 1;
      pool.sources.push_back(i);
    }
    topology.smarthosts = {"ses", "mailgun"};
    snapshot.smarthosts.resize(2);
    auto unready = std::make_shared<RefusedSenders>();
    (*unready)["example.com"] = {"no DKIM record at s1._domainkey.example.com", Time::max()};
    snapshot.smarthosts[0].unready = unready;
    pool.fallback = {0, 1};
    topology.pools.push_back(pool);
    request.provider = "example";
    request.sender = "example.com";
  }
  Scene& sources_out() {
    for (auto& source : snapshot.sources) {
      source.standing.standing = Standing::listed;
      source.standing.share = 0;
    }
    return *this;
  }
  Route run(std::uint64_t tie_break = 1) const { return route(topology, snapshot, request, now, tie_break); }

  Topology topology;
  Snapshot snapshot;
  Request request;
};

std::vector<EgressRef> candidates(const Route& r) {
  std::vector<EgressRef> out;
  for (const Candidate& c : r.candidates) out.push_back(c.egress);
  return out;
}

/// How many of `draws` messages are canaries of each smarthost.
std::vector<int> canaries(const Scene& s, int draws) {
  std::vector<int> out(2);
  std::mt19937_64 random(17);
  for (int i = 0; i < draws; ++i)
    if (const Route r = s.run(random()); r.canary) ++out[r.candidates.at(0).egress.index];
  return out;
}

TEST(RouteUnready, ADomainThatIsNotReadyTakesTheNextSmarthost) {
  Scene s;
  const Route r = s.sources_out().run();
  EXPECT_EQ(candidates(r), std::vector{mailgun});
  EXPECT_NE(explain(r, s.topology).find("not ses: example.com is not ready at ses: no DKIM record at s1._domainkey.example.com"),
            std::string::npos);
}

TEST(RouteUnready, WithoutAnotherWayItIsHeldForThatReason) {
  Scene s;
  s.topology.pools[0].fallback = {0};
  const Route r = s.sources_out().run();
  ASSERT_TRUE(r.hold);
  EXPECT_EQ(r.hold->reason,
            "no egress of pool main is available: example.com is not ready at ses: no DKIM record at s1._domainkey.example.com");
  EXPECT_FALSE(r.hold->until);
}

TEST(RouteUnready, OtherDomainsAndUnknownSendersGo) {
  Scene s;
  s.sources_out().request.sender = "example.org";
  EXPECT_EQ(candidates(s.run()), (std::vector{ses, mailgun}));
  s.request.sender.reset();
  EXPECT_EQ(candidates(s.run()), (std::vector{ses, mailgun}));
}

TEST(RouteUnready, WhatIsAllowedGoesAndTheExplanationSaysSo) {
  Scene s;
  s.sources_out().snapshot.smarthosts[0].unready_allowed = true;
  const Route r = s.run();
  EXPECT_EQ(candidates(r), (std::vector{ses, mailgun}));
  EXPECT_NE(explain(r, s.topology).find("example.com is not ready at ses: no DKIM record"), std::string::npos);
  EXPECT_EQ(find_barred(s.snapshot.smarthosts[0], "example.com", now), nullptr);
}

TEST(RouteUnready, AMessageThatKeepsToTheSmarthostWaits) {
  Scene s;
  s.request.only_smarthost = 0;
  EXPECT_TRUE(s.run().hold);
  EXPECT_NE(find_barred(s.snapshot.smarthosts[0], "example.com", now), nullptr);
}

TEST(RouteCanary, EachSmarthostGetsItsShareAndTheSourcesFollow) {
  Scene s;
  s.request.sender = "example.org";
  s.topology.pools[0].canary = 0.1;
  const auto got = canaries(s, 20'000);
  EXPECT_NEAR(got[0], 2000, 150);
  EXPECT_NEAR(got[1], 2000, 150);
  for (std::uint64_t draw = 0;; ++draw) {
    const Route r = s.run(draw);
    if (!r.canary) continue;
    ASSERT_EQ(r.candidates.size(), 3u);
    EXPECT_EQ(r.candidates[0].egress.kind, EgressKind::smarthost);
    EXPECT_EQ(r.candidates[1].egress.kind, EgressKind::source);
    EXPECT_NE(explain(r, s.topology).find("canary"), std::string::npos);
    break;
  }
}

TEST(RouteCanary, TheSameInputsGiveTheSameAnswer) {
  Scene s;
  s.topology.pools[0].canary = 0.3;
  for (std::uint64_t draw = 0; draw < 100; ++draw) EXPECT_EQ(explain(s.run(draw), s.topology), explain(s.run(draw), s.topology));
}

TEST(RouteCanary, TheOrderOfTheSourcesIsTheSameWithAndWithoutIt) {
  Scene plain, with;
  with.topology.pools[0].canary = 0.5;
  for (std::uint64_t draw = 0; draw < 200; ++draw) {
    auto order = candidates(with.run(draw));
    std::erase_if(order, [](EgressRef e) { return e.kind == EgressKind::smarthost; });
    EXPECT_EQ(order, candidates(plain.run(draw)));
  }
}

TEST(RouteCanary, NoneWhereTheSmarthostRestsIsExcludedOrNotReady) {
  Scene s;
  s.topology.pools[0].canary = 0.5;
  s.snapshot.smarthosts[1].resting_until = now + 1min;
  EXPECT_EQ(canaries(s, 500), (std::vector{0, 0}));  // not ready at the one, the other rests
  s.request.sender = "example.org";
  EXPECT_GT(canaries(s, 500)[0], 0);
  s.request.excluded = {{ses, "budget used up", {}}};
  EXPECT_EQ(canaries(s, 500), (std::vector{0, 0}));
  s.request.excluded.clear();
  s.request.sender = "example.com";
  s.snapshot.smarthosts[0].unready_allowed = true;
  EXPECT_EQ(canaries(s, 500), (std::vector{0, 0}));  // allowed where it must be, which is not here
}

TEST(RouteCanary, NoneForReportsUnknownSendersAndMessagesThatKeepToASource) {
  Scene s;
  s.topology.pools[0].canary = 0.5;
  s.request.sender = "";
  EXPECT_EQ(canaries(s, 500), (std::vector{0, 0}));
  s.request.sender.reset();
  EXPECT_EQ(canaries(s, 500), (std::vector{0, 0}));
  s.request.sender = "example.org";
  s.request.only_source = 1;
  EXPECT_EQ(canaries(s, 500), (std::vector{0, 0}));
  s.request.only_source.reset();
  s.request.no_fallback = true;
  EXPECT_EQ(canaries(s, 500), (std::vector{0, 0}));
}

TEST(RouteCanary, WithTheSourcesOutItIsNoCanaryButFailover) {
  Scene s;
  s.topology.pools[0].canary = 0.5;
  s.sources_out().request.sender = "example.org";
  EXPECT_EQ(canaries(s, 500), (std::vector{0, 0}));
  EXPECT_EQ(candidates(s.run()), (std::vector{ses, mailgun}));
}

}  // namespace
}  // namespace egret::routing
