#include "routing/spf.hpp"

#include <gtest/gtest.h>

namespace egret::routing {
namespace {

using Type = SpfQuestion::Type;

IpAddress ip(std::string_view text) {
  return *IpAddress::parse(text);
}

/// A small DNS: what is not in it does not exist.
class Zone {
 public:
  Zone& txt(const std::string& name, std::vector<std::string> texts) {
    SpfAnswer& answer = set(name, Type::txt);
    answer.texts = std::move(texts);
    return *this;
  }
  Zone& a(const std::string& name, const std::vector<std::string>& addresses) {
    for (const auto& address : addresses) set(name, Type::a).addresses.push_back(ip(address));
    return *this;
  }
  Zone& aaaa(const std::string& name, const std::string& address) {
    set(name, Type::aaaa).addresses.push_back(ip(address));
    return *this;
  }
  Zone& mx(const std::string& name, std::vector<std::string> hosts) {
    set(name, Type::mx).hosts = std::move(hosts);
    return *this;
  }
  Zone& broken(const std::string& name, Type type) {
    set(name, type).status = DnsAnswer::Status::failed;
    return *this;
  }

  /// Asks and evaluates until there is a result, as a caller does.
  SpfOutcome check(const SpfSender& sender) {
    SpfAnswers known;
    asked.clear();
    while (true) {
      SpfOutcome outcome = check_spf(sender, known);
      if (!outcome.needs) return outcome;
      answer(*outcome.needs, known);
    }
  }
  SpfResult result(const std::string& address, const std::string& domain = "example.com") {
    return check({ip(address), "postmaster", domain, "relay.example.com"}).result;
  }
  bool includes(const std::string& domain, const std::string& target) {
    SpfAnswers known;
    while (true) {
      const SpfInclusion found = spf_includes(domain, target, known);
      if (!found.needs) return found.found;
      answer(*found.needs, known);
    }
  }

  std::vector<SpfQuestion> asked;

 private:
  SpfAnswer& set(const std::string& name, Type type) {
    SpfAnswer& answer = records_[{name, type}];
    answer.status = DnsAnswer::Status::answer;
    return answer;
  }
  void answer(const SpfQuestion& question, SpfAnswers& known) {
    ASSERT_FALSE(known.contains(question)) << "asked twice: " << question.name;
    asked.push_back(question);
    SpfAnswer& out = known[question];
    const auto found = records_.find(question);
    if (found != records_.end())
      out = found->second;
    else
      out.status = DnsAnswer::Status::nxdomain;
  }

