#include "routing/standing.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace egret::routing {
namespace {

using namespace std::chrono_literals;
using Result = Judgement::Result;

Blocklist list(double weight, std::vector<std::string> concerns = {}) {
  Blocklist out;
  out.weight = weight;
  out.concerns = std::move(concerns);
  return out;
}

/// One source and all that is seen of it.
class World {
 public:
  std::vector<Transition> fold(const Evidence& evidence) { return routing::fold(state, evidence, {policy, lists}, now); }
  std::vector<Transition> listed(std::string name, std::vector<std::string> codes = {"127.0.0.2"}, bool by_policy = false) {
    return fold(ListChecked{std::move(name), {Result::listed, by_policy, std::move(codes), {}}, "see https://example.net"});
  }
  std::vector<Transition> clean(std::string name) {
    return fold(ListChecked{std::move(name), {Result::clean, false, {}, {}}, {}});
  }
  std::vector<Transition> unknown(std::string name) {
    return fold(ListChecked{std::move(name), {Result::unknown, false, {}, "timeout"}, {}});
  }
  /// Listed, or gone, by as many checks as must agree.
  void confirm_listed(const std::string& name) {
    for (int i = 0; i < policy.confirm; ++i) listed(name);
  }
  void confirm_clean(const std::string& name) {
    for (int i = 0; i < policy.confirm; ++i) clean(name);
  }
  std::vector<Transition> refused(std::string provider, Label label = Label::ip_blocked, std::string blocklist = {}) {
    return fold(Refused{std::move(provider), label, std::move(blocklist), "some-rule", "550 blocked"});
  }
  void delivered(const std::string& provider, int times = 1) {
    for (int i = 0; i < times; ++i) fold(Delivered{provider});
  }
  std::vector<Transition> pass(Duration duration) {
    now += duration;
    return fold(Tick{});
  }
  StandingView view(std::string_view provider = "") const { return routing::view(state, provider, {policy, lists}); }
  Standing standing(std::string_view provider = "") const { return view(provider).standing; }
  double score(std::string_view provider = "") const { return routing::score(state, provider, {policy, lists}); }

