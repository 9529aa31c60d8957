// What holds for standings whatever happens to a source, over random histories from fixed seeds.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/standing_history.hpp"

namespace egret::routing {
namespace {

using namespace std::chrono_literals;
using history::World;
using Result = Judgement::Result;

constexpr unsigned seeds = 60;

std::vector<std::string> with_everybody() {
  std::vector<std::string> out = history::providers;
  out.emplace_back();
  return out;
}

TEST(StandingHistories, NoUnknownAnswerChangesAnyStanding) {
  for (unsigned seed = 0; seed < seeds; ++seed) {
    std::mt19937 random(seed);
    World w;
    for (int i = 0; i < 60; ++i) {
      w.live(random, 1);
      const std::string before = w.picture();
      for (const auto& [name, list] : w.lists) EXPECT_TRUE(w.fold(history::checked(name, Result::unknown)).empty());
      ASSERT_EQ(w.picture(), before) << seed;
    }
  }
}

TEST(StandingHistories, OnceTimeHasPassedNoEndLiesBehind) {
  for (unsigned seed = 0; seed < seeds; ++seed) {
    std::mt19937 random(seed);
    World w;
    for (int i = 0; i < 80; ++i) {
      w.live(random, 1);
      w.fold(Tick{});
      for (const auto& provider : with_everybody())
        if (const auto until = w.view(provider).until) ASSERT_GT(*until, w.now) << seed << " " << w.picture();
    }
  }
}

TEST(StandingHistories, ASecondTickAtTheSameTimeDoesNothing) {
  for (unsigned seed = 0; seed < seeds; ++seed) {
    std::mt19937 random(seed);
    World w;
    for (int i = 0; i < 80; ++i) {
      w.live(random, 1);
      w.fold(Tick{});
      ASSERT_FALSE(due(w.state, w.context(), w.now)) << seed;
      ASSERT_TRUE(w.fold(Tick{}).empty()) << seed;
    }
  }
}

TEST(StandingHistories, WhatIsListedDoesNotReturnByTime) {
  int seen = 0;
  for (unsigned seed = 0; seed < seeds; ++seed) {
    std::mt19937 random(seed);
    World w;
    w.live(random, 60);
    for (const auto& provider : with_everybody()) {
      const Standing standing = w.view(provider).standing;
      if (standing != Standing::listed && standing != Standing::misconfigured) continue;
      if (w.view(provider).until) continue;  // a receiver's word on PTR or EHLO: that is a block, with an end
      ++seen;
      World later = w;
      for (int i = 0; i < 50; ++i) {
        later.now += 24h;
        later.fold(Tick{});
        later.fold(Delivered{provider});
        ASSERT_EQ(later.view(provider).standing, standing) << seed;
        ASSERT_EQ(later.view(provider).until, std::nullopt);
      }
    }
  }
  EXPECT_GT(seen, 20);
}

TEST(StandingHistories, NumbersStayInTheirBounds) {
  for (unsigned seed = 0; seed < seeds; ++seed) {
    std::mt19937 random(seed);
    World w;
    for (int i = 0; i < 80; ++i) {
      w.live(random, 1);
      for (const auto& provider : with_everybody()) {
        const StandingView v = w.view(provider);
        ASSERT_EQ(v.share > 0, in_service(v.standing));
        ASSERT_LE(v.share, 1.0);
        ASSERT_GE(v.throttle, 1.0 / 16);
        ASSERT_LE(v.throttle, 1.0);
        ASSERT_EQ(v.since != Time{}, v.standing == Standing::trial);
      }
      for (const auto& [name, p] : w.state.providers) {
        ASSERT_GE(p.strikes, 0);
        ASSERT_LE(p.blocks.size(), 4u);
        if (p.blocked_until) ASSERT_LE(*p.blocked_until - p.last_block, w.policy.cooldown_max * 11 / 10);
      }
    }
  }
}

TEST(StandingHistories, WhatOnlyObservesChangesNothing) {
  for (unsigned seed = 0; seed < seeds; ++seed) {
    std::mt19937 random(seed);
    World with, without;
    with.lists["dream"] = without.lists["dream"] = history::list(5);
    with.lists["dream"].observe = without.lists["dream"].observe = true;
    with.fold(history::checked("half", Result::clean));
    without.fold(history::checked("half", Result::clean));
    for (int i = 0; i < 60; ++i) {
      with.pass(random);
      without.now = with.now;
      const Evidence evidence = history::any(random);
      with.fold(evidence);
      without.fold(evidence);
      Refused refused = history::any_refusal(random);
      refused.observe = true;
      for (const auto& t : with.fold(refused)) ASSERT_TRUE(t.observed);
      const auto result = random() % 3 ? Result::listed : Result::clean;
      for (const auto& t : with.fold(history::checked("dream", result, random() % 4 == 0))) ASSERT_TRUE(t.observed);
      ASSERT_EQ(with.picture(), without.picture()) << seed;
    }
  }
}

TEST(StandingHistories, EveryChangeIsToldOnceAndTruly) {
  for (unsigned seed = 0; seed < seeds; ++seed) {
    std::mt19937 random(seed);
    World w;
    for (int i = 0; i < 80; ++i) {
      w.pass(random);
      std::map<std::string, Standing> before;
      for (const auto& provider : with_everybody()) before[provider] = w.view(provider).standing;
      const auto told = w.fold(history::any(random));
      for (const auto& provider : with_everybody()) {
        const Standing now = w.view(provider).standing;
        const auto about = [&](const Transition& t) { return t.provider == provider && !t.observed; };
        ASSERT_LE(std::ranges::count_if(told, about), 1);
        const auto it = std::ranges::find_if(told, about);
        if (it != told.end()) {
          ASSERT_EQ(it->from, before[provider]);
          ASSERT_EQ(it->to, now);
        } else if (now != before[provider]) {
          ASSERT_TRUE(std::ranges::any_of(told, [&](const Transition& t) { return t.provider.empty() && t.to == now; })) << seed;
        }
      }
    }
  }
}

TEST(StandingHistories, WithEveryMessageWithdrawnNoBlockIsLeft) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    World w;
    w.fold(history::checked("zen", Result::clean));
    // Few enough that all of it is remembered: at most four blocks for a provider, at most eight messages for a block.
    for (int i = 0; i < 4; ++i) {
      Refused refused = history::any_refusal(random);
      refused.label = random() % 3 ? Label::ip_blocked : Label::ip_config;
      refused.message = 1 + random() % 8;
      w.fold(refused);
      w.now += Duration(random() % 1'200'000);
      if (random() % 2) w.fold(Tick{});
      for (unsigned n = random() % 4; n > 0; --n) w.fold(Delivered{refused.provider});
    }
    std::vector<std::uint64_t> messages{1, 2, 3, 4, 5, 6, 7, 8};
    std::ranges::shuffle(messages, random);
    for (const auto& provider : history::providers)
      for (const auto message : messages) w.fold(Withdrawn{provider, message});
    for (const auto& provider : history::providers) {
      ASSERT_EQ(w.view(provider).standing, Standing::clean) << seed << " " << w.picture();
      if (w.state.providers.contains(provider)) ASSERT_EQ(w.state.providers[provider].strikes, 0) << seed;
    }
    ASSERT_TRUE(w.state.vouched.empty());
  }
}

TEST(StandingHistories, WithdrawingAMessageThatWasNeverSeenChangesNothing) {
  for (unsigned seed = 0; seed < seeds; ++seed) {
    std::mt19937 random(seed);
    World w;
    w.live(random, 40);
    w.fold(Tick{});
    const std::string before = w.picture();
    for (const auto& provider : history::providers) {
      EXPECT_TRUE(w.fold(Withdrawn{provider, 99}).empty());
      EXPECT_TRUE(w.fold(Withdrawn{provider, 0}).empty());
    }
    ASSERT_EQ(w.picture(), before);
  }
}

}  // namespace
}  // namespace egret::routing
