#include "routing/blocklist.hpp"

#include <gtest/gtest.h>

#include <random>

#include "routing/standing.hpp"

namespace egret::routing {
namespace {

using Result = Judgement::Result;
using Status = DnsAnswer::Status;

IpAddress ip(std::string_view text) {
  return *IpAddress::parse(text);
}

DnsAnswer answer(std::initializer_list<std::string_view> addresses) {
  DnsAnswer out;
  out.status = Status::answer;
  for (const auto a : addresses) out.addresses.push_back(ip(a));
  return out;
}

DnsAnswer status(Status s, std::string error = {}) {
  return {s, {}, std::move(error)};
}
const DnsAnswer nxdomain = status(Status::nxdomain);

Blocklist zen() {
  Blocklist out;
  out.name = "zen";
  out.zone = "zen.spamhaus.org";
  out.codes = {{ip("127.0.0.2"), CodeMeaning::listed},
               {ip("127.0.0.4"), CodeMeaning::listed},
               {ip("127.0.0.10"), CodeMeaning::policy},
               {ip("127.0.0.20"), CodeMeaning::info},
               {ip("127.0.0.30"), CodeMeaning::error}};
  return out;
}

Judgement judged(std::initializer_list<std::string_view> addresses) {
  return judge(answer(addresses), zen());
}

// ---- names
// -------------------------------------------------------------------------------------------------------

TEST(QueryName, ReversesAnIpv4Address) {
  EXPECT_EQ(query_name(ip("192.0.2.99"), "bl.example.net"), "99.2.0.192.bl.example.net");
  EXPECT_EQ(query_name(ip("127.0.0.2"), "zen.spamhaus.org"), "2.0.0.127.zen.spamhaus.org");
}

TEST(QueryName, ReversesAllNibblesOfAnIpv6Address) {
  EXPECT_EQ(query_name(ip("2001:db8:1:2:3:4:567:89ab"), "v6.example.net"),
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.v6.example.net");
  EXPECT_EQ(query_name(ip("::1"), "z"), "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.z");
}

TEST(QueryName, AsksForAMappedAddressAsIpv4) {
  EXPECT_EQ(query_name(ip("::ffff:192.0.2.99"), "z"), "99.2.0.192.z");
}

TEST(QueryName, OfTheIpv6TestPointsIsTheMappedFormInFull) {
  EXPECT_EQ(query_name(ip("::ffff:127.0.0.2"), "z"), "2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.z");
  EXPECT_EQ(query_name(ip("2001:db8::1"), "z"), "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.z");
}

TEST(QueryName, KeepsTheKeyInTheZone) {
  EXPECT_EQ(query_name(ip("192.0.2.1"), "KEY.zen.dq.spamhaus.net"), "1.2.0.192.KEY.zen.dq.spamhaus.net");
}

// ---- one answer
// --------------------------------------------------------------------------------------------------

TEST(Judge, NoAnswerIsUnknown) {
  for (const auto* error : {"SERVFAIL", "timeout", "REFUSED"}) {
    const Judgement j = judge(status(Status::failed, error), zen());
    EXPECT_EQ(j.result, Result::unknown);
    EXPECT_EQ(j.reason, error);
  }
}

TEST(Judge, NxdomainAndNodataAreClean) {
  EXPECT_EQ(judge(nxdomain, zen()).result, Result::clean);
  EXPECT_EQ(judge(status(Status::nodata), zen()).result, Result::clean);
}

TEST(Judge, ADefinedCodeIsAListing) {
  const Judgement j = judged({"127.0.0.2"});
  EXPECT_EQ(j.result, Result::listed);
  EXPECT_FALSE(j.policy);
  EXPECT_EQ(j.codes, std::vector<std::string>{"127.0.0.2"});
}

TEST(Judge, KeepsEveryCodeOfOneAnswer) {
  EXPECT_EQ(judged({"127.0.0.4", "127.0.0.10", "127.0.0.2"}).codes,
            (std::vector<std::string>{"127.0.0.10", "127.0.0.2", "127.0.0.4"}));
}

TEST(Judge, IsAPolicyListingOnlyWhenEveryCodeIsOne) {
  EXPECT_TRUE(judged({"127.0.0.10"}).policy);
  EXPECT_FALSE(judged({"127.0.0.10", "127.0.0.2"}).policy);
}

TEST(Judge, AnUndefinedCodeIsUnknown) {
  for (const auto a : {"127.0.0.1", "127.0.0.3", "127.0.0.99", "127.0.1.2", "127.1.0.2"})
    EXPECT_EQ(judged({a}).result, Result::unknown) << a;
}

TEST(Judge, AnUndefinedCodeBesideADefinedOneIsAListing) {
  EXPECT_EQ(judged({"127.0.0.99", "127.0.0.2"}).result, Result::listed);
}

TEST(Judge, AnAddressOutside127IsUnknownWhateverElseIsSaid) {
  for (const auto a : {"146.112.61.108", "91.195.240.117", "10.0.0.2", "126.0.0.2", "128.0.0.2", "::1", "::ffff:127.0.0.2"}) {
    EXPECT_EQ(judged({a}).result, Result::unknown) << a;
    EXPECT_EQ(judged({"127.0.0.2", a}).result, Result::unknown) << a;
    EXPECT_NE(judged({a}).reason.find("127.0.0.0/8"), std::string::npos) << a;
  }
}

TEST(Judge, AnErrorOfTheListIsUnknownWhateverElseIsSaid) {
  for (const auto a : {"127.255.255.252", "127.255.255.254", "127.255.255.255", "127.255.255.1", "127.0.0.30"}) {
    EXPECT_EQ(judged({a}).result, Result::unknown) << a;
    EXPECT_EQ(judged({"127.0.0.2", a}).result, Result::unknown) << a;
    EXPECT_FALSE(judged({a}).reason.empty());
  }
}

TEST(Judge, AnErrorIsNotBelievedEvenWhenDefinedAsAListing) {
  Blocklist list = zen();
  list.codes[ip("127.255.255.254")] = CodeMeaning::listed;
  EXPECT_EQ(judge(answer({"127.255.255.254"}), list).result, Result::unknown);
}

TEST(Judge, AnInfoCodeIsNoListing) {
  EXPECT_EQ(judged({"127.0.0.20"}).result, Result::clean);
  EXPECT_EQ(judged({"127.0.0.20", "127.0.0.2"}).codes, std::vector<std::string>{"127.0.0.2"});
}

TEST(Judge, AnAnswerWithoutAddressesIsUnknown) {
  EXPECT_EQ(judged({}).result, Result::unknown);
}

TEST(Judge, CanBeToldThat127001IsAListing) {
  Blocklist list = zen();
  list.codes[ip("127.0.0.1")] = CodeMeaning::listed;
  EXPECT_EQ(judge(answer({"127.0.0.1"}), list).result, Result::listed);
}

TEST(Judge, ReadsABitmaskBitByBit) {
  Blocklist list = zen();
  list.bitmask = true;
  const Judgement j = judge(answer({"127.0.0.6"}), list);
  EXPECT_EQ(j.result, Result::listed);
  EXPECT_EQ(j.codes, (std::vector<std::string>{"127.0.0.2", "127.0.0.4"}));
  EXPECT_EQ(judge(answer({"127.0.0.8"}), list).result, Result::unknown);
}

TEST(CodeMeaning, IsReadByName) {
  EXPECT_EQ(parse_code_meaning("listed"), CodeMeaning::listed);
  EXPECT_EQ(parse_code_meaning("policy"), CodeMeaning::policy);
  EXPECT_EQ(parse_code_meaning("info"), CodeMeaning::info);
  EXPECT_EQ(parse_code_meaning("error"), CodeMeaning::error);
  EXPECT_FALSE(parse_code_meaning("block"));
}

TEST(Concern, IsEverybodysByDefault) {
  Blocklist list = zen();
  EXPECT_TRUE(list.concerns_provider("google"));
  list.concerns = {"microsoft"};
  EXPECT_TRUE(list.concerns_provider("microsoft"));
  EXPECT_FALSE(list.concerns_provider("google"));
}

// ---- the list's own health
// ---------------------------------------------------------------------------------------

HealthProbe healthy() {
  return {answer({"127.0.0.2"}), nxdomain, nxdomain};
}

TEST(ListHealth, IsGoodWhenTheTestPointsAre) {
  const Health h = judge_health(healthy(), zen());
  EXPECT_TRUE(h.in_service);
  EXPECT_TRUE(h.answered);
}

TEST(ListHealth, AnEmptyListIsOutOfService) {
  HealthProbe probe = healthy();
  probe.listed = nxdomain;
  EXPECT_FALSE(judge_health(probe, zen()).in_service);
  EXPECT_NE(judge_health(probe, zen()).reason.find("127.0.0.2"), std::string::npos);
}

TEST(ListHealth, AListThatListsTheCleanPointIsOutOfService) {
  HealthProbe probe = healthy();
  probe.clean = answer({"127.0.0.2"});
  EXPECT_FALSE(judge_health(probe, zen()).in_service);
}

TEST(ListHealth, AWildcardIsOutOfService) {
  HealthProbe probe = healthy();
  probe.random = answer({"127.0.0.2"});
  EXPECT_FALSE(judge_health(probe, zen()).in_service);
}

TEST(ListHealth, AListThatRefusesOurResolverIsOutOfServiceAndSaysSo) {
  const DnsAnswer refused = answer({"127.255.255.254"});
  const Health h = judge_health({refused, refused, refused}, zen());
  EXPECT_FALSE(h.in_service);
  EXPECT_TRUE(h.answered);
  EXPECT_NE(h.reason.find("127.255.255.254"), std::string::npos);
}

TEST(ListHealth, AParkedZoneIsOutOfServiceAndSaysSo) {
  const DnsAnswer parked = answer({"91.195.240.117"});
  EXPECT_NE(judge_health({parked, parked, parked}, zen()).reason.find("91.195.240.117"), std::string::npos);
}

TEST(ListHealth, WhereNothingAnswersTheListIsNotToBlame) {
  const DnsAnswer timeout = status(Status::failed, "timeout");
  const Health h = judge_health({timeout, timeout, timeout}, zen());
  EXPECT_FALSE(h.in_service);
  EXPECT_FALSE(h.answered);
}

TEST(ListHealth, AMissingAnswerIsNotGood) {
  const DnsAnswer timeout = status(Status::failed, "timeout");
  for (int i = 0; i < 3; ++i) {
    HealthProbe probe = healthy();
    (i == 0 ? probe.listed : i == 1 ? probe.clean : probe.random) = timeout;
    const Health h = judge_health(probe, zen());
    EXPECT_FALSE(h.in_service) << i;
    EXPECT_TRUE(h.answered) << i;
  }
}

TEST(ListHealth, ATestPointMayBeTurnedOff) {
  Blocklist list = zen();
  list.test_clean.reset();
  EXPECT_TRUE(judge_health({answer({"127.0.0.2"}), answer({"127.0.0.2"}), nxdomain}, list).in_service);
  list = zen();
  list.test_listed.reset();
  EXPECT_TRUE(judge_health({nxdomain, nxdomain, nxdomain}, list).in_service);
}

// ---- keys and hostile text ---------------------------------------------------------------------------------------

TEST(WithoutKey, HidesTheKeyHoweverItIsWritten) {
  Blocklist list = zen();
  list.key = "s3CRETkey";
  EXPECT_EQ(without_key("https://x/?q=2.0.0.127.S3cretKey.zen.dq.example&s3cretkeys3cretkey", list),
            "https://x/?q=2.0.0.127.KEY.zen.dq.example&KEYKEY");
  EXPECT_EQ(without_key("nothing", list), "nothing");
  list.key.clear();
  EXPECT_EQ(without_key("s3cretkey", list), "s3cretkey");
}

TEST(WithoutKey, EndsEvenWhereTheKeyIsPartOfItsReplacement) {
  Blocklist list = zen();
  list.key = "e";
  EXPECT_EQ(without_key("eKe", list), "KEYKKEY");
}

// ---- what cannot be known changes nothing ------------------------------------------------------------------------

TEST(UnknownAnswers, InAnyOrderChangeNoStanding) {
  const std::vector<DnsAnswer> unknowns{status(Status::failed, "SERVFAIL"),
                                        status(Status::failed, "REFUSED"),
                                        status(Status::failed, "timeout"),
                                        answer({"127.255.255.252"}),
                                        answer({"127.255.255.254"}),
                                        answer({"127.255.255.255"}),
                                        answer({"127.0.0.1"}),
                                        answer({"127.0.0.77"}),
                                        answer({"198.51.100.66"}),
                                        answer({"127.0.0.2", "91.195.240.117"}),
                                        answer({"127.0.0.30", "127.0.0.2"}),
                                        answer({})};
  StandingPolicy policy;
  policy.confirm = 1;
  const Blocklists lists{{"zen", zen()}};
  for (const bool was_listed : {false, true}) {
    std::mt19937 random(5);
    SourceState state;
    Time now{std::chrono::hours(1)};
    fold(state, ListChecked{"zen", was_listed ? judged({"127.0.0.2"}) : judge(nxdomain, zen()), {}}, {policy, lists}, now);
    const Standing before = view(state, "", {policy, lists}).standing;
    ASSERT_EQ(before, was_listed ? Standing::listed : Standing::clean);
    for (int i = 0; i < 2000; ++i) {
      now += std::chrono::minutes(5);
      const Judgement j = judge(unknowns[random() % unknowns.size()], zen());
      ASSERT_EQ(j.result, Result::unknown);
      EXPECT_TRUE(fold(state, ListChecked{"zen", j, {}}, {policy, lists}, now).empty());
    }
    EXPECT_EQ(view(state, "", {policy, lists}).standing, before);
  }
}

// ---- dead zones
// --------------------------------------------------------------------------------------------------

TEST(DeadZones, AreTheZoneAndAllBelowIt) {
  const std::vector<DeadZone> dead{{"sorbs.net", "2024-06-05", "decommissioned"}, {"ix.dnsbl.manitu.net", "2025-01-16", "shut"}};
  for (const auto zone : {"sorbs.net", "dnsbl.sorbs.net", "a.b.sorbs.net", "DNSBL.Sorbs.NET", "dnsbl.sorbs.net."}) {
    ASSERT_NE(find_dead(dead, zone), nullptr) << zone;
    EXPECT_EQ(find_dead(dead, zone)->reason, "decommissioned");
  }
  for (const auto zone : {"notsorbs.net", "net", "", "sorbs.net.example", "dnsbl.manitu.net"})
    EXPECT_EQ(find_dead(dead, zone), nullptr) << zone;
}

}  // namespace
}  // namespace egret::routing