  StandingPolicy policy;
  Blocklists lists{{"zen", list(1.0)},  {"half", list(0.5)}, {"fifth", list(0.2)},
                   {"a15", list(0.15)}, {"b15", list(0.15)}, {"ms", list(1.0, {"microsoft"})}};
  SourceState state;
  Time now{std::chrono::hours(500'000)};
};

// ---- listings
// ----------------------------------------------------------------------------------------------------

TEST(Standing, IsUnknownUntilAListHasAnswered) {
  World w;
  EXPECT_EQ(w.standing(), Standing::unknown);
  w.unknown("zen");
  EXPECT_EQ(w.standing(), Standing::unknown);
  w.clean("zen");
  EXPECT_EQ(w.standing(), Standing::clean);
}

TEST(Standing, IsCleanWhereNoListIsConfigured) {
  World w;
  w.lists.clear();
  EXPECT_EQ(w.standing(), Standing::clean);
}

TEST(Standing, OneCheckConfirmsNothing) {
  World w;
  w.listed("zen");
  EXPECT_EQ(w.score(), 0);
  EXPECT_NE(w.standing(), Standing::listed);
}

TEST(Standing, ChecksThatAgreeConfirmAListing) {
  World w;
  w.confirm_listed("zen");
  EXPECT_EQ(w.standing(), Standing::listed);
  EXPECT_EQ(w.view().share, 0);
  EXPECT_EQ(w.view().until, std::nullopt);
  EXPECT_NE(w.view().reason.find("zen 127.0.0.2"), std::string::npos);
}

TEST(Standing, ACleanCheckBetweenStartsTheCountAgain) {
  World w;
  w.listed("zen");
  w.clean("zen");
  w.listed("zen");
  EXPECT_NE(w.standing(), Standing::listed);
}

TEST(Standing, AnUnknownCheckBetweenBreaksNothing) {
  World w;
  w.listed("zen");
  w.unknown("zen");
  w.listed("zen");
  EXPECT_EQ(w.standing(), Standing::listed);
}

TEST(Standing, ConfirmMayAskForMoreOrForOne) {
  World three, one;
  three.policy.confirm = 3;
  three.listed("zen");
  three.listed("zen");
  EXPECT_NE(three.standing(), Standing::listed);
  three.listed("zen");
  EXPECT_EQ(three.standing(), Standing::listed);
  one.policy.confirm = 1;
  one.listed("zen");
  EXPECT_EQ(one.standing(), Standing::listed);
}

TEST(Standing, AReceiverThatNamesTheListSparesACheck) {
  World w;
  w.refused("google", Label::ip_blocked, "zen");
  w.listed("zen");
  EXPECT_EQ(w.standing("yahoo"), Standing::listed);
}

TEST(Standing, AReceiversWordOnAListAlonePutsNobodyElseOut) {
  World w;
  w.refused("google", Label::ip_blocked, "zen");
  EXPECT_EQ(w.standing("google"), Standing::blocked);
  EXPECT_TRUE(in_service(w.standing("yahoo")));
}

TEST(Standing, AReceiversWordCountsForItsOwnListAndNotForLong) {
  World other, late;
  other.refused("google", Label::ip_blocked, "half");
  other.listed("zen");
  EXPECT_NE(other.standing("yahoo"), Standing::listed);
  late.refused("google", Label::ip_blocked, "zen");
  late.now += 24h;
  late.listed("zen");
  EXPECT_NE(late.standing("yahoo"), Standing::listed);
}

TEST(Standing, WeightsAddUp) {
  World w;
  w.confirm_listed("half");
  EXPECT_EQ(w.standing(), Standing::clean);
  EXPECT_DOUBLE_EQ(w.score(), 0.5);
  w.confirm_listed("fifth");
  w.confirm_listed("a15");
  EXPECT_EQ(w.standing(), Standing::clean);
  w.confirm_listed("b15");
  EXPECT_EQ(w.standing(), Standing::listed);
}

TEST(Standing, DecimalWeightsReachTheThresholdInAnyOrder) {
  std::vector<std::string> names{"a15", "b15", "fifth", "half"};
  do {
    World w;
    for (const auto& name : names) w.confirm_listed(name);
    EXPECT_EQ(w.standing(), Standing::listed);
  } while (std::ranges::next_permutation(names).found);
}

TEST(Standing, AListThatInformsNeverRoutes) {
  World w;
  w.lists["uceprotect-3"] = list(100);
  w.lists["uceprotect-3"].inform_only = true;
  w.confirm_listed("uceprotect-3");
  EXPECT_EQ(w.standing(), Standing::clean);
  EXPECT_EQ(w.score(), 0);
  EXPECT_EQ(w.state.listings.size(), 1u);
}

TEST(Standing, AListMayConcernOneProvider) {
  World w;
  w.confirm_listed("ms");
  EXPECT_EQ(w.standing("microsoft"), Standing::listed);
  EXPECT_EQ(w.standing("google"), Standing::clean);
  EXPECT_EQ(w.standing(), Standing::clean);
}

TEST(Standing, APolicyListingIsAFaultOfTheConfiguration) {
  World w;
  w.listed("zen", {"127.0.0.10"}, true);
  w.listed("zen", {"127.0.0.10"}, true);
  EXPECT_EQ(w.standing(), Standing::misconfigured);
  EXPECT_EQ(w.view().until, std::nullopt);
  w.pass(365 * 24h);
  EXPECT_EQ(w.standing(), Standing::misconfigured);
}

TEST(Standing, APolicyListingNeedsNoThreshold) {
  World w;
  w.listed("fifth", {"127.0.0.10"}, true);
  w.listed("fifth", {"127.0.0.10"}, true);
  EXPECT_EQ(w.standing(), Standing::misconfigured);
}

TEST(Standing, AListingRemembersWhenItWasSeen) {
  World w;
  const Time first = w.now;
  w.listed("zen");
  w.now += 1h;
  w.listed("zen", {"127.0.0.2", "127.0.0.4"});
  const Listing& l = w.state.listings.at("zen");
  EXPECT_EQ(l.first_seen, first);
  EXPECT_EQ(l.last_seen, w.now);
  EXPECT_EQ(l.codes.size(), 2u);
}

// ---- the end of a listing
// ----------------------------------------------------------------------------------------

TEST(Delisting, NeedsChecksThatAgree) {
  World w;
  w.confirm_listed("zen");
  w.clean("zen");
  EXPECT_EQ(w.standing(), Standing::listed);
  w.clean("zen");
  EXPECT_EQ(w.standing(), Standing::trial);
}

TEST(Delisting, AListedCheckBetweenStartsTheCountAgain) {
  World w;
  w.confirm_listed("zen");
  w.clean("zen");
  w.listed("zen");
  w.clean("zen");
  EXPECT_EQ(w.standing(), Standing::listed);
}

TEST(Delisting, NeverComesByATimer) {
  World w;
  w.confirm_listed("zen");
  for (int i = 0; i < 1000; ++i) w.pass(24h);
  EXPECT_EQ(w.standing(), Standing::listed);
}

TEST(Delisting, WaitsForTheListToSettle) {
  World w;
  w.lists["zen"].settle = 24h;
  w.confirm_listed("zen");
  for (int i = 0; i < 10; ++i) w.clean("zen");
  w.now += 23h;
  w.clean("zen");
  EXPECT_EQ(w.standing(), Standing::listed);
  w.now += 1h;
  w.clean("zen");
  EXPECT_EQ(w.standing(), Standing::trial);
}

TEST(Delisting, SettlesAgainAfterARelapse) {
  World w;
  w.lists["zen"].settle = 24h;
  w.confirm_listed("zen");
  w.clean("zen");
  w.now += 23h;
  w.listed("zen");
  w.clean("zen");
  w.now += 2h;
  w.clean("zen");
  EXPECT_EQ(w.standing(), Standing::listed);
}

TEST(Delisting, OfOneListLeavesTheOthersCounting) {
  World w;
  w.confirm_listed("zen");
  w.confirm_listed("half");
  w.confirm_clean("half");
  EXPECT_EQ(w.standing(), Standing::listed);
}

TEST(Delisting, BelowTheThresholdIsEnough) {
  World w;
  w.lists["other"] = list(0.5);
  w.confirm_listed("half");
  w.confirm_listed("other");
  EXPECT_EQ(w.standing(), Standing::listed);
  w.confirm_clean("half");
  EXPECT_EQ(w.standing(), Standing::trial);
}

TEST(Delisting, OfAListThatDidNotMatterNeedsNoTrial) {
  World w;
  w.confirm_listed("fifth");
  w.confirm_clean("fifth");
  EXPECT_EQ(w.standing(), Standing::clean);
}

TEST(Delisting, ForOneProviderTriesOnlyThere) {
  World w;
  w.confirm_listed("ms");
  w.confirm_clean("ms");
  EXPECT_EQ(w.standing("microsoft"), Standing::trial);
  EXPECT_EQ(w.standing("google"), Standing::clean);
}

TEST(Delisting, ComesWhenTheListIsWithdrawn) {
  World w;
  w.confirm_listed("zen");
  w.fold(ListWithdrawn{"zen"});
  EXPECT_EQ(w.score(), 0);
  EXPECT_EQ(w.standing(), Standing::trial);
}

TEST(Delisting, AWithdrawnListThatListsNothingChangesNothing) {
  World w;
  w.clean("zen");
  EXPECT_TRUE(w.fold(ListWithdrawn{"zen"}).empty());
  EXPECT_EQ(w.standing(), Standing::clean);
}

TEST(Delisting, AListThatIsNoLongerConfiguredDoesNotCount) {
  World w;
  w.confirm_listed("zen");
  w.lists.erase("zen");
  EXPECT_EQ(w.score(), 0);
}

// ---- a receiver's own word
// ---------------------------------------------------------------------------------------

TEST(Block, IsForThatProviderOnly) {
  World w;
  w.clean("zen");
  w.refused("google");
  EXPECT_EQ(w.standing("google"), Standing::blocked);
  EXPECT_EQ(w.view("google").share, 0);
  EXPECT_EQ(w.standing("yahoo"), Standing::clean);
  EXPECT_EQ(w.standing(), Standing::clean);
}

TEST(Block, EndsWithItsCooldown) {
  World w;
  w.refused("google");
  EXPECT_EQ(w.view("google").until, w.now + 15min);
  w.pass(15min - 1ms);
  EXPECT_EQ(w.standing("google"), Standing::blocked);
  w.pass(1ms);
  EXPECT_EQ(w.standing("google"), Standing::trial);
}

TEST(Block, CooldownDoublesUpToItsCap) {
  World w;
  Duration expected = 15min;
  for (int i = 0; i < 12; ++i) {
    w.refused("google");
    EXPECT_EQ(w.view("google").until, w.now + expected) << i;
    w.pass(expected);
    expected = std::min<Duration>(expected * 2, 24h);
  }
}

TEST(Block, LateRepliesOfTheSameBlockAreNoSecondStrike) {
  World w;
  w.refused("google");
  const auto until = w.view("google").until;
  for (int i = 0; i < 50; ++i) {
    w.now += 10s;
    EXPECT_TRUE(w.refused("google").empty());
  }
  EXPECT_EQ(w.view("google").until, until);
  w.now = *until;
  w.pass(0ms);
  w.refused("google");
  EXPECT_EQ(w.view("google").until, w.now + 30min);
}

TEST(Block, StrikesAreForgottenAfterALongGoodTime) {
  World w;
  for (int i = 0; i < 4; ++i) {
    w.refused("google");
    w.pass(24h);
  }
  w.pass(30 * 24h);
  w.refused("google");
  EXPECT_EQ(w.view("google").until, w.now + 15min);
}

TEST(Block, StrikesAreCountedForEachProvider) {
  World w;
  w.refused("google");
  w.pass(15min);
  w.refused("google");
  w.refused("yahoo");
  EXPECT_EQ(w.view("google").until, w.now + 30min);
  EXPECT_EQ(w.view("yahoo").until, w.now + 15min);
}

TEST(Block, OverPtrOrEhloIsAMisconfiguration) {
  World w;
  w.refused("google", Label::ip_config);
  EXPECT_EQ(w.standing("google"), Standing::misconfigured);
  w.pass(15min);
  EXPECT_EQ(w.standing("google"), Standing::trial);
}

TEST(Block, AConfirmedListingOutlastsTheCooldown) {
  World w;
  w.refused("google", Label::ip_blocked, "zen");
  w.confirm_listed("zen");
  w.pass(24h);
  EXPECT_EQ(w.standing("google"), Standing::listed);
}

// ---- the way back
// ------------------------------------------------------------------------------------------------

/// Blocked at google, and the cool-down just over.
World returning() {
  World w;
  w.clean("zen");
  w.refused("google");
  w.pass(15min);
  EXPECT_EQ(w.standing("google"), Standing::trial);
  return w;
}

TEST(Return, ATrialAsksForSuccesses) {
  const World w = returning();
  EXPECT_TRUE(w.view("google").wants_successes);
  EXPECT_DOUBLE_EQ(w.view("google").share, 0.10);
}

TEST(Return, ATrialDoesNotEndByATimer) {
  World w = returning();
  for (int i = 0; i < 100; ++i) w.pass(24h);
  EXPECT_EQ(w.standing("google"), Standing::trial);
}

TEST(Return, SuccessesEndATrial) {
  World w = returning();
  w.delivered("google", w.policy.trial_successes - 1);
  EXPECT_EQ(w.standing("google"), Standing::trial);
  w.delivered("google");
  EXPECT_EQ(w.standing("google"), Standing::warming);
}

TEST(Return, SuccessesElsewhereDoNotEndATrial) {
  World w = returning();
  w.delivered("yahoo", 100);
  EXPECT_EQ(w.standing("google"), Standing::trial);
}

TEST(Return, WarmingGrowsInStepsToTheFullWeight) {
  World w = returning();
  w.delivered("google", w.policy.trial_successes);
  for (const double share : {0.10, 0.25, 0.50}) {
    EXPECT_EQ(w.standing("google"), Standing::warming);
    EXPECT_DOUBLE_EQ(w.view("google").share, share);
    EXPECT_EQ(w.view("google").until, w.now + 1h);
    w.pass(1h - 1ms);
    EXPECT_DOUBLE_EQ(w.view("google").share, share);
    w.pass(1ms);
  }
  EXPECT_EQ(w.standing("google"), Standing::clean);
  EXPECT_DOUBLE_EQ(w.view("google").share, 1.0);
}

TEST(Return, ARelapseSendsItBack) {
  for (const int successes : {0, 3}) {
    World w = returning();
    w.delivered("google", successes);
    w.refused("google");
    EXPECT_EQ(w.standing("google"), Standing::blocked);
    EXPECT_EQ(w.view("google").until, w.now + 30min);
    w.pass(30min);
    EXPECT_EQ(w.standing("google"), Standing::trial);
  }
}

TEST(Return, ANewListingSendsItBack) {
  World w;
  w.confirm_listed("zen");
  w.confirm_clean("zen");
  w.delivered("google", 3);
  EXPECT_EQ(w.standing(), Standing::warming);
  w.confirm_listed("zen");
  EXPECT_EQ(w.standing(), Standing::listed);
  w.confirm_clean("zen");
  EXPECT_EQ(w.standing(), Standing::trial);
}

TEST(Return, FromAListingIsByTrialWithEverybody) {
  World w;
  w.confirm_listed("zen");
  w.confirm_clean("zen");
  EXPECT_EQ(w.standing("google"), Standing::trial);
  EXPECT_EQ(w.standing("yahoo"), Standing::trial);
}

// ---- throttling
// --------------------------------------------------------------------------------------------------

TEST(Throttle, IsNotABlock) {
  World w;
  w.clean("zen");
  w.refused("yahoo", Label::ip_throttled);
  EXPECT_EQ(w.standing("yahoo"), Standing::throttled);
  EXPECT_TRUE(in_service(w.standing("yahoo")));
  EXPECT_DOUBLE_EQ(w.view("yahoo").share, 1.0);
  EXPECT_EQ(w.standing("google"), Standing::clean);
}

TEST(Throttle, GoesDownByHalvesToAFloor) {
  World w;
  double last = 1.0;
  for (int i = 0; i < 3; ++i) {
    w.refused("yahoo", Label::ip_throttled);
    EXPECT_DOUBLE_EQ(w.view("yahoo").throttle, last / 2);
    last /= 2;
    w.now += 10s;
  }
  for (int i = 0; i < 100; ++i) {
    w.refused("yahoo", Label::ip_throttled);
    w.now += 10s;
  }
  EXPECT_GT(w.view("yahoo").throttle, 0.0);
}

TEST(Throttle, ABurstOfRepliesIsOneObservation) {
  World w;
  for (int i = 0; i < 20; ++i) w.refused("yahoo", Label::ip_throttled);
  EXPECT_DOUBLE_EQ(w.view("yahoo").throttle, 0.5);
}

TEST(Throttle, GoesUpBySteadySteps) {
  World w;
  w.clean("zen");
  w.refused("yahoo", Label::ip_throttled);
  w.delivered("yahoo");
  const double step = w.view("yahoo").throttle - 0.5;
  EXPECT_GT(step, 0);
  w.delivered("yahoo");
  EXPECT_NEAR(w.view("yahoo").throttle, 0.5 + 2 * step, 1e-9);
  w.delivered("yahoo", 1000);
  EXPECT_EQ(w.standing("yahoo"), Standing::clean);
  EXPECT_DOUBLE_EQ(w.view("yahoo").throttle, 1.0);
}

TEST(Throttle, OfAQuietProviderIsNotForEver) {
  World w;
  w.clean("zen");
  w.refused("yahoo", Label::ip_throttled);
  for (int i = 0; i < 24; ++i) w.pass(1h);
  EXPECT_EQ(w.standing("yahoo"), Standing::clean);
}

// ---- by hand, and the source's own faults
// ------------------------------------------------------------------------

TEST(Drain, TakesASourceOutUntilItIsResumed) {
  World w;
  w.clean("zen");
  w.fold(Drain{});
  EXPECT_EQ(w.standing("google"), Standing::drained);
  w.pass(365 * 24h);
  w.clean("zen");
  w.delivered("google", 100);
  EXPECT_EQ(w.standing("google"), Standing::drained);
  w.fold(Resume{});
  EXPECT_EQ(w.standing("google"), Standing::clean);
}

TEST(Drain, MayBeForOneProvider) {
  World w;
  w.clean("zen");
  w.fold(Drain{"google"});
  EXPECT_EQ(w.standing("google"), Standing::drained);
  EXPECT_EQ(w.standing("yahoo"), Standing::clean);
  w.fold(Resume{"google"});
  EXPECT_EQ(w.standing("google"), Standing::clean);
}

TEST(Drain, ResumeForAllEndsEveryDrain) {
  World w;
  w.clean("zen");
  w.fold(Drain{});
  w.fold(Drain{"google"});
  w.fold(Resume{});
  EXPECT_EQ(w.standing("google"), Standing::clean);
}

TEST(Drain, ResumeDoesNotForgiveAListing) {
  World w;
  w.confirm_listed("zen");
  w.fold(Drain{});
  w.fold(Resume{});
  EXPECT_EQ(w.standing(), Standing::listed);
}

TEST(SourceFault, RestsForATimeThatGrows) {
  World w;
  w.clean("zen");
  Duration last{0};
  for (int i = 0; i < 10; ++i) {
    w.fold(SourceFault{"address cannot be used"});
    EXPECT_EQ(w.standing("google"), Standing::misconfigured);
    const Duration rest = *w.view().until - w.now;
    EXPECT_GE(rest, last);
    EXPECT_LE(rest, 1h);
    last = rest;
    w.pass(rest);
    EXPECT_EQ(w.standing("google"), Standing::clean);
  }
  EXPECT_GT(last, 5s);
}

TEST(SourceFault, EndsWhenTheSourceWorks) {
  World w;
  w.clean("zen");
  w.fold(SourceFault{"address cannot be used"});
  w.fold(SourceWorks{});
  EXPECT_EQ(w.standing(), Standing::clean);
}

// ---- transitions
// -------------------------------------------------------------------------------------------------

TEST(Transitions, SayWhatWasSeenAndWhichRule) {
  World w;
  w.clean("zen");
  w.listed("zen");
  const auto out = w.listed("zen");
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].provider, "");
  EXPECT_EQ(out[0].from, Standing::clean);
  EXPECT_EQ(out[0].to, Standing::listed);
  EXPECT_EQ(out[0].blocklist, "zen");
  EXPECT_FALSE(out[0].rule.empty());
  EXPECT_NE(out[0].text.find("127.0.0.2"), std::string::npos);
}

TEST(Transitions, OfABlockNameProviderRuleAndEnd) {
  World w;
  w.clean("zen");
  const auto out = w.refused("google");
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].provider, "google");
  EXPECT_EQ(out[0].to, Standing::blocked);
  EXPECT_EQ(out[0].rule, "some-rule");
  EXPECT_EQ(out[0].text, "550 blocked");
  EXPECT_EQ(out[0].until, w.now + 15min);
}

