#include "routing/route.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace egret::routing {
namespace {

using namespace std::chrono_literals;

const Time now{std::chrono::hours(500'000)};

EgressRef src(std::uint32_t index) {
  return {EgressKind::source, index};
}
EgressRef host(std::uint32_t index) {
  return {EgressKind::smarthost, index};
}

StandingView standing(Standing s, std::optional<Time> until = {}, std::string reason = "because") {
  StandingView out;
  out.standing = s;
  out.until = until;
  out.reason = std::move(reason);
  out.share = in_service(s) ? 1.0 : 0.0;
  return out;
}

StandingView warming(double share) {
  StandingView out = standing(Standing::warming);
  out.share = share;
  return out;
}

/// A pool of sources out0, out1, ... with smarthosts ses, mailgun behind them.
class Scene {
 public:
  explicit Scene(std::uint32_t sources, WhenExhausted when = WhenExhausted::fallback) {
    PoolInfo pool;
    pool.name = "main";
    pool.when_exhausted = when;
    for (std::uint32_t i = 0; i < sources; ++i) {
      SourceInfo source;
      source.name = "out" + std::to_string(i);
      source.address = IpAddress::v4(192, 0, 2, static_cast<std::uint8_t>(i + 1));
      topology.sources.push_back(source);
      snapshot.sources.push_back({standing(Standing::clean), {}});
      pool.sources.push_back(i);
    }
    topology.smarthosts = {"ses", "mailgun"};
    snapshot.smarthosts.resize(2);
    pool.fallback = {0, 1};
    topology.pools.push_back(pool);
    request.site = "mx.example.net";
    request.provider = "example";
  }

  Scene& set(std::uint32_t source, StandingView view) {
    snapshot.sources[source].standing = std::move(view);
    return *this;
  }
  Route run(std::uint64_t tie_break = 1) const { return route(topology, snapshot, request, now, tie_break); }
  std::string explanation(std::uint64_t tie_break = 1) const { return explain(run(tie_break), topology); }
  /// How often each source is the first candidate, as a share of all draws.
  std::vector<double> first_shares(int draws = 20'000) const {
    std::vector<double> out(topology.sources.size());
    std::mt19937_64 random(17);
    for (int i = 0; i < draws; ++i) {
      const Route r = run(random());
      if (!r.candidates.empty() && r.candidates[0].egress.kind == EgressKind::source)
        out[r.candidates[0].egress.index] += 1.0 / draws;
    }
    return out;
  }

  Topology topology;
  Snapshot snapshot;
  Request request;
};

std::vector<EgressRef> candidates(const Route& r) {
  std::vector<EgressRef> out;
  for (const Candidate& c : r.candidates) out.push_back(c.egress);
  return out;
}

/// Why an egress was rejected; "-": it was not.
std::string why(const Route& r, EgressRef egress) {
  for (const Rejected& rejected : r.rejected)
    if (rejected.egress == egress) return rejected.reason;
  return "-";
}

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// ---- weights
// -----------------------------------------------------------------------------------------------------

TEST(RouteWeights, AreTheSharesOfTheFirstCandidates) {
  Scene s(3);
  s.topology.sources[1].weight = 2;
  s.topology.sources[2].weight = 5;
  const auto shares = s.first_shares();
  EXPECT_NEAR(shares[0], 1.0 / 8, 0.03);
  EXPECT_NEAR(shares[1], 2.0 / 8, 0.03);
  EXPECT_NEAR(shares[2], 5.0 / 8, 0.03);
}

TEST(RouteWeights, AreScaledByTheShareOfAReturningSource) {
  Scene s(2, WhenExhausted::hold);
  s.set(1, warming(0.25));
  EXPECT_NEAR(s.first_shares()[1], 0.25 / 1.25, 0.03);
}

TEST(RouteWeights, OfAnEjectedSourceGoToTheOthers) {
  Scene s(3);
  s.set(0, standing(Standing::listed));
  const auto shares = s.first_shares();
  EXPECT_EQ(shares[0], 0);
  EXPECT_NEAR(shares[1], 0.5, 0.03);
}

TEST(RouteWeights, AreTold) {
  Scene s(2);
  s.topology.sources[1].weight = 3;
  for (const Candidate& c : s.run().candidates) EXPECT_NEAR(c.share, c.egress.index == 0 ? 0.25 : 0.75, 1e-9);
}

TEST(RouteWeights, ASourceOfWeightZeroComesLast) {
  Scene s(2);
  s.topology.sources[0].weight = 0;
  for (std::uint64_t i = 0; i < 200; ++i) ASSERT_EQ(candidates(s.run(i)), (std::vector{src(1), src(0)}));
}

TEST(RouteWeights, NeighbouringTieBreaksDrawIndependently) {
  const Scene s(2);
  int first = 0;
  for (std::uint64_t i = 0; i < 20'000; ++i) first += s.run(i).candidates[0].egress.index == 0;
  EXPECT_NEAR(first / 20'000.0, 0.5, 0.03);
}

// ---- who may not
// -------------------------------------------------------------------------------------------------

TEST(Route, OffersEverySourceInService) {
  EXPECT_EQ(Scene(3).run().candidates.size(), 3u);
}

TEST(Route, NeedsNoSmarthostWhileASourceIsInService) {
  const Route r = Scene(1).run();
  EXPECT_EQ(candidates(r), std::vector{src(0)});
  EXPECT_TRUE(has(why(r, host(0)), "not needed"));
}

TEST(Route, RejectsEveryStandingThatIsOutWithItsReason) {
  for (const auto s : {Standing::listed, Standing::blocked, Standing::misconfigured, Standing::drained}) {
    Scene setup(2);
    const Route r = setup.set(0, standing(s, now + 1h, "the reason")).run();
    EXPECT_EQ(candidates(r), std::vector{src(1)});
    EXPECT_TRUE(has(why(r, src(0)), to_string(s)));
    EXPECT_TRUE(has(why(r, src(0)), "the reason"));
    EXPECT_EQ(r.rejected[0].until, now + 1h);
  }
}

TEST(Route, OffersEveryStandingThatIsIn) {
  for (const auto s : {Standing::clean, Standing::trial, Standing::warming, Standing::throttled, Standing::unknown})
    EXPECT_EQ(Scene(1).set(0, standing(s)).run().candidates.size(), 1u) << to_string(s);
}

TEST(Route, AsksForTheStandingWithTheProvider) {
  Scene s(2);
  s.snapshot.sources[0].providers["example"] = standing(Standing::blocked);
  EXPECT_EQ(candidates(s.run()), std::vector{src(1)});
  s.request.provider = "other";
  EXPECT_EQ(s.run().candidates.size(), 2u);
}

TEST(Route, KeepsToTheFamiliesOfTheSite) {
  Scene s(2);
  s.topology.sources[1].address = *IpAddress::parse("2001:db8::25");
  s.request.ipv6 = false;
  EXPECT_EQ(candidates(s.run()), std::vector{src(0)});
  EXPECT_TRUE(has(why(s.run(), src(1)), "IPv6"));
  s.request.ipv6 = true;
  s.request.ipv4 = false;
  EXPECT_EQ(candidates(s.run()), std::vector{src(1)});
  EXPECT_TRUE(has(why(s.run(), src(0)), "IPv4"));
}

TEST(Route, LeavesOutWhatTheMessageMayNotTake) {
  Scene s(2);
  s.request.excluded.push_back({src(0), "tried in this round", now + 5min});
  const Route r = s.run();
  EXPECT_EQ(candidates(r), std::vector{src(1)});
  EXPECT_EQ(why(r, src(0)), "tried in this round");
}

TEST(Route, UsesOnlyTheSourcesOfThePool) {
  Scene s(3);
  s.topology.pools[0].sources = {1};
  EXPECT_EQ(candidates(s.run()), std::vector{src(1)});
  EXPECT_EQ(why(s.run(), src(0)), "-");
}

// ---- exhausted pools
// ---------------------------------------------------------------------------------------------

Scene exhausted(WhenExhausted when) {
  Scene s(2, when);
  s.set(0, standing(Standing::listed)).set(1, standing(Standing::blocked, now + 2h));
  return s;
}

TEST(RouteExhausted, FallsBackToTheSmarthostsInOrder) {
  EXPECT_EQ(candidates(exhausted(WhenExhausted::fallback).run()), (std::vector{host(0), host(1)}));
  Scene s = exhausted(WhenExhausted::fallback);
  s.topology.pools[0].fallback = {1, 0};
  for (std::uint64_t i = 0; i < 100; ++i) ASSERT_EQ(candidates(s.run(i)), (std::vector{host(1), host(0)}));
}

TEST(RouteExhausted, PassesOverARestingSmarthost) {
  Scene s = exhausted(WhenExhausted::fallback);
  s.snapshot.smarthosts[0] = {now + 1min, "quota used up"};
  EXPECT_EQ(candidates(s.run()), std::vector{host(1)});
  EXPECT_TRUE(has(why(s.run(), host(0)), "quota used up"));
  s.snapshot.smarthosts[0].resting_until = now;
  EXPECT_EQ(s.run().candidates.size(), 2u);
}

TEST(RouteExhausted, PassesOverASmarthostWhoseBudgetIsUsedUp) {
  Scene s = exhausted(WhenExhausted::fallback);
  s.request.excluded.push_back({host(0), "its budget is used up", now + 5h});
  EXPECT_EQ(candidates(s.run()), std::vector{host(1)});
  EXPECT_EQ(why(s.run(), host(0)), "its budget is used up");
}

TEST(RouteExhausted, HoldsWhenTheSmarthostsAreOutToo) {
  Scene s = exhausted(WhenExhausted::fallback);
  s.snapshot.smarthosts[0] = s.snapshot.smarthosts[1] = {now + 1h, "paused"};
  const Route r = s.run();
  EXPECT_TRUE(r.candidates.empty());
  ASSERT_TRUE(r.hold);
  EXPECT_EQ(r.hold->until, now + 1h);
}

TEST(RouteExhausted, HoldsUntilTheEarliestChange) {
  Scene s(3, WhenExhausted::hold);
  s.set(0, standing(Standing::blocked, now + 3h))
      .set(1, standing(Standing::blocked, now + 2h))
      .set(2, standing(Standing::listed));
  ASSERT_TRUE(s.run().hold);
  EXPECT_EQ(s.run().hold->until, now + 2h);
}

TEST(RouteExhausted, HoldsWithoutATimeWhereNoneIsKnown) {
  Scene s(1, WhenExhausted::hold);
  ASSERT_TRUE(s.set(0, standing(Standing::listed)).run().hold);
  EXPECT_EQ(s.run().hold->until, std::nullopt);
}

TEST(RouteExhausted, HoldDoesNotFallBack) {
  const Route r = exhausted(WhenExhausted::hold).run();
  EXPECT_TRUE(r.hold);
  EXPECT_EQ(r.rejected.size(), 4u);
}

TEST(RouteExhausted, SendAnywaySends) {
  const Route r = exhausted(WhenExhausted::send_anyway).run();
  EXPECT_EQ(candidates(r), (std::vector{src(0), src(1)}));
  EXPECT_FALSE(r.hold);
}

TEST(RouteExhausted, SendAnywayDoesNotUseWhatWasDrainedOrCannotWork) {
  Scene s(4, WhenExhausted::send_anyway);
  s.set(0, standing(Standing::drained))
      .set(1, standing(Standing::misconfigured, {}, "address cannot be used"))
      .set(2, standing(Standing::listed));
  s.set(3, standing(Standing::listed));
  s.request.excluded.push_back({src(3), "tried in this round", {}});
  EXPECT_EQ(candidates(s.run()), std::vector{src(2)});
}

TEST(RouteExhausted, SendAnywayKeepsToTheFamiliesOfTheSite) {
  Scene s = exhausted(WhenExhausted::send_anyway);
  s.topology.sources[0].address = *IpAddress::parse("2001:db8::25");
  s.request.ipv6 = false;
  EXPECT_EQ(candidates(s.run()), std::vector{src(1)});
}

TEST(RouteExhausted, SendAnywayIsOnlyForAnExhaustedPool) {
  Scene s = exhausted(WhenExhausted::send_anyway);
  s.set(0, standing(Standing::clean));
  EXPECT_EQ(candidates(s.run()), std::vector{src(0)});
}

TEST(RouteExhausted, AMessageMayRefuseTheFallback) {
  Scene s = exhausted(WhenExhausted::fallback);
  s.request.no_fallback = true;
  EXPECT_TRUE(s.run().hold);
}

// ---- observing
// ---------------------------------------------------------------------------------------------------

TEST(RouteObserve, ChangesNothing) {
  Scene healthy(4), sick(4);
  sick.topology.observe = true;
  sick.set(0, standing(Standing::listed))
      .set(1, standing(Standing::blocked))
      .set(2, standing(Standing::misconfigured, {}, "policy listing"))
      .set(3, warming(0.1));
  std::mt19937_64 random(3);
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t tie_break = random();
    ASSERT_EQ(candidates(sick.run(tie_break)), candidates(healthy.run(tie_break)));
  }
}

TEST(RouteObserve, StillObeysTheOperatorsDrain) {
  Scene s(2);
  s.topology.observe = true;
  s.set(0, standing(Standing::drained));
  EXPECT_EQ(candidates(s.run()), std::vector{src(1)});
}

// ---- messages that keep to one egress
// ----------------------------------------------------------------------------

TEST(RouteOnly, KeepsToItsSource) {
  Scene s(3);
  s.request.only_source = 1;
  const Route r = s.run();
  EXPECT_EQ(candidates(r), std::vector{src(1)});
  EXPECT_TRUE(has(why(r, src(0)), "out1"));
}

TEST(RouteOnly, WaitsWhileItsSourceIsOut) {
  Scene s(2);
  s.request.only_source = 1;
  s.set(1, standing(Standing::blocked, now + 1h));
  const Route r = s.run();
  EXPECT_TRUE(r.candidates.empty());
  ASSERT_TRUE(r.hold);
  EXPECT_TRUE(has(r.hold->reason, "out1"));
  EXPECT_EQ(r.hold->until, now + 1h);
}

TEST(RouteOnly, IsNeverGivenToASmarthost) {
  Scene s(1);
  s.request.only_source = 0;
  s.set(0, warming(0.01));
  for (std::uint64_t i = 0; i < 500; ++i) ASSERT_EQ(candidates(s.run(i)), std::vector{src(0)});
}

TEST(RouteOnly, KeepsToItsSmarthost) {
  Scene s(2);
  s.request.only_smarthost = 1;
  EXPECT_EQ(candidates(s.run()), std::vector{host(1)});
  s.request.excluded.push_back({host(1), "its budget is used up", now + 1h});
  ASSERT_TRUE(s.run().hold);
  EXPECT_EQ(s.run().hold->until, now + 1h);
}

// ---- warm-up overflow
// --------------------------------------------------------------------------------------------

TEST(RouteOverflow, TheRestOfAReturningPoolsMailGoesToTheSmarthosts) {
  Scene s(1);
  s.set(0, warming(0.25));
  EXPECT_NEAR(s.first_shares()[0], 0.25, 0.03);
}

TEST(RouteOverflow, KeepsTheSourcesBehindTheSmarthosts) {
  Scene s(1);
  s.set(0, warming(0.01));
  for (std::uint64_t i = 0; i < 300; ++i) {
    const auto refs = candidates(s.run(i));
    ASSERT_TRUE(refs == std::vector{src(0)} || refs == (std::vector{host(0), host(1), src(0)}));
  }
}

TEST(RouteOverflow, DoesNotHappenWhileOneSourceHasItsFullShare) {
  Scene s(2);
  s.set(0, warming(0.1));
  const auto shares = s.first_shares();
  EXPECT_NEAR(shares[0] + shares[1], 1.0, 1e-9);
}

TEST(RouteOverflow, NeedsAPoolThatFallsBack) {
  Scene s(1, WhenExhausted::hold);
  s.set(0, warming(0.1));
  EXPECT_NEAR(s.first_shares(1000)[0], 1.0, 1e-9);
}

TEST(RouteOverflow, DoesNotHoldWhenTheSmarthostsAreOut) {
  Scene s(1);
  s.set(0, warming(0.1));
  s.snapshot.smarthosts[0] = s.snapshot.smarthosts[1] = {now + 1h, "paused"};
  EXPECT_NEAR(s.first_shares(1000)[0], 1.0, 1e-9);
}

// ---- the explanation
// ---------------------------------------------------------------------------------------------

TEST(RouteExplanation, NamesTheChosenAndTheRejected) {
  Scene s(2);
  s.set(1, standing(Standing::listed, {}, "listed by zen 127.0.0.2"));
  const std::string text = s.explanation();
  EXPECT_TRUE(text.starts_with("out0"));
  EXPECT_TRUE(has(text, "; not out1: "));
  EXPECT_TRUE(has(text, "zen 127.0.0.2"));
}

TEST(RouteExplanation, OfAHoldSaysUntilWhen) {
  const std::string text = exhausted(WhenExhausted::hold).explanation();
  EXPECT_TRUE(text.starts_with("hold: "));
  EXPECT_TRUE(has(text, to_rfc3339(now + 2h)));
}

// ---- properties over random snapshots
// ----------------------------------------------------------------------------

constexpr Standing every_standing[] = {Standing::clean,         Standing::trial,   Standing::warming,
                                       Standing::throttled,     Standing::blocked, Standing::listed,
                                       Standing::misconfigured, Standing::drained, Standing::unknown};

StandingView random_view(std::mt19937& random) {
  StandingView out = standing(every_standing[random() % std::size(every_standing)]);
  if (random() % 2) out.until = now + Duration(random() % 10'000'000);
  if (out.standing == Standing::trial || out.standing == Standing::warming)
    out.share = 0.1 + 0.1 * static_cast<double>(random() % 9);
  if (out.standing == Standing::misconfigured && random() % 2) out.reason = "address cannot be used";
  return out;
}

Scene random_setup(std::mt19937& random) {
  Scene s(1 + random() % 6, static_cast<WhenExhausted>(random() % 3));
  for (std::uint32_t i = 0; i < s.topology.sources.size(); ++i) {
    s.set(i, random_view(random));
    if (random() % 3 == 0) s.snapshot.sources[i].providers["example"] = random_view(random);
    if (random() % 3 == 0) s.topology.sources[i].address = *IpAddress::parse("2001:db8::25");
    s.topology.sources[i].weight = static_cast<double>(random() % 4);
    if (random() % 5 == 0) s.request.excluded.push_back({src(i), "tried in this round", {}});
  }
  for (std::uint32_t i = 0; i < 2; ++i) {
    if (random() % 3 == 0) s.snapshot.smarthosts[i] = {now + Duration(static_cast<int>(random() % 2000) - 1000), "paused"};
    if (random() % 5 == 0) s.request.excluded.push_back({host(i), "its budget is used up", now + 1h});
  }
  s.request.ipv4 = random() % 5 != 0;
  s.request.ipv6 = random() % 3 != 0;
  s.request.no_fallback = random() % 8 == 0;
  s.topology.observe = random() % 5 == 0;
  return s;
}

constexpr int rounds = 20'000;

TEST(RouteProperty, NoEjectedSourceWhileEnforcingUnlessSentAnyway) {
  std::mt19937 random(1);
  for (int i = 0; i < rounds; ++i) {
    const Scene s = random_setup(random);
    if (s.topology.observe || s.topology.pools[0].when_exhausted == WhenExhausted::send_anyway) continue;
    for (const EgressRef egress : candidates(s.run(random())))
      if (egress.kind == EgressKind::source) ASSERT_TRUE(in_service(s.snapshot.sources[egress.index].with("example").standing));
  }
}

TEST(RouteProperty, SendAnywayNeverPrefersAnEjectedSource) {
  std::mt19937 random(2);
  for (int i = 0; i < rounds; ++i) {
    const Scene s = random_setup(random);
    if (s.topology.observe) continue;
    bool in = false, out = false;
    for (const EgressRef egress : candidates(s.run(random())))
      if (egress.kind == EgressKind::source)
        (in_service(s.snapshot.sources[egress.index].with("example").standing) ? in : out) = true;
    ASSERT_FALSE(in && out);
  }
}

TEST(RouteProperty, ADrainedSourceIsNeverUsed) {
  std::mt19937 random(3);
  for (int i = 0; i < rounds; ++i) {
    const Scene s = random_setup(random);
    for (const EgressRef egress : candidates(s.run(random())))
      if (egress.kind == EgressKind::source)
        ASSERT_NE(s.snapshot.sources[egress.index].with("example").standing, Standing::drained);
  }
}

TEST(RouteProperty, EveryEgressOfThePoolIsCandidateOrRejectedExactlyOnce) {
  std::mt19937 random(4);
  for (int i = 0; i < rounds; ++i) {
    const Scene s = random_setup(random);
    const Route r = s.run(random());
    std::vector<EgressRef> all = candidates(r), expected;
    for (const Rejected& rejected : r.rejected) all.push_back(rejected.egress);
    for (const auto index : s.topology.pools[0].sources) expected.push_back(src(index));
    for (const auto index : s.topology.pools[0].fallback) expected.push_back(host(index));
    std::ranges::sort(all);
    ASSERT_EQ(all, expected) << explain(r, s.topology);
  }
}

TEST(RouteProperty, WhatIsExcludedIsNeverACandidate) {
  std::mt19937 random(5);
  for (int i = 0; i < rounds; ++i) {
    const Scene s = random_setup(random);
    const auto refs = candidates(s.run(random()));
    for (const Excluded& excluded : s.request.excluded) ASSERT_EQ(std::ranges::count(refs, excluded.egress), 0);
  }
}

TEST(RouteProperty, HoldsExactlyWhenThereIsNoCandidate) {
  std::mt19937 random(6);
  for (int i = 0; i < rounds; ++i) {
    const Route r = random_setup(random).run(random());
    ASSERT_EQ(r.candidates.empty(), r.hold.has_value());
  }
}

TEST(RouteProperty, ASmarthostIsUsedOnlyWherePoolAndMessageAllow) {
  std::mt19937 random(7);
  for (int i = 0; i < rounds; ++i) {
    const Scene s = random_setup(random);
    if (s.topology.pools[0].when_exhausted == WhenExhausted::fallback && !s.request.no_fallback) continue;
    for (const EgressRef egress : candidates(s.run(random()))) ASSERT_EQ(egress.kind, EgressKind::source);
  }
}

TEST(RouteProperty, EveryRejectionHasAReason) {
  std::mt19937 random(8);
  for (int i = 0; i < rounds; ++i)
    for (const Rejected& rejected : random_setup(random).run(random()).rejected) ASSERT_FALSE(rejected.reason.empty());
}

TEST(RouteProperty, SharesOfSourcesAddUpToOne) {
  std::mt19937 random(9);
  for (int i = 0; i < rounds; ++i) {
    double sum = 0;
    for (const Candidate& c : random_setup(random).run(random()).candidates) {
      ASSERT_TRUE(c.share >= 0 && c.share <= 1);
      if (c.egress.kind == EgressKind::source) sum += c.share;
    }
    ASSERT_TRUE(sum < 1e-9 || std::abs(sum - 1) < 1e-9) << sum;
  }
}

TEST(RouteProperty, TheSameInputsGiveTheSameExplanation) {
  for (unsigned seed = 0; seed < 2000; ++seed) {
    std::mt19937 first(seed), second(seed);
    const Scene a = random_setup(first), b = random_setup(second);
    ASSERT_EQ(a.explanation(seed), b.explanation(seed));
    ASSERT_EQ(a.explanation(seed), a.explanation(seed));
  }
}

// ---- returning
// --------------------------------------------------------------------------------------------------

StandingView trial(Duration since) {
  StandingView out = standing(Standing::trial);
  out.share = 0.1;
  out.since = now - since;
  return out;
}

TEST(RouteReturning, OneSourceOfAPoolAtATimeTheLongestOnTrialFirst) {
  Scene s(3, WhenExhausted::hold);
  s.set(0, trial(1min)).set(1, trial(3min)).set(2, trial(2min));
  EXPECT_EQ(candidates(s.run()), std::vector{src(1)});
  EXPECT_EQ(why(s.run(), src(0)), "trial: waits its turn, out1 returns first");
}

TEST(RouteReturning, AsManyAsTheConfigurationSays) {
  Scene s(3, WhenExhausted::hold);
  s.topology.returning = 2;
  s.set(0, trial(1min)).set(1, trial(3min)).set(2, trial(2min));
  EXPECT_EQ(why(s.run(), src(1)), "-");
  EXPECT_EQ(why(s.run(), src(2)), "-");
  EXPECT_NE(why(s.run(), src(0)), "-");
}

TEST(RouteReturning, TheOthersWaitAlsoWhileTheFirstIsBusy) {
  Scene s(2, WhenExhausted::hold);
  s.set(0, trial(2min)).set(1, trial(1min));
  s.request.excluded = {{src(0), "trial: another message is on its way", {}}};
  EXPECT_TRUE(s.run().hold);
  EXPECT_TRUE(has(why(s.run(), src(1)), "waits its turn"));
}

TEST(RouteReturning, ASourceThatCannotReachTheSiteHoldsNoPlace) {
  Scene s(2, WhenExhausted::hold);
  s.topology.sources[0].address = *IpAddress::parse("2001:db8::1");
  s.set(0, trial(2min)).set(1, trial(1min));
  s.request.ipv6 = false;
  EXPECT_EQ(candidates(s.run()), std::vector{src(1)});
}

TEST(RouteReturning, ASourceThatWaitsForItsCapHoldsNoPlace) {
  Scene s(2, WhenExhausted::hold);
  s.set(0, trial(2min)).set(1, trial(1min));
  s.request.excluded = {{src(0), "warm-up: 10 recipients an hour are used up", now + 30min}};
  EXPECT_EQ(candidates(s.run()), std::vector{src(1)});
}

TEST(RouteReturning, AMessageThatKeepsToItsSourceNeedsNoTurn) {
  Scene s(2, WhenExhausted::hold);
  s.set(0, trial(2min)).set(1, trial(1min));
  s.request.only_source = 1;
  EXPECT_EQ(candidates(s.run()), std::vector{src(1)});
}

TEST(RouteReturning, ObservingLetsEverybodyReturn) {
  Scene s(2, WhenExhausted::hold);
  s.topology.observe = true;
  s.set(0, trial(2min)).set(1, trial(1min));
  EXPECT_EQ(candidates(s.run()).size(), 2u);
}

TEST(RouteUntil, WhatShouldHaveEndedEndsNow) {
  Scene s(1, WhenExhausted::hold);
  s.set(0, standing(Standing::blocked, now - 1s));
  const Route r = s.run();
  EXPECT_EQ(r.rejected.at(0).until, now);
  EXPECT_EQ(r.hold->until, now);
}

}  // namespace
}  // namespace egret::routing
