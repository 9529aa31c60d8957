#include <gtest/gtest.h>

#include <random>

#include "relay/state/state.hpp"

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
  s.providers["google"] = {at(8), true,   9,   at(10), "550 5.7.1 blocked", {Ramp::Phase::warming, 2, at(11), 12},
                           0.25,  at(13), true};
  s.providers["mx.example.net"] = {};
  s.vouched["zen"] = at(14);
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
  }
}

TEST(StateCodec, KeepsTheSourcesOwnState) {
  const SourceState in = full_state(), out = round_trip(in);
  EXPECT_EQ(out.vouched, in.vouched);
  expect_equal(out.ramp, in.ramp);
  EXPECT_TRUE(out.checked);
  EXPECT_TRUE(out.drained);
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

}  // namespace
}  // namespace egret::relay
