#include "routing/brakes.hpp"

#include <gtest/gtest.h>

#include <random>

namespace egret::routing {
namespace {

using namespace std::chrono_literals;

const Time start{std::chrono::hours(500'000)};

UserOutcomes delivered(std::uint64_t n) {
  UserOutcomes out;
  out.delivered = n;
  return out;
}
UserOutcomes unknown(std::uint64_t n) {
  UserOutcomes out;
  out.unknown = n;
  return out;
}
UserOutcomes blocked(std::uint64_t n) {
  UserOutcomes out;
  out.blocked = n;
  return out;
}

UserState state_of(const Judge& judge, std::string_view user) {
  const auto it = judge.users().find(user);
  return it == judge.users().end() ? UserState::free : it->second.state;
}

// ---- what is usual -----------------------------------------------------------------------------------------------

UsualPolicy eager() {
  UsualPolicy out;
  out.learn = 0ms;
  return out;
}

TEST(Usual, TellsARiseAboveFiveTimesThePeakOnceADay) {
  Usual usual(eager());
  Time time = start;
  for (int i = 0; i < 48; ++i, time += 1h) EXPECT_FALSE(usual.count(SenderKind::user, "joe", 40 + i % 3 * 10, time));
  EXPECT_FALSE(usual.count(SenderKind::user, "joe", 290, time));
  const auto rise = usual.count(SenderKind::user, "joe", 20, time + 10min);
  ASSERT_TRUE(rise);
  EXPECT_EQ(rise->recipients, 310u);
  EXPECT_NEAR(rise->peak, 60, 2);
  EXPECT_NEAR(rise->mean, 8, 4);  // two of fourteen days
  EXPECT_FALSE(usual.count(SenderKind::user, "joe", 1000, time + 20min));
  EXPECT_FALSE(usual.count(SenderKind::user, "joe", 5000, time + 2h));
  EXPECT_TRUE(usual.count(SenderKind::user, "joe", 500'000, time + 25h));
}

TEST(Usual, FewRecipientsAreNoRiseHoweverUnusual) {
  Usual usual(eager());
  for (int i = 0; i < 99; ++i) EXPECT_FALSE(usual.count(SenderKind::user, "joe", 1, start));
  EXPECT_TRUE(usual.count(SenderKind::user, "joe", 1, start));
}

TEST(Usual, NothingIsUnusualWhileItLearns) {
  UsualPolicy policy;
  policy.learn = 24h;
  Usual usual(policy);
  EXPECT_FALSE(usual.count(SenderKind::user, "joe", 100'000, start));
  EXPECT_TRUE(usual.count(SenderKind::user, "new", 100'000, start + 25h));
}

TEST(Usual, AnAttackDoesNotBecomeUsual) {
  Usual usual(eager());
  Time time = start;
  for (int i = 0; i < 24; ++i, time += 1h) usual.count(SenderKind::user, "joe", 60, time);
  usual.count(SenderKind::user, "joe", 1'000'000, time);
  usual.count(SenderKind::user, "joe", 1, time + 1h);
  EXPECT_LE(usual.find(SenderKind::user, "joe")->peak, 120);
}

TEST(Usual, IdleTimeLetsThePeakFade) {
  Usual usual(eager());
  usual.count(SenderKind::domain, "x.test", 100, start);
  usual.count(SenderKind::domain, "x.test", 1, start + 14 * 24h);
  EXPECT_NEAR(usual.find(SenderKind::domain, "x.test")->peak, 100 * 0.368, 1);
}

TEST(Usual, KindsDoNotMix) {
  Usual usual(eager());
  usual.count(SenderKind::domain, "joe", 60, start);
  EXPECT_FALSE(usual.count(SenderKind::network, "joe", 60, start));
}

TEST(Usual, InventedNamesDoNotPushOutThoseThatMatter) {
  UsualPolicy policy = eager();
  policy.max_keys = 100;
  Usual usual(policy);
  usual.count(SenderKind::user, "joe", 90, start);
  for (int i = 0; i < 5000; ++i) usual.count(SenderKind::domain, "d" + std::to_string(i), 1, start + 1h);
  EXPECT_LE(usual.memory().entries.size(), 100u);
  EXPECT_TRUE(usual.find(SenderKind::user, "joe"));
}

TEST(Usual, AClockSetBackChangesNothingForGood) {
  Usual usual(eager());
  usual.count(SenderKind::user, "joe", 50, start + 100h);
  EXPECT_FALSE(usual.count(SenderKind::user, "joe", 50, start));
  EXPECT_EQ(usual.find(SenderKind::user, "joe")->recipients, 50u);
}

TEST(Usual, ASteadyUserIsNeverUnusual) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    const std::uint64_t level = 1 + random() % 5000;
    UsualPolicy policy;
    Usual usual(policy);
    for (int hour = 0; hour < 24 * 30; ++hour) {
      const std::uint64_t n = level / 2 + random() % (level + 1);  // 0.5 to 1.5 of his level, in working hours
      const bool works = hour % 24 >= 8 && hour % 24 < 18;
      for (int part = 0; works && part < 4; ++part)
        EXPECT_FALSE(usual.count(SenderKind::user, "joe", n / 4, start + hour * 1h + part * 10min)) << seed << ' ' << hour;
    }
  }
}

// ---- what became of it -------------------------------------------------------------------------------------------

TEST(Judge, SlowsAndThenSuspendsWhoseMailIsRefused) {
  Judge judge;
  judge.count("joe", delivered(100), start);
  EXPECT_FALSE(judge.count("joe", unknown(49), start + 1min));
  const auto slowed = judge.count("joe", unknown(1), start + 2min);
  ASSERT_TRUE(slowed);
  EXPECT_EQ(slowed->to, UserState::slowed);
  EXPECT_EQ(slowed->reason, "50 of 150 recipients within an hour were refused: 50 do not exist");
  const auto suspended = judge.count("joe", unknown(150), start + 10min);
  ASSERT_TRUE(suspended);
  EXPECT_EQ(suspended->from, UserState::slowed);
  EXPECT_EQ(suspended->to, UserState::suspended);
  EXPECT_FALSE(judge.count("joe", unknown(1000), start + 11min));
}

TEST(Judge, CountsWithoutTheShareMeanNothing) {
  Judge judge;
  judge.count("big", delivered(100'000), start);
  EXPECT_FALSE(judge.count("big", unknown(5'000), start + 1min));
}

TEST(Judge, ASlowTrickleIsSeenOverADay) {
  Judge judge;
  std::optional<UserChange> seen;
  for (int i = 0; i < 23 && !seen; ++i) seen = judge.count("joe", unknown(20), start + i * 1h);
  ASSERT_TRUE(seen);
  EXPECT_NE(seen->reason.find("within a day"), std::string::npos);
}

TEST(Judge, ComplaintsHaveSharesOfTheirOwn) {
  Judge judge;
  UserOutcomes complaints;
  complaints.complaints = 19;
  judge.count("joe", delivered(5'000), start);
  EXPECT_FALSE(judge.count("joe", complaints, start + 1h));
  complaints.complaints = 1;
  const auto slowed = judge.count("joe", complaints, start + 2h);
  ASSERT_TRUE(slowed);
  EXPECT_EQ(slowed->to, UserState::slowed);
  EXPECT_EQ(slowed->reason, "20 of 5000 recipients within a day complained of spam");
}

TEST(Judge, AListedSourceIsNotHeldAgainstItsUsers) {
  Judge judge;
  judge.count("a", blocked(1'000), start);
  EXPECT_EQ(state_of(judge, "a"), UserState::free);  // nobody to compare him with
  judge.count("b", blocked(1'000), start);
  judge.count("c", blocked(1'000), start);
  EXPECT_FALSE(judge.count("a", blocked(1'000), start + 1min));
  EXPECT_FALSE(judge.count("b", blocked(1'000), start + 1min));
}

TEST(Judge, WhoAloneIsBlockedIsSuspended) {
  Judge judge;
  judge.count("good", delivered(100), start);
  const auto change = judge.count("bad", blocked(300), start);
  ASSERT_TRUE(change);
  EXPECT_EQ(change->to, UserState::suspended);
  EXPECT_NE(change->reason.find("300 blocked the source"), std::string::npos);
}

TEST(Judge, AReceiversOutageIsNotHeldAgainstAnybody) {
  Judge judge;
  for (const char* user : {"a", "b", "c", "d"}) judge.count(user, unknown(30), start);
  for (const char* user : {"a", "b", "c", "d"}) EXPECT_FALSE(judge.count(user, unknown(1'000), start + 1min)) << user;
}

TEST(Judge, NeitherASteadyNorASmallUserIsEverRestricted) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    Judge judge;
    Time time = start;
    for (int i = 0; i < 20'000; ++i, time += std::chrono::seconds(random() % 600)) {
      const bool bad = random() % 1000 < 60;  // 6 of 100: an old list, and no attack
      EXPECT_FALSE(judge.count("steady", bad ? unknown(1) : delivered(1), time)) << seed;
      if (random() % 4000 == 0) EXPECT_FALSE(judge.count("small", unknown(3), time)) << seed;
    }
  }
}

TEST(Judge, ASlowedUserWhoGivesNoFurtherReasonIsFreeAfterAnHour) {
  Judge judge;
  judge.count("joe", unknown(60), start);
  EXPECT_EQ(state_of(judge, "joe"), UserState::slowed);
  EXPECT_TRUE(judge.age(start + 59min).empty());
  const auto changes = judge.age(start + 61min);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].to, UserState::free);
}

TEST(Judge, OnlyAnOperatorEndsASuspension) {
  Judge judge;
  judge.count("joe", unknown(600), start);
  EXPECT_EQ(state_of(judge, "joe"), UserState::suspended);
  EXPECT_TRUE(judge.age(start + 1000h).empty());
  const auto change = judge.resume("joe", start + 1000h);
  ASSERT_TRUE(change);
  EXPECT_EQ(change->from, UserState::suspended);
  EXPECT_FALSE(judge.resume("joe", start + 1000h));
  EXPECT_FALSE(judge.resume("nobody", start));
  EXPECT_FALSE(judge.count("joe", unknown(3), start + 1001h));  // what he did is forgotten
}

TEST(Judge, OldTroubleFades) {
  Judge judge;
  judge.count("joe", unknown(45), start);
  EXPECT_FALSE(judge.count("joe", unknown(45), start + 2h));
  EXPECT_EQ(judge.users().at("joe").hour.within(1h, start + 5h).unknown, 0u);
}

TEST(Judge, ForgetsTheFreeAndNeverTheSuspended) {
  JudgePolicy policy;
  policy.max_users = 100;
  Judge judge(policy);
  judge.restrict("joe", UserState::suspended, "by order", true, start);
  for (int i = 0; i < 2000; ++i) judge.count("u" + std::to_string(i), delivered(1), start + i * 1s);
  EXPECT_LE(judge.users().size(), 100u);
  EXPECT_EQ(state_of(judge, "joe"), UserState::suspended);
}

TEST(Judge, CountsOfZeroNeverRestrict) {
  JudgePolicy policy;
  policy.slow = policy.suspend = {};
  Judge judge(policy);
  EXPECT_FALSE(judge.count("joe", unknown(1'000'000), start));
}

// ---- kept --------------------------------------------------------------------------------------------------------

TEST(Brakes, MemoriesSurviveAsText) {
  Usual usual(eager());
  usual.count(SenderKind::user, "j\"o\xff", 700, start);
  usual.count(SenderKind::network, "192.0.2.0/24", 7, start + 3h);
  EXPECT_EQ(decode_usual(encode_usual(usual.memory()), start + 4h), usual.memory());
  Judge judge;
  judge.count("joe", unknown(600), start);
  judge.restrict("ann", UserState::slowed, "unusual", true, start);
  EXPECT_EQ(decode_users(encode_users(judge.users()), start + 1h), judge.users());
}

TEST(Brakes, ForeignTextIsNoMemory) {
  for (const char* text : {"", "[]", "{}", "{\"a\":[1]}", "{\"since\":1,\"entries\":[[9,\"x\",1,1,1,1,1]]}", "{\"since\":1e400}"})
    EXPECT_FALSE(decode_usual(text, start)) << text;
  for (const char* text : {"", "[]", "{\"a\":[1]}", "{\"a\":[[0,[],[]],[0,[],[]],0,\"\",false,0,0,0]}"})
    EXPECT_FALSE(decode_users(text, start)) << text;
}

TEST(Brakes, NameNetworksAsTheyAreCounted) {
  EXPECT_EQ(network_of("192.0.2.77"), "192.0.2.0/24");
  EXPECT_EQ(network_of("::ffff:192.0.2.77"), "192.0.2.0/24");
  EXPECT_EQ(network_of("2001:db8:1:2:3::4"), "2001:db8:1:2::/64");
  EXPECT_EQ(network_of("nobody"), "nobody");
}

}  // namespace
}  // namespace egret::routing