  SpfAnswers records_;
};

/// The zone of RFC 7208 appendix A, without its PTR records.
Zone appendix(const std::string& record) {
  Zone out;
  out.mx("example.com", {"mail-a.example.com", "mail-b.example.com"})
      .a("example.com", {"192.0.2.10", "192.0.2.11"})
      .a("amy.example.com", {"192.0.2.65"})
      .a("bob.example.com", {"192.0.2.66"})
      .a("mail-a.example.com", {"192.0.2.129"})
      .a("mail-b.example.com", {"192.0.2.130"})
      .mx("example.org", {"mail-c.example.org"})
      .a("mail-c.example.org", {"192.0.2.140"})
      .txt("example.com", {"some other text", record});
  return out;
}

/// The hosts of appendix A that pass.
std::string passing(const std::string& record) {
  Zone zone = appendix(record);
  std::string out;
  for (const std::string last : {"10", "11", "65", "66", "129", "130", "131", "140", "144"})
    if (zone.result("192.0.2." + last) == SpfResult::pass) out += (out.empty() ? "" : " ") + last;
  return out;
}

TEST(Spf, JudgesTheSimpleExamplesOfAppendixA) {
  EXPECT_EQ(passing("v=spf1 +all"), "10 11 65 66 129 130 131 140 144");
  EXPECT_EQ(passing("v=spf1 a -all"), "10 11");
  EXPECT_EQ(passing("v=spf1 a:example.org -all"), "");
  EXPECT_EQ(passing("v=spf1 mx -all"), "129 130");
  EXPECT_EQ(passing("v=spf1 mx:example.org -all"), "140");
  EXPECT_EQ(passing("v=spf1 mx mx:example.org -all"), "129 130 140");
  EXPECT_EQ(passing("v=spf1 mx/30 mx:example.org/30 -all"), "129 130 131 140");
  EXPECT_EQ(passing("v=spf1 ip4:192.0.2.128/28 -all"), "129 130 131 140");
}

TEST(Spf, NeverMatchesPtr) {
  EXPECT_EQ(passing("v=spf1 ptr -all"), "");
  EXPECT_EQ(passing("v=spf1 ptr:example.com ip4:192.0.2.65 -all"), "65");
}

TEST(Spf, JudgesTheMultipleDomainsExampleOfAppendixA) {
  Zone zone = appendix("v=spf1 mx -all");
  zone.txt("example.net", {"v=spf1 ip4:198.51.100.0/24 -all"})
      .txt("example.org", {"v=spf1 include:example.com include:example.net -all"})
      .txt("la.example.org", {"v=spf1 redirect=example.org"});
  for (const std::string domain : {"example.org", "la.example.org"}) {
    EXPECT_EQ(zone.result("192.0.2.129", domain), SpfResult::pass);
    EXPECT_EQ(zone.result("198.51.100.7", domain), SpfResult::pass);
    EXPECT_EQ(zone.result("192.0.2.140", domain), SpfResult::fail);
  }
}

TEST(Spf, JudgesTheBlocklistStyleExampleOfAppendixA) {
  Zone zone = appendix("v=spf1 mx include:remote-users._spf.%{d} -all");
  zone.txt("remote-users._spf.example.com", {"v=spf1 exists:%{ir}.%{l1r+}._spf.%{d} -all"})
      .a("15.15.168.192.mary._spf.remote-users._spf.example.com", {"127.0.0.2"});
  SpfSender mary{ip("192.168.15.15"), "mary+list", "example.com", "h.example.com"};
  EXPECT_EQ(zone.check(mary).result, SpfResult::pass);
  mary.local = "fred";
  EXPECT_EQ(zone.check(mary).result, SpfResult::fail);
}

TEST(Spf, JudgesTheMultipleRequirementsExampleOfAppendixA) {
  Zone zone = appendix("v=spf1 -include:ip4._spf.%{d} +all");
  zone.txt("ip4._spf.example.com", {"v=spf1 -ip4:192.0.2.0/24 +all"});
  EXPECT_EQ(zone.result("192.0.2.65"), SpfResult::pass);
  EXPECT_EQ(zone.result("198.51.100.1"), SpfResult::fail);
}

TEST(Spf, ExpandsTheMacrosOfSection74) {
  const SpfSender sender{ip("192.0.2.3"), "strong-bad", "email.example.com", "mail.example.net"};
  const std::pair<std::string, std::string> examples[] = {
      {"%{s}", "strong-bad@email.example.com"},
      {"%{o}", "email.example.com"},
      {"%{d}", "email.example.com"},
      {"%{d4}", "email.example.com"},
      {"%{d3}", "email.example.com"},
      {"%{d2}", "example.com"},
      {"%{d1}", "com"},
      {"%{dr}", "com.example.email"},
      {"%{d2r}", "example.email"},
      {"%{l}", "strong-bad"},
      {"%{l-}", "strong.bad"},
      {"%{lr}", "strong-bad"},
      {"%{lr-}", "bad.strong"},
      {"%{l1r-}", "strong"},
      {"%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"},
      {"%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"},
      {"%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"},
      {"%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com"},
      {"%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"},
      {"%{h}", "mail.example.net"},
      {"%{S}", "strong-bad%40email.example.com"},
      {"a%%b%_c%-d", "a%b c%20d"}};
  for (const auto& [spec, expanded] : examples) EXPECT_EQ(expand_spf(spec, sender, "email.example.com"), expanded) << spec;
  SpfSender six = sender;
  six.address = ip("2001:db8::cb01");
  EXPECT_EQ(expand_spf("%{ir}.%{v}._spf.%{d2}", six, "email.example.com"),
            "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com");
}

TEST(Spf, RefusesBrokenMacros) {
  const SpfSender sender{ip("192.0.2.3"), "a", "example.com", "h.example.com"};
  for (const std::string spec : {"%", "%{", "%{}", "%{x}", "%(d)", "%{d0}", "%{d999}", "%{d!}", "%{c}", "%{d", "%z", "%{dr2}"})
    EXPECT_FALSE(expand_spf(spec, sender, "example.com")) << spec;
}

TEST(Spf, CutsNamesThatAreTooLongFromTheLeft) {
  const SpfSender sender{ip("192.0.2.3"), "a", "example.com", "h.example.com"};
  std::string spec;
  for (int i = 0; i < 30; ++i) spec += "aaaaaaaaa.";
  const auto name = expand_spf(spec + "%{d}", sender, "example.com");
  ASSERT_TRUE(name);
  EXPECT_LE(name->size(), 253u);
  EXPECT_TRUE(name->starts_with("aaaaaaaaa.") && name->ends_with(".example.com"));
}

TEST(Spf, GivesEachQualifierItsResult) {
  EXPECT_EQ(appendix("v=spf1 ~all").result("192.0.2.1"), SpfResult::softfail);
  EXPECT_EQ(appendix("v=spf1 ?all").result("192.0.2.1"), SpfResult::neutral);
  EXPECT_EQ(appendix("v=spf1 -all").result("192.0.2.1"), SpfResult::fail);
  EXPECT_EQ(appendix("v=spf1 ip4:192.0.2.9").result("192.0.2.1"), SpfResult::neutral);
  EXPECT_EQ(appendix("V=SPF1 IP4:192.0.2.1  -ALL").result("192.0.2.1"), SpfResult::pass);
}

TEST(Spf, NamesTheTermThatDecided) {
  Zone zone = appendix("v=spf1 ip4:192.0.2.1/32 ~all");
  const SpfOutcome pass = zone.check({ip("192.0.2.1"), "a", "Example.COM", "h"});
  EXPECT_EQ(pass.term, "ip4:192.0.2.1/32");
  EXPECT_EQ(pass.record, "example.com");
  EXPECT_EQ(zone.check({ip("192.0.2.2"), "a", "example.com", "h"}).term, "~all");
}

TEST(Spf, TellsIpv6FromIpv4) {
  Zone zone;
  zone.txt("example.com", {"v=spf1 ip4:0.0.0.0/0 ip6:2001:db8::/32 a//64 -all"}).aaaa("example.com", "2001:db9::1");
  EXPECT_EQ(zone.result("2001:db8:1::1"), SpfResult::pass);
  EXPECT_EQ(zone.result("2001:db9::2"), SpfResult::pass);
  EXPECT_EQ(zone.result("2001:db9:1::2"), SpfResult::fail);
  EXPECT_EQ(zone.result("::ffff:192.0.2.1"), SpfResult::pass) << "a mapped address is the IPv4 address";
}

TEST(Spf, HasNoResultWithoutExactlyOneRecord) {
  Zone zone;
  zone.txt("two.example.com", {"v=spf1 -all", "v=spf1 +all"}).txt("other.example.com", {"v=spf10 -all", "v=spf2.0/mfrom all"});
  EXPECT_EQ(zone.result("192.0.2.1", "two.example.com"), SpfResult::permerror);
  EXPECT_EQ(zone.result("192.0.2.1", "other.example.com"), SpfResult::none);
  EXPECT_EQ(zone.result("192.0.2.1", "missing.example.com"), SpfResult::none);
  EXPECT_EQ(zone.result("192.0.2.1", "localhost"), SpfResult::none);
  EXPECT_EQ(zone.result("192.0.2.1", "a..example.com"), SpfResult::none);
}

TEST(Spf, CallsAnySyntaxErrorPermanentEvenBehindAMatch) {
  for (const std::string term : {"ip4:192.0.2.300", "ip4:192.0.2.0/33", "ip4", "ip6:192.0.2.1", "include", "include:", "exists",
                                 "a/", "a/33", "a//129", "a:", "all:x", "nonsense", "-", "redirect=", "a/024", "foo:bar"})
    EXPECT_EQ(appendix("v=spf1 +all " + term).result("192.0.2.1"), SpfResult::permerror) << term;
  EXPECT_EQ(appendix("v=spf1 redirect=a.test redirect=b.test").result("192.0.2.1"), SpfResult::permerror);
  EXPECT_EQ(appendix("v=spf1 unknown=x:y exp=e.%{d} +all").result("192.0.2.1"), SpfResult::pass);
}

TEST(Spf, StopsAtTenLookups) {
  const auto record = [](int terms) {
    std::string out = "v=spf1";
    for (int i = 0; i < terms; ++i) out += " a";
    return out + " +all";
  };
  EXPECT_EQ(appendix(record(10)).result("192.0.2.1"), SpfResult::pass);
  EXPECT_EQ(appendix(record(11)).result("192.0.2.1"), SpfResult::permerror);
}

TEST(Spf, EndsRecordsThatIncludeThemselves) {
  Zone zone;
  zone.txt("example.com", {"v=spf1 include:example.com -all"}).txt("loop.example.com", {"v=spf1 redirect=loop.example.com"});
  EXPECT_EQ(zone.result("192.0.2.1"), SpfResult::permerror);
  EXPECT_EQ(zone.result("192.0.2.1", "loop.example.com"), SpfResult::permerror);
  EXPECT_FALSE(zone.includes("example.com", "esp.test"));
}

TEST(Spf, StopsAtTheThirdLookupThatFindsNothing) {
  EXPECT_EQ(appendix("v=spf1 a:n1.test a:n2.test +all").result("192.0.2.1"), SpfResult::pass);
  EXPECT_EQ(appendix("v=spf1 a:n1.test mx:n2.test exists:n3.test +all").result("192.0.2.1"), SpfResult::permerror);
}

TEST(Spf, StopsAtElevenMailHosts) {
  Zone zone = appendix("v=spf1 mx:many.test +all");
  std::vector<std::string> hosts(11, "mail-a.example.com");
  zone.mx("many.test", hosts);
  EXPECT_EQ(zone.result("192.0.2.1"), SpfResult::permerror);
  hosts.pop_back();
  zone.mx("many.test", hosts);
  EXPECT_EQ(zone.result("192.0.2.129"), SpfResult::pass);
}

TEST(Spf, WantsWhatIsIncludedToExist) {
  EXPECT_EQ(appendix("v=spf1 include:missing.test +all").result("192.0.2.1"), SpfResult::permerror);
  EXPECT_EQ(appendix("v=spf1 redirect=missing.test").result("192.0.2.1"), SpfResult::permerror);
}

TEST(Spf, HasATemporaryErrorWhenDnsFails) {
  Zone zone = appendix("v=spf1 include:broken.test +all");
  zone.broken("broken.test", Type::txt);
  const SpfOutcome outcome = zone.check({ip("192.0.2.1"), "a", "example.com", "h"});
  EXPECT_EQ(outcome.result, SpfResult::temperror);
  EXPECT_NE(outcome.reason.find("broken.test"), std::string::npos);
}

TEST(Spf, AsksNothingBehindTheTermThatDecides) {
  Zone zone = appendix("v=spf1 ip4:192.0.2.1 mx a include:esp.test -all");
  EXPECT_EQ(zone.result("192.0.2.1"), SpfResult::pass);
  EXPECT_EQ(zone.asked.size(), 1u);
}

TEST(Spf, FindsWhatIsIncludedAtAnyDepth) {
  Zone zone;
  zone.txt("example.com", {"v=spf1 include:_spf.example.com -all"})
      .txt("_spf.example.com", {"v=spf1 ip4:192.0.2.1 include:SendGrid.net ~all"})
      .txt("moved.example.com", {"v=spf1 redirect=example.com"})
      .txt("refused.example.com", {"v=spf1 -include:sendgrid.net +all"});
  EXPECT_TRUE(zone.includes("example.com", "sendgrid.net"));
  EXPECT_TRUE(zone.includes("moved.example.com", "sendgrid.net"));
  EXPECT_FALSE(zone.includes("example.com", "mailgun.org"));
  EXPECT_FALSE(zone.includes("refused.example.com", "sendgrid.net"));
}

}  // namespace
}  // namespace egret::routing