TEST(Transitions, OfAProvidersListNameTheProvider) {
  World w;
  w.clean("zen");
  w.listed("ms");
  const auto out = w.listed("ms");
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].provider, "microsoft");
  EXPECT_EQ(out[0].from, Standing::clean);
}

TEST(Transitions, AreNotRepeatedForWhatStaysTheSame) {
  World w;
  w.confirm_listed("zen");
  EXPECT_TRUE(w.listed("zen").empty());
  EXPECT_TRUE(w.pass(1h).empty());
}

// ---- poison: evidence taken back
// ---------------------------------------------------------------------------------

/// A refusal by google of message `id`.
Refused refusal(std::uint64_t id, std::string blocklist = {}, Label label = Label::ip_blocked) {
  return {"google", label, std::move(blocklist), "some-rule", "550 blocked " + std::to_string(id), id};
}

TEST(Withdrawn, TakesBackTheBlockOfItsMessage) {
  World w;
  w.clean("zen");
  w.fold(refusal(1));
  const auto out = w.fold(Withdrawn{"google", 1});
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].from, Standing::blocked);
  EXPECT_EQ(out[0].to, Standing::clean);
  EXPECT_EQ(out[0].rule, "poison");
  EXPECT_EQ(w.state.providers.at("google").strikes, 0);
  w.fold(refusal(2));
  EXPECT_EQ(w.view("google").until, w.now + 15min);
}

