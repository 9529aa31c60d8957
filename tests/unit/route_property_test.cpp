// What holds for every route, whatever happened to the sources, over random histories from fixed seeds.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "routing/route.hpp"
#include "tests/unit/standing_history.hpp"

namespace egret::routing {
namespace {

using namespace std::chrono_literals;

/// Six sources with a past, in two pools that share none, and three smarthosts.
struct Relay {
  explicit Relay(std::mt19937& random) {
    now = Time(500'000h);
    for (std::uint32_t i = 0; i < 6; ++i) {
      SourceInfo source;
      source.name = "out" + std::to_string(i);
      source.address = i % 3 == 2 ? *IpAddress::parse("2001:db8::" + std::to_string(i + 1))
                                  : IpAddress::v4(192, 0, 2, static_cast<std::uint8_t>(i + 1));
      source.weight = 1 + static_cast<double>(random() % 3);
      topology.sources.push_back(source);
    }
    worlds.resize(6);
    topology.smarthosts = {"ses", "mailgun", "other"};
    smarthosts.resize(3);
    static const std::vector<WhenExhausted> whens{WhenExhausted::fallback, WhenExhausted::hold, WhenExhausted::send_anyway};
    topology.pools = {{"main", {0, 1, 2, 3}, {0, 1}, whens[random() % 3]}, {"bulk", {4, 5}, {2}, whens[random() % 3]}};
    topology.returning = 1 + static_cast<int>(random() % 2);
  }

  /// Time passes, and something happens to one of the egresses.
  void live(std::mt19937& random) {
    now += Duration(random() % 900'000);
    for (auto& w : worlds) {
      w.now = now;
      w.fold(history::any(random));
      if (random() % 10 == 0) w.fold(SourceFault{"address cannot be used"});
      if (random() % 10 == 0) w.fold(SourceWorks{});
      w.fold(Tick{});
    }
    SmarthostState& host = smarthosts[random() % 3];
    if (random() % 3 == 0)
      smarthost_refused(host, "quota", now);
    else if (random() % 3 == 0)
      smarthost_delivered(host, now);
  }

  Snapshot snapshot() const {
    Snapshot out;
    for (const auto& w : worlds) {
      SourceSnapshot source{w.view(), {}};
      for (const auto& provider : history::providers) source.providers[provider] = w.view(provider);
      out.sources.push_back(std::move(source));
    }
    for (const auto& host : smarthosts) out.smarthosts.push_back({host.resting_until, host.reason});
    return out;
  }

  Request request(std::mt19937& random) const {
    Request out;
    out.pool = random() % 2;
    out.site = "mx.example.net";
    out.provider = history::any_provider(random);
    out.ipv4 = random() % 8 != 0;
    out.ipv6 = random() % 2 == 0;
    const PoolInfo& pool = topology.pools[out.pool];
    if (random() % 4 == 0)
      out.excluded.push_back({{EgressKind::source, pool.sources[random() % pool.sources.size()]}, "tried", {}});
    if (random() % 4 == 0) out.excluded.push_back({{EgressKind::smarthost, pool.fallback[0]}, "budget used up", now + 1h});
    if (random() % 6 == 0)
      out.only_source = pool.sources[random() % pool.sources.size()];
    else if (random() % 8 == 0)
      out.only_smarthost = pool.fallback[random() % pool.fallback.size()];
    out.no_fallback = random() % 8 == 0;
    return out;
  }

  std::vector<history::World> worlds;
  std::vector<SmarthostState> smarthosts;
  Topology topology;
  Time now;
};

/// Calls `check(relay, snapshot, request, route)` for many situations.
template <typename Check>
void for_many(Check check) {
  for (unsigned seed = 0; seed < 25; ++seed) {
    std::mt19937 random(seed);
    Relay relay(random);
    for (int i = 0; i < 60; ++i) {
      relay.live(random);
      const Snapshot snapshot = relay.snapshot();
      for (int k = 0; k < 4; ++k) {
        const Request request = relay.request(random);
        const std::uint64_t tie_break = random();
        SCOPED_TRACE("seed " + std::to_string(seed) + " step " + std::to_string(i));
        check(relay, snapshot, request, tie_break);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

Route routed(const Relay& relay, const Snapshot& snapshot, const Request& request, std::uint64_t tie_break) {
  return route(relay.topology, snapshot, request, relay.now, tie_break);
}

std::vector<EgressRef> candidates(const Route& route) {
  std::vector<EgressRef> out;
  for (const Candidate& c : route.candidates) out.push_back(c.egress);
  return out;
}

TEST(RouteHistories, ASourceOutOfServiceIsACandidateOnlyWhereThePoolSendsAnyway) {
  int anyway = 0, ordinary = 0;
  for_many([&](const Relay& relay, const Snapshot& snapshot, const Request& request, std::uint64_t tie_break) {
    const Route r = routed(relay, snapshot, request, tie_break);
    for (const Candidate& c : r.candidates) {
      if (c.egress.kind != EgressKind::source) continue;
      const StandingView& view = snapshot.sources[c.egress.index].with(request.provider);
      if (in_service(view.standing)) {
        ++ordinary;
        continue;
      }
      ++anyway;
      ASSERT_EQ(relay.topology.pools[request.pool].when_exhausted, WhenExhausted::send_anyway);
      ASSERT_NE(view.standing, Standing::drained);
      for (const Candidate& other : r.candidates)
        ASSERT_FALSE(other.egress.kind == EgressKind::source &&
                     in_service(snapshot.sources[other.egress.index].with(request.provider).standing));
    }
  });
  EXPECT_GT(anyway, 20);
  EXPECT_GT(ordinary, 1000);
}

TEST(RouteHistories, EveryEgressOfThePoolIsACandidateOrRejectedWithAReasonAndNoOtherIs) {
  for_many([](const Relay& relay, const Snapshot& snapshot, const Request& request, std::uint64_t tie_break) {
    const Route r = routed(relay, snapshot, request, tie_break);
    std::multiset<EgressRef> named, expected;
    for (const Candidate& c : r.candidates) named.insert(c.egress);
    for (const Rejected& rejected : r.rejected) {
      named.insert(rejected.egress);
      ASSERT_FALSE(rejected.reason.empty());
    }
    const PoolInfo& pool = relay.topology.pools[request.pool];
    for (const auto index : pool.sources) expected.insert({EgressKind::source, index});
    for (const auto index : pool.fallback) expected.insert({EgressKind::smarthost, index});
    ASSERT_EQ(named, expected) << explain(r, relay.topology);
  });
}

TEST(RouteHistories, SharesOfTheCandidatesAddUpToOneOrToNothing) {
  for_many([](const Relay& relay, const Snapshot& snapshot, const Request& request, std::uint64_t tie_break) {
    const Route r = routed(relay, snapshot, request, tie_break);
    double sum = 0;
    for (const Candidate& c : r.candidates) {
      ASSERT_GE(c.share, 0);
      sum += c.share;
    }
    ASSERT_TRUE(std::abs(sum - 1) < 1e-9 || sum == 0) << sum;
  });
}

TEST(RouteHistories, MailIsHeldWhereThereIsNoCandidateAndNowhereElse) {
  for_many([](const Relay& relay, const Snapshot& snapshot, const Request& request, std::uint64_t tie_break) {
    const Route r = routed(relay, snapshot, request, tie_break);
    ASSERT_EQ(r.hold.has_value(), r.candidates.empty());
    if (r.hold) ASSERT_FALSE(r.hold->reason.empty());
  });
}

TEST(RouteHistories, NoEndOfAnythingLiesInThePast) {
  for_many([](const Relay& relay, const Snapshot& snapshot, const Request& request, std::uint64_t tie_break) {
    // The snapshot may be a little old when the decision is made.
    for (const Duration late : {Duration(0), Duration(100), Duration(3'600'000)}) {
      const Route r = route(relay.topology, snapshot, request, relay.now + late, tie_break);
      for (const Rejected& rejected : r.rejected)
        if (rejected.until) ASSERT_GE(*rejected.until, relay.now + late) << rejected.reason;
      if (r.hold && r.hold->until) ASSERT_GE(*r.hold->until, relay.now + late);
    }
  });
}

TEST(RouteHistories, TheSameInputsGiveTheSameExplanation) {
  for_many([](const Relay& relay, const Snapshot& snapshot, const Request& request, std::uint64_t tie_break) {
    ASSERT_EQ(explain(routed(relay, snapshot, request, tie_break), relay.topology),
              explain(routed(relay, snapshot, request, tie_break), relay.topology));
  });
}

TEST(RouteHistories, OfThoseThatReturnNoMoreThanAllowedAreTried) {
  int trials = 0, waiting = 0;
  for_many([&](const Relay& relay, const Snapshot& snapshot, const Request& request, std::uint64_t tie_break) {
    const Route r = routed(relay, snapshot, request, tie_break);
    const auto returning = std::ranges::count_if(r.candidates, [&](const Candidate& c) {
      return c.egress.kind == EgressKind::source &&
             snapshot.sources[c.egress.index].with(request.provider).standing == Standing::trial;
    });
    trials += returning > 0;
    waiting += std::ranges::any_of(r.rejected, [](const Rejected& x) { return x.reason.starts_with("trial: waits its turn"); });
    ASSERT_LE(returning, relay.topology.returning);
  });
  EXPECT_GT(trials, 200);
  EXPECT_GT(waiting, 20);
}

TEST(RouteHistories, ATrialWhosePlaceIsTakenIsNoCandidate) {
  for_many([](const Relay& relay, const Snapshot& snapshot, const Request& request, std::uint64_t tie_break) {
    // As the dispatcher does: what the gate refuses is excluded, and the route asked for again.
    Request again = request;
    std::set<std::uint32_t> taken;
    for (int i = 0; i < 8; ++i) {
      const Route r = routed(relay, snapshot, again, tie_break);
      if (r.candidates.empty() || r.candidates.front().egress.kind != EgressKind::source) return;
      const std::uint32_t index = r.candidates.front().egress.index;
      if (snapshot.sources[index].with(request.provider).standing != Standing::trial) return;
      ASSERT_TRUE(taken.insert(index).second);
      ASSERT_LE(taken.size(), static_cast<std::size_t>(relay.topology.returning));
      again.excluded.push_back({{EgressKind::source, index}, "trial: another message is on its way", {}});
    }
    FAIL() << "no end";
  });
}

TEST(RouteHistories, ObservingChangesNoCandidate) {
  for_many([](const Relay& relay, const Snapshot& snapshot, const Request& request, std::uint64_t tie_break) {
    Topology observing = relay.topology;
    observing.observe = true;
    // But for what the operator ordered and what cannot work, all sources are as good as new.
    Snapshot clean = snapshot;
    for (auto& source : clean.sources)
      for (auto& [name, view] : source.providers) {
        const bool fault = view.standing == Standing::misconfigured && view.reason.starts_with("address ");
        if (view.standing == Standing::drained || fault) continue;
        view = {};
        view.standing = Standing::clean;
      }
    ASSERT_EQ(candidates(route(observing, snapshot, request, relay.now, tie_break)),
              candidates(route(observing, clean, request, relay.now, tie_break)));
  });
}

}  // namespace
}  // namespace egret::routing
