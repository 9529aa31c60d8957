#include <gtest/gtest.h>

#include <random>

#include "relay/state/state.hpp"
#include "tests/unit/standing_history.hpp"

namespace egret::relay {
namespace {

using routing::Ramp;
using routing::SourceState;
using routing::Time;

Time at(std::int64_t ms) {
  return Time(routing::Duration(ms));
}

SourceState full_state() {
  SourceState s;
  s.listings["zen"] = {{"127.0.0.2", "127.0.0.10"}, "see \"https://x\" \\ \xc3\xbc", at(1), at(2), true, true, 3, 4, at(5)};
  s.listings["spamcop"] = {{"127.0.0.2"}, "", at(6), at(7), false, false, 1, 0, std::nullopt};
  const routing::Block block{{{UINT64_MAX, at(21), 0.125, true}, {0, at(22), 0, false}},
                             true,
                             3,
                             at(23),
                             at(24),
                             "before",
                             {Ramp::Phase::warming, 1, at(25), 2}};
  s.providers["google"] = {at(8),  true, 9,      at(10), "550 5.7.1 blocked", {Ramp::Phase::warming, 2, at(11), 12}, 0.25,
                           at(13), true, at(16), at(17), {block, {}}};
  s.providers["mx.example.net"] = {};
  s.listings["zen"].on_word = true;
  s.vouched = {{"zen", "google", UINT64_MAX, at(14)}, {"zen", "yahoo", 0, at(18)}};
  s.ramp = {Ramp::Phase::trial, 1, at(15), 2};
  s.checked = true;
  s.drained = true;
  return s;
}

SourceState round_trip(const SourceState& state) {
  const auto out = decode_state(encode_state(state));
  EXPECT_TRUE(out);
  return out.value_or(SourceState{});
}

void expect_equal(const Ramp& a, const Ramp& b) {
  EXPECT_EQ(a.phase, b.phase);
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.since, b.since);
  EXPECT_EQ(a.successes, b.successes);
}

TEST(StateCodec, KeepsListings) {
  const SourceState in = full_state(), out = round_trip(in);
  ASSERT_EQ(out.listings.size(), 2u);
  for (const auto& [name, listing] : in.listings) {
    const auto& other = out.listings.at(name);
    EXPECT_EQ(other.codes, listing.codes);
    EXPECT_EQ(other.text, listing.text);
    EXPECT_EQ(other.first_seen, listing.first_seen);
    EXPECT_EQ(other.last_seen, listing.last_seen);
    EXPECT_EQ(other.policy, listing.policy);
    EXPECT_EQ(other.confirmed, listing.confirmed);
    EXPECT_EQ(other.listed_in_a_row, listing.listed_in_a_row);
    EXPECT_EQ(other.clean_in_a_row, listing.clean_in_a_row);
    EXPECT_EQ(other.clean_since, listing.clean_since);
    EXPECT_EQ(other.on_word, listing.on_word);
  }
}

TEST(StateCodec, KeepsWhatIsParticularToAProvider) {
  const SourceState in = full_state(), out = round_trip(in);
  ASSERT_EQ(out.providers.size(), 2u);
  for (const auto& [name, provider] : in.providers) {
    const auto& other = out.providers.at(name);
    EXPECT_EQ(other.blocked_until, provider.blocked_until);
    EXPECT_EQ(other.config_fault, provider.config_fault);
    EXPECT_EQ(other.strikes, provider.strikes);
    EXPECT_EQ(other.last_block, provider.last_block);
    EXPECT_EQ(other.reason, provider.reason);
    expect_equal(other.ramp, provider.ramp);
    EXPECT_EQ(other.throttle, provider.throttle);
    EXPECT_EQ(other.throttled_at, provider.throttled_at);
    EXPECT_EQ(other.drained, provider.drained);
    EXPECT_EQ(other.calm_since, provider.calm_since);
    EXPECT_EQ(other.observed_until, provider.observed_until);
    ASSERT_EQ(other.blocks.size(), provider.blocks.size());
    for (std::size_t i = 0; i < provider.blocks.size(); ++i) {
      const auto &b = provider.blocks[i], &o = other.blocks[i];
      EXPECT_EQ(o.refusals, b.refusals);
      EXPECT_EQ(o.firm, b.firm);
      EXPECT_EQ(o.strikes, b.strikes);
      EXPECT_EQ(o.last_block, b.last_block);
      EXPECT_EQ(o.calm_since, b.calm_since);
      EXPECT_EQ(o.reason, b.reason);
      expect_equal(o.ramp, b.ramp);
    }
  }
}

TEST(StateCodec, KeepsTheSourcesOwnState) {
  const SourceState in = full_state(), out = round_trip(in);
  EXPECT_EQ(out.vouched, in.vouched);
  expect_equal(out.ramp, in.ramp);
  EXPECT_TRUE(out.checked);
  EXPECT_TRUE(out.drained);
}

TEST(StateCodec, ReadsWhatAnEarlierVersionSaved) {
  const auto out = decode_state(
      R"({"listings":{"zen":{"codes":["127.0.0.2"],"text":"","first_seen":1,"last_seen":2,"policy":false,"confirmed":true,)"
      R"("listed_in_a_row":2,"clean_in_a_row":0,"clean_since":null}},"providers":{"google":{"blocked_until":9,)"
      R"("config_fault":false,"strikes":2,"last_block":8,"reason":"550","ramp":{"phase":0,"step":0,"since":0,"successes":0},)"
      R"("throttle":1,"throttled_at":0,"drained":false}},"vouched":{"zen":7},)"
      R"("ramp":{"phase":0,"step":0,"since":0,"successes":0},"checked":true,"drained":false})");
  ASSERT_TRUE(out);
  EXPECT_EQ(out->vouched, (std::vector<routing::Vouch>{{"zen", "", 0, at(7)}}));
  EXPECT_EQ(out->providers.at("google").calm_since, at(8));
  EXPECT_TRUE(out->listings.at("zen").confirmed);
}

TEST(StateCodec, KeepsANewSource) {
  const SourceState out = round_trip({});
  EXPECT_TRUE(out.listings.empty() && out.providers.empty() && out.vouched.empty());
  EXPECT_FALSE(out.checked || out.drained);
}

TEST(StateCodec, KeepsThrottlesExactly) {
  for (const double throttle : {1.0, 0.1, 1.0 / 3, 1e-9}) {
    SourceState in;
    in.providers["p"].throttle = throttle;
    EXPECT_EQ(round_trip(in).providers.at("p").throttle, throttle);
  }
}

TEST(StateCodec, GivesTheSameTextAgain) {
  EXPECT_EQ(encode_state(round_trip(full_state())), encode_state(full_state()));
}

TEST(StateCodec, RefusesEveryPrefix) {
  const std::string text = encode_state(full_state());
  for (std::size_t size = 0; size < text.size(); ++size) EXPECT_FALSE(decode_state(text.substr(0, size))) << size;
}

TEST(StateCodec, RefusesWhatIsNotOurs) {
  for (const char* text : {"", "null", "[]", "{}", "7", "{\"listings\":[]}", "not json", "\xff"})
    EXPECT_FALSE(decode_state(text)) << text;
}

TEST(StateCodec, SurvivesMutations) {
  std::mt19937 random(3);
  const std::string text = encode_state(full_state());
  for (int round = 0; round < 20000; ++round) {
    std::string changed = text;
    for (unsigned changes = 1 + random() % 3; changes > 0; --changes)
      changed[random() % changed.size()] = static_cast<char>(random());
    if (const auto state = decode_state(changed)) encode_state(*state);
  }
}

TEST(StateCodec, KeepsASmarthostsRest) {
  routing::SmarthostState in{at(7), 3, "454 4.7.0 quota \xc3\xbc", routing::AccountTrouble::hourly_quota, {}};
  sender_refused(in, "shop.example", "550 not verified", at(1));
  const auto out = decode_smarthost(encode_smarthost(in));
  ASSERT_TRUE(out);
  EXPECT_EQ(out->resting_until, in.resting_until);
  EXPECT_EQ(out->rests, in.rests);
  EXPECT_EQ(out->reason, in.reason);
  EXPECT_EQ(out->trouble, in.trouble);
  EXPECT_TRUE(find_refused(out->senders, "shop.example", at(2)));
  EXPECT_EQ(decode_smarthost(encode_smarthost({}))->resting_until, std::nullopt);
  EXPECT_EQ(decode_smarthost(R"({"resting_until":null,"rests":2,"reason":"of an earlier version"})")->rests, 2);
  for (const char* text : {"", "[]", "{}", "\xff"}) EXPECT_FALSE(decode_smarthost(text)) << text;
}

TEST(StateCodec, ARestartAtAnyMomentForgetsNothing) {
  for (unsigned seed = 0; seed < 40; ++seed) {
    std::mt19937 random(seed);
    routing::history::World lasting, restarted;
    for (int i = 0; i < 60; ++i) {
      restarted.state = round_trip(restarted.state);
      ASSERT_EQ(encode_state(restarted.state), encode_state(lasting.state)) << seed;
      ASSERT_EQ(restarted.picture(), lasting.picture()) << seed;
      lasting.pass(random);
      restarted.now = lasting.now;
      const routing::Evidence evidence = routing::history::any(random);
      lasting.fold(evidence);
      restarted.fold(evidence);
    }
  }
}

}  // namespace
}  // namespace egret::relay