TEST(Withdrawn, LeavesWhatAnotherMessageSupports) {
  World w;
  w.fold(refusal(1));
  w.now += 1min;
  w.fold(refusal(2));
  w.now += 1min;
  w.fold(Withdrawn{"google", 1});
  EXPECT_EQ(w.standing("google"), Standing::blocked);
  EXPECT_EQ(w.view("google").until, w.now + 14min);
  EXPECT_EQ(w.state.providers.at("google").strikes, 1);
  w.fold(Withdrawn{"google", 2});
  EXPECT_TRUE(in_service(w.standing("google")));
  EXPECT_EQ(w.state.providers.at("google").strikes, 0);
}

TEST(Withdrawn, OfALaterSupporterChangesNothing) {
  World w;
  w.fold(refusal(1));
  const auto until = w.view("google").until;
  w.now += 1min;
  w.fold(refusal(2));
  EXPECT_TRUE(w.fold(Withdrawn{"google", 2}).empty());
  EXPECT_EQ(w.view("google").until, until);
}

TEST(Withdrawn, LeavesWhatAnUnknownMessageSupports) {
  World w;
  w.fold(refusal(1));
  w.fold(refusal(0));
  w.fold(Withdrawn{"google", 1});
  w.fold(Withdrawn{"google", 0});
  EXPECT_EQ(w.standing("google"), Standing::blocked);
}

