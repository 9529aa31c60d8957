#include "routing/poison.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace egret::routing {
namespace {

using namespace std::chrono_literals;
using Kind = PoisonVerdict::Kind;

/// Limits that few messages reach.
PoisonPolicy brisk() {
  PoisonPolicy out;
  out.slow_after = 5;
  out.hold_after = 20;
  return out;
}

/// A guard, and a pool of four sources unless told otherwise.
class Guarded {
 public:
  explicit Guarded(PoisonPolicy policy = brisk()) : guard(policy) {}

  PoisonVerdict blocked(std::uint64_t message, std::string_view source, std::string_view provider = "google",
                        std::string_view sender = "a@example.com") {
    return guard.blocked({message, sender, EgressKind::source, source, provider, pool_sources}, now);
  }
  /// Blocked through three sources: the verdict on the last.
  PoisonVerdict poison(std::uint64_t message, std::string_view sender = "a@example.com") {
    blocked(message, "out1", "google", sender);
    blocked(message, "out2", "google", sender);
    return blocked(message, "out3", "google", sender);
  }
  ContentVerdict::Kind content(std::uint64_t message, std::string_view sender = "a@example.com") {
    return guard.content(message, sender, now).kind;
  }
  Admission::Kind admit(std::string_view sender = "a@example.com") { return guard.admit(sender, now).kind; }

