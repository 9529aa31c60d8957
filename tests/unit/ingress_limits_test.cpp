#include <gtest/gtest.h>

#include "config/config.hpp"
#include "relay/auth/authenticator.hpp"
#include "relay/delivery/outgoing.hpp"
#include "relay/dns/sites.hpp"
#include "relay/ingress/admission.hpp"
#include "relay/ingress/intake.hpp"

namespace egret::relay {
namespace {

using namespace std::chrono_literals;
using routing::IpAddress;

const IpAddress alice = IpAddress::v4(192, 0, 2, 1), bob = IpAddress::v4(192, 0, 2, 2);

TEST(Admission, LimitsEachClientAndAllTogether) {
  config::Limits limits;
  limits.connections = 3;
  limits.connections_per_client = 2;
  Admission admission(limits);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(admission.enter(), "");
  EXPECT_TRUE(admission.enter().starts_with("4.3.2 "));
  EXPECT_EQ(admission.enter(alice), "");
  EXPECT_EQ(admission.enter(alice), "");
  EXPECT_TRUE(admission.enter(alice).starts_with("4.7.0 "));
  EXPECT_EQ(admission.enter(bob), "");
  admission.leave(alice);
  admission.leave();
  EXPECT_EQ(admission.enter(), "");
  EXPECT_EQ(admission.enter(alice), "");
}

TEST(Admission, CountsAnIpv6CustomerByItsNetwork) {
  config::Limits limits;
  limits.connections_per_client = 1;
  Admission admission(limits);
  EXPECT_EQ(admission.enter(*IpAddress::parse("2001:db8::1")), "");
  EXPECT_NE(admission.enter(*IpAddress::parse("2001:db8::2")), "");
  EXPECT_EQ(admission.enter(*IpAddress::parse("2001:db8:0:1::1")), "");
}

TEST(Admission, IsStressedWithNineTenthsTaken) {
  config::Limits limits;
  limits.connections = 10;
  Admission admission(limits);
  for (int i = 0; i < 8; ++i) admission.enter();
  EXPECT_FALSE(admission.stressed());
  admission.enter();
  EXPECT_TRUE(admission.stressed());
}

TEST(Admission, LeavesAQuarterToThoseWhoNeedNotWaitForReceivers) {
  config::Limits limits;
  limits.connections = 8;
  Admission admission(limits);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(admission.enter(true), "");
  EXPECT_TRUE(admission.enter(true).starts_with("4.3.2 "));
  EXPECT_EQ(admission.enter(), "");
  admission.leave(true);
  EXPECT_EQ(admission.enter(true), "");
  EXPECT_EQ(admission.enter(), "");
  EXPECT_TRUE(admission.enter().starts_with("4.3.2 "));
}

TEST(Intake, IsFullForLesserClassesBeforeItIsForAll) {
  constexpr std::uint64_t bound = 1'000'000;
  Intake intake(bound * 2);
  intake.hold(0, bound / 2 - 1);
  EXPECT_FALSE(intake.crowded());
  intake.hold(bound / 2 - 1, bound / 2);
  EXPECT_TRUE(intake.crowded());
  EXPECT_FALSE(intake.full(true));
  intake.hold(bound / 2, bound / 4 * 3);
  EXPECT_TRUE(intake.full(true));
  EXPECT_FALSE(intake.full(false));
  intake.hold(0, bound / 4);
  EXPECT_TRUE(intake.full(false));
  intake.hold(bound / 4, 0);
  intake.hold(bound / 4 * 3, 0);
  EXPECT_EQ(intake.used(), 0u);
  EXPECT_FALSE(intake.crowded());
}

TEST(Intake, LetsAMessageInWithoutAnyCache) {
  EXPECT_FALSE(Intake(0).full(true));
  EXPECT_FALSE(Intake(0).full(false));
}

TEST(Intake, TellsEveryTenSeconds) {
  Intake intake(1000);
  const std::chrono::steady_clock::time_point start{1h};
  EXPECT_TRUE(intake.tell(start));
  EXPECT_FALSE(intake.tell(start + 9s));
  EXPECT_TRUE(intake.tell(start + 10s));
}

TEST(Rates, CountWithinAPeriodThatBeginsWithTheFirst) {
  Rates rates;
  const routing::Budget two{2, 1h};
  const routing::Time start{};
  EXPECT_FALSE(rates.take("ada", two, 1, start + 10min));
  EXPECT_FALSE(rates.take("ada", two, 1, start + 20min));
  EXPECT_EQ(rates.take("ada", two, 1, start + 30min), routing::Duration(40min));
  EXPECT_FALSE(rates.take("bob", two, 1, start + 30min));
  EXPECT_FALSE(rates.take("ada", two, 1, start + 70min));
}

TEST(Rates, AskingTakesNothing) {
  Rates rates;
  const routing::Budget one{1, 1h};
  EXPECT_FALSE(rates.take("ada", one, 0, {}));
  EXPECT_FALSE(rates.take("ada", one, 1, {}));
  EXPECT_TRUE(rates.take("ada", one, 0, {}));
}

TEST(LoginFailures, SlowAClientDownAndThenStopIt) {
  LoginFailures failures;
  const LoginFailures::Clock::time_point start{};
  EXPECT_EQ(failures.failed("a", start), 500ms);
  EXPECT_EQ(failures.failed("a", start), 1s);
  for (int i = 2; i < 9; ++i) failures.failed("a", start);
  EXPECT_FALSE(failures.too_many("a", start));
  EXPECT_EQ(failures.failed("a", start), 8s);
  EXPECT_TRUE(failures.too_many("a", start));
  EXPECT_FALSE(failures.too_many("b", start));
  EXPECT_FALSE(failures.too_many("a", start + 11min));
}

TEST(LoginFailures, AreForgivenByASuccess) {
  LoginFailures failures;
  for (int i = 0; i < 10; ++i) failures.failed("a", {});
  failures.succeeded("a");
  EXPECT_FALSE(failures.too_many("a", {}));
}

TEST(LoginFailures, CountTriesThatAreUnderWay) {
  LoginFailures failures;
  for (int i = 0; i < 6; ++i) failures.failed("a", {});
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(failures.begin("a", {}));
  EXPECT_FALSE(failures.begin("a", {}));
  failures.end("a");
  EXPECT_TRUE(failures.begin("a", {}));
}

TEST(Via, IsAProxysUrl) {
  const auto socks = config::parse_via("socks5://user:p%40ss@10.0.0.5:1080");
  ASSERT_TRUE(socks && socks->login);
  EXPECT_EQ(socks->login->user, "user");
  EXPECT_EQ(socks->login->password, "p@ss");
  EXPECT_EQ(socks->port, 1080);
  EXPECT_EQ(config::parse_via("haproxy://[::1]:25")->kind, config::Via::Kind::haproxy);
  for (const auto* bad : {"", "socks5://", "socks5://10.0.0.5", "socks5://host:1", "http://10.0.0.5:1", "socks5://:p@10.0.0.5:1",
                          "haproxy://u:p@10.0.0.5:1", "socks5://a%4:p@10.0.0.5:1"})
    EXPECT_FALSE(config::parse_via(bad)) << bad;
}

TEST(TlsPlan, PutsDaneBeforeMtaStsBeforeTheConfiguration) {
  Site site;
  Target target;
  EXPECT_EQ(tls_plan(site, target).name(), "opportunistic");
  site.sts = true;
  EXPECT_EQ(tls_plan(site, target).name(), "mta-sts");
  EXPECT_EQ(tls_plan(site, target).check, TlsPlan::Check::name);
  target.dane.emplace();
  EXPECT_EQ(tls_plan(site, target).name(), "dane (unauthenticated)");
  EXPECT_EQ(tls_plan(site, target).mode, smtp::TlsMode::required);
  target.dane->records.push_back({3, 1, 1, std::string(32, 'x')});
  EXPECT_EQ(tls_plan(site, target).name(), "dane");
}

TEST(DkimSigners, AreThoseOfTheDomainOrTheNearestAbove) {
  const std::vector<config::DkimSigner> all{
      {"example.com", "a", nullptr}, {"example.com", "b", nullptr}, {"news.example.com", "c", nullptr}};
  EXPECT_EQ(signers_for(all, "Example.com").size(), 2u);
  ASSERT_EQ(signers_for(all, "x.news.example.com").size(), 1u);
  EXPECT_EQ(signers_for(all, "x.news.example.com")[0]->selector, "c");
  EXPECT_TRUE(signers_for(all, "notexample.com").empty());
}

}  // namespace
}  // namespace egret::relay