TEST(Withdrawn, LeavesABlockOfMoreMessagesThanAreKept) {
  World w;
  for (std::uint64_t id = 1; id <= 20; ++id) w.fold(refusal(id));
  for (std::uint64_t id = 1; id <= 8; ++id) w.fold(Withdrawn{"google", id});
  EXPECT_EQ(w.standing("google"), Standing::blocked);
}

TEST(Withdrawn, IsForThatProviderOnly) {
  World w;
  w.fold(refusal(1));
  EXPECT_TRUE(w.fold(Withdrawn{"yahoo", 1}).empty());
  EXPECT_EQ(w.standing("google"), Standing::blocked);
  EXPECT_FALSE(w.state.providers.contains("yahoo"));
}

TEST(Withdrawn, TakesBackATrialThatItsBlockLedTo) {
  World w;
  w.clean("zen");
  w.fold(refusal(1));
  w.pass(15min);
  ASSERT_EQ(w.standing("google"), Standing::trial);
  w.fold(Withdrawn{"google", 1});
  EXPECT_EQ(w.standing("google"), Standing::clean);
}

TEST(Withdrawn, GivesBackTheWayBackThatWasInterrupted) {
  World w;
  w.clean("zen");
  w.fold(refusal(1));
  w.pass(15min);
  w.delivered("google", 3);
  w.pass(1h);
  ASSERT_DOUBLE_EQ(w.view("google").share, 0.25);
  w.fold(refusal(2));
  w.fold(Withdrawn{"google", 2});
  EXPECT_EQ(w.standing("google"), Standing::warming);
  EXPECT_DOUBLE_EQ(w.view("google").share, 0.25);
  EXPECT_EQ(w.state.providers.at("google").strikes, 1);
}

TEST(Withdrawn, OfAnEarlierBlockShortensTheLaterOne) {
  World w;
  w.fold(refusal(1));
  w.pass(15min);
  w.fold(refusal(2));
  ASSERT_EQ(w.view("google").until, w.now + 30min);
  w.fold(Withdrawn{"google", 1});
  EXPECT_EQ(w.view("google").until, w.now + 15min);
  EXPECT_EQ(w.state.providers.at("google").strikes, 1);
  w.fold(Withdrawn{"google", 2});
  EXPECT_TRUE(in_service(w.standing("google")));
  EXPECT_DOUBLE_EQ(w.view("google").share, 1.0);
}

TEST(Withdrawn, AShortenedBlockThatIsOverIsATrial) {
  World w;
  w.fold(refusal(1));
  w.pass(15min);
  w.fold(refusal(2));
  w.pass(20min);
  ASSERT_EQ(w.standing("google"), Standing::blocked);
  w.fold(Withdrawn{"google", 1});
  EXPECT_EQ(w.standing("google"), Standing::trial);
}