  PoisonGuard guard;
  std::size_t pool_sources = 4;
  Time now{std::chrono::hours(500'000)};
};

// ---- messages ----------------------------------------------------------------------------------------------------

TEST(Poison, IsAMessageBlockedThroughThreeDifferentSources) {
  Guarded g;
  EXPECT_EQ(g.blocked(1, "out1").kind, Kind::nothing);
  EXPECT_EQ(g.blocked(1, "out2").kind, Kind::nothing);
  const PoisonVerdict verdict = g.blocked(1, "out3");
  EXPECT_EQ(verdict.kind, Kind::poison);
  EXPECT_EQ(verdict.message, 1u);
  EXPECT_EQ(verdict.sender, "a@example.com");
  EXPECT_EQ(verdict.reason, "blocked through out1, out2, out3");
  EXPECT_EQ(verdict.concerned, (std::vector<Concerned>{{"out1", "google"}, {"out2", "google"}, {"out3", "google"}}));
}

TEST(Poison, TheSameSourceTwiceCountsOnce) {
  Guarded g;
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(g.blocked(1, "out1").kind, Kind::nothing);
    EXPECT_EQ(g.blocked(1, "out2", i % 2 ? "google" : "yahoo").kind, Kind::nothing);
  }
  EXPECT_EQ(g.blocked(1, "out3").kind, Kind::poison);
}

TEST(Poison, SourcesCountWhateverProviderBlockedThem) {
  Guarded g;
  g.blocked(1, "out1", "google");
  g.blocked(1, "out2", "yahoo");
  const PoisonVerdict verdict = g.blocked(1, "out3", "microsoft");
  EXPECT_EQ(verdict.kind, Kind::poison);
  EXPECT_EQ(verdict.concerned, (std::vector<Concerned>{{"out1", "google"}, {"out2", "yahoo"}, {"out3", "microsoft"}}));
}

TEST(Poison, ASourceBlockedByTwoProvidersIsConcernedTwice) {
  Guarded g;
  g.blocked(1, "out1", "google");
  g.blocked(1, "out1", "yahoo");
  g.blocked(1, "out2");
  EXPECT_EQ(g.blocked(1, "out3").concerned.size(), 4u);
}

TEST(Poison, MessagesAreCountedApart) {
  Guarded g;
  g.blocked(1, "out1");
  g.blocked(2, "out2");
  EXPECT_EQ(g.blocked(3, "out3").kind, Kind::nothing);
  EXPECT_EQ(g.blocked(1, "out2").kind, Kind::nothing);
  EXPECT_EQ(g.blocked(1, "out3").kind, Kind::poison);
}

TEST(Poison, SmarthostsNeverCount) {
  Guarded g;
  for (const char* name : {"ses", "mailgun", "other", "fourth"})
    EXPECT_EQ(g.guard.blocked({1, "a@example.com", EgressKind::smarthost, name, "google", 4}, g.now).kind, Kind::nothing);
  g.blocked(1, "out1");
  EXPECT_EQ(g.blocked(1, "out2").kind, Kind::nothing);
}

TEST(Poison, NeverTriggersInAPoolWithFewerSources) {
  Guarded g;
  g.pool_sources = 2;
  for (const char* name : {"out1", "out2", "out3", "out4"}) EXPECT_EQ(g.blocked(1, name).kind, Kind::nothing);
  EXPECT_TRUE(g.guard.memory().messages.empty());
}

TEST(Poison, ThresholdIsThePolicys) {
  PoisonPolicy two = brisk(), none = brisk();
  two.poison_after = 2;
  none.poison_after = 0;
  Guarded g(two), off(none);
  g.pool_sources = 2;
  g.blocked(1, "out1");
  EXPECT_EQ(g.blocked(1, "out2").kind, Kind::poison);
  EXPECT_EQ(off.poison(1).kind, Kind::nothing);
}

TEST(Poison, AMessageOfUnknownIdIsNotJudged) {
  Guarded g;
  EXPECT_EQ(g.poison(0).kind, Kind::nothing);
}

TEST(Poison, ALateRefusalIsWithdrawnAndNotToldAgain) {
  Guarded g;
  g.poison(1);
  const PoisonVerdict late = g.blocked(1, "out4", "yahoo");
  EXPECT_EQ(late.kind, Kind::poison);
  EXPECT_TRUE(late.late);
  EXPECT_EQ(late.concerned, (std::vector<Concerned>{{"out4", "yahoo"}}));
}

TEST(Poison, AReleasedMessageIsJudgedAnewAndDoesNotCountTwiceForItsSender) {
  Guarded g;
  g.poison(1);
  g.guard.forget(1);
  EXPECT_EQ(g.blocked(1, "out1").kind, Kind::nothing);
  g.blocked(1, "out2");
  const PoisonVerdict again = g.blocked(1, "out3");
  EXPECT_EQ(again.kind, Kind::poison);
  EXPECT_FALSE(again.late);
  EXPECT_EQ(g.admit(), Admission::Kind::go);
}

TEST(Poison, AMessageIsForgottenAfterALongTime) {
  Guarded g;
  g.blocked(1, "out1");
  g.blocked(1, "out2");
  g.now += 25h;
  EXPECT_EQ(g.blocked(1, "out3").kind, Kind::nothing);
}

// ---- senders -----------------------------------------------------------------------------------------------------

TEST(PoisonSender, IsHeldAtHisSecondPoisonMessage) {
  Guarded g;
  EXPECT_EQ(g.poison(1).kind, Kind::poison);
  EXPECT_EQ(g.admit(), Admission::Kind::go);
  const PoisonVerdict second = g.poison(2);
  EXPECT_EQ(second.kind, Kind::sender_held);
  EXPECT_EQ(second.concerned.size(), 3u);
  EXPECT_EQ(g.admit(), Admission::Kind::held);
  EXPECT_NE(g.guard.admit("a@example.com", g.now).reason.find("a@example.com is held: poison"), std::string::npos);
  EXPECT_EQ(g.guard.held_senders(), std::vector<std::string>{"a@example.com"});
}

TEST(PoisonSender, OfOneMessageDoesNotPayForAnother) {
  Guarded g;
  g.poison(1, "a@example.com");
  EXPECT_EQ(g.poison(2, "b@example.com").kind, Kind::poison);
  EXPECT_EQ(g.admit("a@example.com"), Admission::Kind::go);
  EXPECT_EQ(g.admit("b@example.com"), Admission::Kind::go);
}

TEST(PoisonSender, IsHeldOnceAndForHoweverLong) {
  Guarded g;
  g.poison(1);
  g.poison(2);
  EXPECT_EQ(g.poison(3).kind, Kind::poison);
  g.now += 365 * 24h;
  g.guard.age(g.now);
  EXPECT_EQ(g.admit(), Admission::Kind::held);
}

TEST(PoisonSender, IsFreeWhenReleasedAndHeldAgainAtTheNextTwo) {
  Guarded g;
  g.poison(1);
  g.poison(2);
  EXPECT_TRUE(g.guard.release("a@EXAMPLE.com"));
  EXPECT_EQ(g.admit(), Admission::Kind::go);
  EXPECT_FALSE(g.guard.release("a@example.com"));
  EXPECT_EQ(g.poison(3).kind, Kind::poison);
  EXPECT_EQ(g.poison(4).kind, Kind::sender_held);
}

TEST(PoisonSender, IsTheSameWhateverTheCaseOfTheDomain) {
  Guarded g;
  g.poison(1, "a@Example.COM");
  EXPECT_EQ(g.poison(2, "a@example.com").kind, Kind::sender_held);
  EXPECT_EQ(g.admit("A@example.com"), Admission::Kind::go);
}

TEST(PoisonSender, TheNullSenderIsNeverHeld) {
  Guarded g;
  for (std::uint64_t id = 1; id < 6; ++id) EXPECT_EQ(g.poison(id, "").kind, Kind::poison);
  for (std::uint64_t id = 1; id < 100; ++id) EXPECT_EQ(g.content(id, ""), ContentVerdict::Kind::nothing);
  EXPECT_EQ(g.admit(""), Admission::Kind::go);
}

TEST(PoisonSender, OldPoisonIsForgotten) {
  Guarded g;
  g.poison(1);
  g.now += 8 * 24h;
  EXPECT_EQ(g.poison(2).kind, Kind::poison);
}

// ---- content -----------------------------------------------------------------------------------------------------

TEST(ContentStrikes, SlowASenderThenHoldHim) {
  Guarded g;
  std::vector<ContentVerdict::Kind> told;
  for (std::uint64_t id = 1; id <= 25; ++id) told.push_back(g.content(id));
  std::vector<ContentVerdict::Kind> expected(25, ContentVerdict::Kind::nothing);
  expected[4] = ContentVerdict::Kind::slowed;
  expected[19] = ContentVerdict::Kind::held;
  EXPECT_EQ(told, expected);
  EXPECT_EQ(g.admit(), Admission::Kind::held);
  EXPECT_EQ(g.admit("b@example.com"), Admission::Kind::go);
}

TEST(ContentStrikes, OfOneMessageCountOnce) {
  Guarded g;
  for (int i = 0; i < 100; ++i) EXPECT_EQ(g.content(1), ContentVerdict::Kind::nothing);
  EXPECT_EQ(g.admit(), Admission::Kind::go);
}

TEST(ContentStrikes, ASlowedSenderHasOneTurnAnInterval) {
  Guarded g;
  for (std::uint64_t id = 1; id <= 5; ++id) g.content(id);
  const Admission wait = g.guard.admit("a@example.com", g.now);
  EXPECT_EQ(wait.kind, Admission::Kind::wait);
  EXPECT_EQ(wait.until, g.now + 1min);
  g.now += 1min;
  EXPECT_EQ(g.admit(), Admission::Kind::go);
  EXPECT_EQ(g.admit(), Admission::Kind::wait);
}

TEST(ContentStrikes, WhoeverWaitsIsGivenATurnOfHisOwn) {
  Guarded g;
  for (std::uint64_t id = 1; id <= 5; ++id) g.content(id);
  const Time begin = g.now;
  for (int i = 1; i <= 3; ++i) EXPECT_EQ(g.guard.admit("a@example.com", g.now).until, begin + i * 1min);
  for (int i = 1; i <= 3; ++i) {
    g.now = begin + i * 1min + 20ms;  // a little late, and nobody is late for that
    EXPECT_EQ(g.admit(), Admission::Kind::go) << i;
  }
}

TEST(ContentStrikes, ATurnIsPromisedTenIntervalsAheadAtMost) {
  Guarded g;
  for (std::uint64_t id = 1; id <= 5; ++id) g.content(id);
  for (int i = 0; i < 200; ++i) EXPECT_LE(g.guard.admit("a@example.com", g.now).until, g.now + 11min);
}

TEST(ContentStrikes, AClockSetBackDoesNotProlongTheWait) {
  Guarded g;
  for (std::uint64_t id = 1; id <= 5; ++id) g.content(id);
  g.now -= 24h;
  EXPECT_EQ(g.guard.admit("a@example.com", g.now).until, g.now + 1min);
}

TEST(ContentStrikes, AreForgottenAfterTheWindow) {
  Guarded g;
  for (std::uint64_t id = 1; id <= 5; ++id) g.content(id);
  g.now += 1h;
  EXPECT_EQ(g.admit(), Admission::Kind::go);
  EXPECT_EQ(g.content(6), ContentVerdict::Kind::nothing);
  EXPECT_EQ(g.admit(), Admission::Kind::go);
}

TEST(ContentStrikes, OfASenderWhoIsMostlyHeardDoNothing) {
  Guarded g;
  g.content(1);
  for (int i = 0; i < 2000; ++i) g.guard.delivered("a@example.com", g.now);
  for (std::uint64_t id = 2; id <= 100; ++id) EXPECT_EQ(g.content(id), ContentVerdict::Kind::nothing);
  EXPECT_EQ(g.admit(), Admission::Kind::go);
}

TEST(ContentStrikes, AreWeighedAgainstDeliveriesAlsoBeyondTheLimit) {
  Guarded g;
  g.content(1);
  for (int i = 0; i < 1000; ++i) g.guard.delivered("a@example.com", g.now);
  std::uint64_t id = 2;
  while (g.admit() != Admission::Kind::held && id < 1000) g.content(id++);
  EXPECT_NEAR(static_cast<double>(id), 1000.0 / 9, 3);
}

TEST(ContentStrikes, ASlowedSenderIsReleased) {
  Guarded g;
  for (std::uint64_t id = 1; id <= 5; ++id) g.content(id);
  EXPECT_TRUE(g.guard.release("a@example.com"));
  EXPECT_EQ(g.admit(), Admission::Kind::go);
}

TEST(ContentStrikes, DeliveriesOfUnknownSendersAreNotRemembered) {
  Guarded g;
  g.guard.delivered("a@example.com", g.now);
  EXPECT_TRUE(g.guard.memory().senders.empty());
}

// ---- bounds ------------------------------------------------------------------------------------------------------

TEST(PoisonMemory, IsBounded) {
  PoisonPolicy policy = brisk();
  policy.max_messages = 100;
  policy.max_senders = 50;
  Guarded g(policy);
  for (std::uint64_t id = 1; id < 5000; ++id) {
    g.now += 1s;
    const std::string sender = "s" + std::to_string(id) + "@example.com";
    g.poison(id, sender);
    g.content(id, sender);
    ASSERT_LE(g.guard.memory().messages.size(), 100u);
    ASSERT_LE(g.guard.memory().senders.size(), 50u);
  }
}

TEST(PoisonMemory, OfAMessageInUseOutlivesAFlood) {
  PoisonPolicy policy = brisk();
  policy.max_messages = 100;
  Guarded g(policy);
  g.blocked(1, "out1");
  g.blocked(1, "out2");
  for (std::uint64_t id = 2; id < 60; ++id) {
    g.now += 1s;
    g.blocked(id, "out1");
  }
  EXPECT_EQ(g.blocked(1, "out3").kind, Kind::poison);
}

TEST(PoisonMemory, NeverLetsAHeldSenderGo) {
  PoisonPolicy policy = brisk();
  policy.max_senders = 3;
  Guarded g(policy);
  for (int s = 0; s < 3; ++s) {
    const std::string sender = std::string(1, static_cast<char>('a' + s)) + "@example.com";
    g.poison(static_cast<std::uint64_t>(2 * s + 1), sender);
    g.poison(static_cast<std::uint64_t>(2 * s + 2), sender);
  }
  for (std::uint64_t id = 100; id < 200; ++id) g.content(id, "other" + std::to_string(id) + "@example.com");
  EXPECT_EQ(g.guard.held_senders().size(), 3u);
}

TEST(PoisonMemory, IsEmptyAgainWhenAllIsOld) {
  Guarded g;
  g.blocked(1, "out1");
  g.content(2, "b@example.com");
  g.now += 25h;
  g.guard.age(g.now);
  EXPECT_TRUE(g.guard.memory().messages.empty());
  EXPECT_TRUE(g.guard.memory().senders.empty());
}

// ---- persistence -------------------------------------------------------------------------------------------------

/// Something of everything, by random history.
PoisonGuard random_guard(unsigned seed, Time& now) {
  std::mt19937 random(seed);
  PoisonGuard guard;
  for (int i = 0; i < 300; ++i) {
    const std::string sender = "s" + std::to_string(random() % 5) + "\xc3\xbc@example.com";
    const std::string source = "out" + std::to_string(random() % 4);
    const std::uint64_t id = UINT64_MAX - random() % 30;
    now += Duration(random() % 60'000);
    if (random() % 2)
      guard.blocked({id, sender, EgressKind::source, source, random() % 2 ? "google" : "yahoo", 4}, now);
    else if (random() % 2)
      guard.content(id, sender, now);
    else
      guard.delivered(sender, now);
  }
  return guard;
}

TEST(PoisonCodec, RoundTripsEveryMemory) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    Time now{std::chrono::hours(500'000)};
    const PoisonGuard guard = random_guard(seed, now);
    const auto out = decode_poison(encode_poison(guard.memory()), now);
    ASSERT_TRUE(out);
    ASSERT_EQ(*out, guard.memory());
    ASSERT_FALSE(out->messages.empty());
  }
}

TEST(PoisonCodec, AHeldSenderIsHeldAfterARestart) {
  Guarded g;
  g.poison(1);
  g.poison(2);
  g.blocked(3, "out1");
  g.blocked(3, "out2");
  PoisonGuard restarted({}, *decode_poison(encode_poison(g.guard.memory()), g.now));
  EXPECT_EQ(restarted.admit("a@example.com", g.now).kind, Admission::Kind::held);
  EXPECT_EQ(restarted.blocked({3, "b@example.com", EgressKind::source, "out3", "google", 4}, g.now).kind, Kind::poison);
}

TEST(PoisonCodec, APointInTheFutureIsNow) {
  Guarded g;
  g.blocked(1, "out1");
  const auto out = decode_poison(encode_poison(g.guard.memory()), g.now - 100h);
  ASSERT_TRUE(out);
  EXPECT_EQ(out->messages.at(1).touched, g.now - 100h);
}

TEST(PoisonCodec, RefusesWhatIsNotOurs) {
  Guarded g;
  g.poison(1);
  g.content(2);
  const std::string text = encode_poison(g.guard.memory());
  for (std::size_t size = 0; size < text.size(); ++size) EXPECT_FALSE(decode_poison(text.substr(0, size), g.now)) << size;
  for (const char* other : {"", "null", "[]", "{}", "{\"messages\":{\"x\":{}},\"senders\":{}}", "\xff"})
    EXPECT_FALSE(decode_poison(other, g.now)) << other;
}

TEST(PoisonCodec, SurvivesMutations) {
  Time now{std::chrono::hours(500'000)};
  const std::string text = encode_poison(random_guard(3, now).memory());
  std::mt19937 random(3);
  for (int round = 0; round < 3000; ++round) {
    std::string changed = text;
    changed[random() % changed.size()] = static_cast<char>(random());
    if (auto memory = decode_poison(changed, now)) {
      PoisonGuard guard({}, std::move(*memory));
      guard.age(now);
      encode_poison(guard.memory());
    }
  }
}

}  // namespace
}  // namespace egret::routing