TEST(Withdrawn, OfTwoBlocksInEitherOrderLeavesNothing) {
  for (const bool first_first : {true, false}) {
    World w;
    w.clean("zen");
    w.fold(refusal(1));
    w.pass(15min);
    w.delivered("google");
    w.fold(refusal(2));
    w.pass(1min);
    w.fold(Withdrawn{"google", first_first ? 1u : 2u});
    w.fold(Withdrawn{"google", first_first ? 2u : 1u});
    EXPECT_EQ(w.standing("google"), Standing::clean);
    EXPECT_EQ(w.state.providers.at("google").strikes, 0);
  }
}

TEST(Withdrawn, InEveryOrderWithOtherMessagesLeavesWhatTheyAloneDid) {
  // Message 9 is poison; 1 and 2 are not. Whatever comes first, at the end only 1 and 2 count.
  std::vector<int> order{1, 2, 9, -9};
  std::ranges::sort(order);
  do {
    if (std::ranges::find(order, 9) > std::ranges::find(order, -9)) continue;
    World with, without;
    for (const int step : order) {
      with.pass(1min);
      without.pass(1min);
      if (step == -9) {
        with.fold(Withdrawn{"google", 9});
        continue;
      }
      with.fold(refusal(static_cast<std::uint64_t>(step)));
      if (step != 9) without.fold(refusal(static_cast<std::uint64_t>(step)));
    }
    EXPECT_EQ(with.view("google").until, without.view("google").until);
    EXPECT_EQ(with.standing("google"), without.standing("google"));
    EXPECT_EQ(with.state.providers["google"].strikes, without.state.providers["google"].strikes);
  } while (std::ranges::next_permutation(order).found);
}

TEST(Withdrawn, TakesBackTheWordOnAList) {
  World w;
  w.fold(refusal(1, "zen"));
  w.fold(Withdrawn{"google", 1});
  w.listed("zen");
  EXPECT_TRUE(in_service(w.standing("yahoo")));
}

TEST(Withdrawn, LeavesTheWordOfAnotherMessageOnTheList) {
  World w;
  w.fold(refusal(1, "zen"));
  w.fold(refusal(2, "zen"));
  w.fold(Withdrawn{"google", 1});
  w.listed("zen");
  EXPECT_EQ(w.standing("yahoo"), Standing::listed);
}

TEST(Withdrawn, TakesBackAListingThatOnlyItsWordConfirmed) {
  World w;
  w.fold(refusal(1, "zen"));
  w.listed("zen");
  ASSERT_EQ(w.standing("yahoo"), Standing::listed);
  w.fold(Withdrawn{"google", 1});
  EXPECT_TRUE(in_service(w.standing("yahoo")));
  w.listed("zen");
  EXPECT_EQ(w.standing("yahoo"), Standing::listed);
}

TEST(Withdrawn, LeavesAListingThatChecksConfirmed) {
  World w;
  w.fold(refusal(1, "zen"));
  w.confirm_listed("zen");
  w.fold(Withdrawn{"google", 1});
  EXPECT_EQ(w.standing("google"), Standing::listed);
}

TEST(Withdrawn, SparesNoTrialThatAListingLeftBehind) {
  World w;
  w.fold(refusal(1));
  w.confirm_listed("ms");
  w.fold(Refused{"microsoft", Label::ip_blocked, "", "r", "550", 1});
  w.confirm_clean("ms");
  w.fold(Withdrawn{"microsoft", 1});
  EXPECT_EQ(w.standing("microsoft"), Standing::trial);
}

TEST(Withdrawn, LeavesThrottling) {
  World w;
  w.clean("zen");
  w.fold(refusal(1, "", Label::ip_throttled));
  w.fold(Withdrawn{"google", 1});
  EXPECT_EQ(w.standing("google"), Standing::throttled);
}

TEST(Withdrawn, OfAMessageThatDidNothingChangesNothing) {
  World w;
  w.fold(refusal(1));
  const auto until = w.view("google").until;
  EXPECT_TRUE(w.fold(Withdrawn{"google", 77}).empty());
  EXPECT_EQ(w.view("google").until, until);
}

// ---- jitter, strikes, caps
// ---------------------------------------------------------------------------------------

TEST(Block, SourcesBlockedTogetherDoNotReturnTogether) {
  World early, late;
  Refused refused = refusal(1);
  early.fold(refused);
  refused.jitter = 1;
  late.fold(refused);
  EXPECT_EQ(early.view("google").until, early.now + 15min);
  EXPECT_EQ(late.view("google").until, late.now + 15min + 90s);
}

TEST(Block, AStrikeIsForgottenForEachLongestCooldownWithoutABlock) {
  World w;
  for (int i = 0; i < 3; ++i) {
    w.refused("google");
    w.pass(*w.view("google").until - w.now);
  }
  ASSERT_EQ(w.state.providers.at("google").strikes, 3);
  w.pass(24h - 1ms);
  EXPECT_EQ(w.state.providers.at("google").strikes, 3);
  w.pass(1ms);
  EXPECT_EQ(w.state.providers.at("google").strikes, 2);
  w.refused("google");
  EXPECT_EQ(w.view("google").until, w.now + 1h);
}

TEST(Block, NoStrikeIsForgottenWhileItLasts) {
  World w;
  w.policy.cooldown_first = 20h;
  w.policy.cooldown_max = 20h;
  w.refused("google");
  w.pass(20h);
  w.refused("google");
  w.pass(20h - 1ms);
  EXPECT_EQ(w.state.providers.at("google").strikes, 2);
}

TEST(Return, ASourceThatIsOutMeanwhileWarmsNothing) {
  World w = returning();
  w.delivered("google", 3);
  w.fold(Drain{});
  for (int i = 0; i < 100; ++i) w.pass(1h);
  w.fold(Resume{});
  EXPECT_EQ(w.standing("google"), Standing::warming);
  EXPECT_DOUBLE_EQ(w.view("google").share, 0.10);
}

TEST(Return, SaysHowManyRecipientsADayItMayHave) {
  World w = returning();
  EXPECT_EQ(w.view("google").per_day, std::nullopt);
  w.policy.warmup_caps = {100, 500};
  EXPECT_EQ(w.view("google").per_day, 100u);
  w.delivered("google", 3);
  EXPECT_EQ(w.view("google").per_day, 100u);
  w.pass(1h);
  EXPECT_EQ(w.view("google").per_day, 500u);
  w.pass(1h);
  EXPECT_EQ(w.view("google").per_day, std::nullopt);
  EXPECT_EQ(w.view("yahoo").per_day, std::nullopt);
}

TEST(Providers, WithNothingParticularAreForgotten) {
  World w;
  w.refused("google", Label::ip_throttled);
  w.delivered("google", 1000);
  w.fold(Drain{"yahoo"});
  w.fold(Resume{"yahoo"});
  w.pass(1s);
  EXPECT_TRUE(w.state.providers.empty());
}

TEST(Providers, AreBounded) {
  World w;
  w.fold(Drain{"kept"});
  for (int i = 0; i < 1100; ++i) {
    w.now += 1s;
    w.refused("mx" + std::to_string(i) + ".example");
  }
  EXPECT_LE(w.state.providers.size(), 1000u);
  EXPECT_EQ(w.standing("kept"), Standing::drained);
  EXPECT_EQ(w.standing("mx1099.example"), Standing::blocked);
}

// ---- rules that only observe
// -------------------------------------------------------------------------------------

TEST(ObservedList, NeverRoutesAndSaysWhatItWouldHaveDone) {
  World w;
  w.lists["zen"].observe = true;
  w.clean("half");
  w.listed("zen");
  const auto out = w.listed("zen");
  EXPECT_EQ(w.standing(), Standing::clean);
  EXPECT_EQ(w.score(), 0);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_TRUE(out[0].observed);
  EXPECT_EQ(out[0].from, Standing::clean);
  EXPECT_EQ(out[0].to, Standing::listed);
  EXPECT_EQ(out[0].blocklist, "zen");
  EXPECT_TRUE(w.listed("zen").empty());
  w.clean("zen");
  const auto back = w.clean("zen");
  ASSERT_EQ(back.size(), 1u);
  EXPECT_TRUE(back[0].observed);
  EXPECT_EQ(back[0].to, Standing::clean);
}

TEST(ObservedList, WouldHaveTippedTheScale) {
  World w;
  w.lists["half"].observe = true;
  w.lists["other"] = list(0.5);
  w.confirm_listed("other");
  w.listed("half");
  const auto out = w.listed("half");
  ASSERT_EQ(out.size(), 1u);
  EXPECT_TRUE(out[0].observed);
  EXPECT_EQ(w.standing(), Standing::clean);
}

TEST(ObservedList, HasNothingToAddWhereTheSourceIsOutAnyway) {
  World w;
  w.lists["half"].observe = true;
  w.confirm_listed("zen");
  w.listed("half");
  EXPECT_TRUE(w.listed("half").empty());
}

TEST(ObservedList, PolicyListingsOfItPutNobodyOut) {
  World w;
  w.lists["zen"].observe = true;
  w.clean("half");
  w.listed("zen", {"127.0.0.10"}, true);
  const auto out = w.listed("zen", {"127.0.0.10"}, true);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].to, Standing::misconfigured);
  EXPECT_EQ(w.standing(), Standing::clean);
}

TEST(ObservedList, ForOneProviderNamesIt) {
  World w;
  w.lists["ms"].observe = true;
  w.clean("zen");
  w.listed("ms");
  const auto out = w.listed("ms");
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].provider, "microsoft");
  EXPECT_EQ(w.standing("microsoft"), Standing::clean);
}

TEST(ObservedRefusal, BlocksNobodyAndIsToldOnceACooldown) {
  World w;
  w.clean("zen");
  Refused refused = refusal(1, "zen");
  refused.observe = true;
  const auto out = w.fold(refused);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_TRUE(out[0].observed);
  EXPECT_EQ(out[0].to, Standing::blocked);
  EXPECT_EQ(out[0].rule, "some-rule");
  EXPECT_EQ(out[0].until, w.now + 15min);
  EXPECT_EQ(w.standing("google"), Standing::clean);
  EXPECT_TRUE(w.state.vouched.empty());
  EXPECT_TRUE(w.fold(refused).empty());
  w.pass(15min);
  EXPECT_EQ(w.fold(refused).size(), 1u);
}

// ---- properties
// --------------------------------------------------------------------------------------------------

/// What a state looks like from outside.
std::string picture(const World& w) {
  std::string out;
  for (const auto provider : {"", "google", "yahoo", "microsoft"}) {
    const StandingView v = w.view(provider);
    out += std::string(to_string(v.standing)) + " " + std::to_string(v.share) + " " + std::to_string(v.throttle) + " " +
           v.reason + " " + (v.until ? to_rfc3339(*v.until) : "-") + " " + std::to_string(w.score(provider)) + "\n";
  }
  return out;
}

Evidence random_evidence(std::mt19937& random) {
  static const std::vector<std::string> names{"zen", "half", "fifth", "a15", "b15", "ms"},
      providers{"google", "yahoo", "microsoft"};
  const std::string name = names[random() % names.size()], provider = providers[random() % providers.size()];
  switch (random() % 12) {
    case 0:
    case 1:
    case 2:
      return ListChecked{name, {Result::listed, random() % 8 == 0, {"127.0.0.2"}, {}}, {}};
    case 3:
    case 4:
      return ListChecked{name, {Result::clean, false, {}, {}}, {}};
    case 5:
      return Refused{provider, Label::ip_blocked, random() % 2 ? name : "", "r", "blocked"};
    case 6:
      return Refused{provider, Label::ip_throttled, "", "r", "slow"};
    case 7:
      return Refused{provider, Label::ip_config, "", "r", "ptr"};
    case 8:
      return Delivered{provider};
    case 9:
      return ListWithdrawn{name};
    case 10:
      return SourceFault{"address"};
    default:
      return Tick{};
  }
}

TEST(StandingProperty, UnknownAnswersNeverChangeAnything) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    World w;
    for (int i = 0; i < 60; ++i) {
      w.fold(random_evidence(random));
      w.now += Duration(random() % 600'000);
      const std::string before = picture(w);
      for (const auto& [name, definition] : w.lists) EXPECT_TRUE(w.unknown(name).empty());
      ASSERT_EQ(picture(w), before);
    }
  }
}

TEST(StandingProperty, UnknownAnswersBetweenDoNotChangeTheOutcome) {
  std::mt19937 random(2);
  for (int round = 0; round < 300; ++round) {
    World with, without;
    for (int i = 0; i < 60; ++i) {
      const Evidence evidence = random_evidence(random);
      with.now = without.now = with.now + Duration(random() % 600'000);
      with.fold(evidence);
      without.fold(evidence);
      with.unknown(i % 2 ? "zen" : "half");
      ASSERT_EQ(picture(with), picture(without));
    }
  }
}

TEST(StandingProperty, AClockThatStandsStillNeverUnejects) {
  std::mt19937 random(3);
  for (int round = 0; round < 500; ++round) {
    World w;
    w.clean("zen");
    for (int i = 0; i < 40; ++i) {
      w.fold(random_evidence(random));
      w.now += Duration(random() % 600'000);
    }
    w.fold(Tick{});
    for (int i = 0; i < 40; ++i) {
      std::vector<bool> was_out;
      for (const auto provider : {"", "google", "yahoo", "microsoft"}) was_out.push_back(!in_service(w.standing(provider)));
      const Evidence evidence = random_evidence(random);
      // A check that finds a listing gone is evidence, and a withdrawn list too: those need no clock.
      if (std::holds_alternative<ListWithdrawn>(evidence)) continue;
      if (const auto* check = std::get_if<ListChecked>(&evidence); check && check->judgement.result == Result::clean) continue;
      // A list that calls its listing policy in one check and plain in the next has changed its evidence as
      // well.
      if (const auto* check = std::get_if<ListChecked>(&evidence);
          check && !check->judgement.policy && w.state.listings.contains(check->blocklist))
        continue;
      w.fold(evidence);
      std::size_t k = 0;
      for (const auto provider : {"", "google", "yahoo", "microsoft"}) {
        if (was_out[k++]) ASSERT_FALSE(in_service(w.standing(provider))) << provider;
      }
    }
  }
}

TEST(StandingProperty, TheSameEvidenceGivesTheSameStanding) {
  for (unsigned seed = 0; seed < 100; ++seed) {
    World a, b;
    std::mt19937 first(seed), second(seed);
    for (int i = 0; i < 50; ++i) {
      a.fold(random_evidence(first));
      b.fold(random_evidence(second));
    }
    ASSERT_EQ(picture(a), picture(b));
  }
}

TEST(StandingProperty, OutOfServiceAndAShareOfZeroAreTheSame) {
  std::mt19937 random(4);
  for (int round = 0; round < 300; ++round) {
    World w;
    for (int i = 0; i < 60; ++i) {
      w.fold(random_evidence(random));
      w.now += Duration(random() % 600'000);
      for (const auto provider : {"", "google", "microsoft"})
        ASSERT_EQ(in_service(w.standing(provider)), w.view(provider).share > 0);
    }
  }
}

TEST(StandingProperty, EveryChangeOfAStandingIsTold) {
  std::mt19937 random(5);
  for (int round = 0; round < 300; ++round) {
    World w;
    for (int i = 0; i < 60; ++i) {
      w.now += Duration(random() % 600'000);
      const Standing before = w.standing("google"), before_all = w.standing();
      const auto told = w.fold(random_evidence(random));
      const auto names = [&](std::string_view provider) {
        return std::ranges::any_of(told, [&](const Transition& t) { return t.provider == provider; });
      };
      if (w.standing() != before_all) ASSERT_TRUE(names(""));
      if (w.standing("google") != before) ASSERT_TRUE(names("google") || names(""));
    }
  }
}

// ---- smarthosts
// --------------------------------------------------------------------------------------------------

TEST(SmarthostRest, GrowsToACap) {
  SmarthostState s;
  Time now{std::chrono::hours(1000)};
  Duration last{0};
  for (int i = 0; i < 20; ++i) {
    smarthost_refused(s, "quota", now);
    const Duration rest = *s.resting_until - now;
    EXPECT_GE(rest, last);
    EXPECT_LE(rest, 1h);
    last = rest;
    now = *s.resting_until;
  }
  EXPECT_EQ(last, 1h);
}

TEST(SmarthostRest, IsNotProlongedByLateRefusals) {
  SmarthostState s;
  const Time now{std::chrono::hours(1000)};
  smarthost_refused(s, "quota", now);
  const auto until = s.resting_until;
  smarthost_refused(s, "quota again", now + 10s);
  EXPECT_EQ(s.resting_until, until);
}

TEST(SmarthostRest, IsForgottenAfterADelivery) {
  SmarthostState s;
  const Time now{std::chrono::hours(1000)};
  for (int i = 0; i < 10; ++i) smarthost_refused(s, "quota", now + i * 2h);
  smarthost_delivered(s, now + 20h);
  EXPECT_FALSE(s.resting_until);
  smarthost_refused(s, "quota", now);
  EXPECT_EQ(s.resting_until, now + 1min);
}

}  // namespace
}  // namespace egret::routing
