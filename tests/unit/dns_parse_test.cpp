#include <gtest/gtest.h>

#include <random>

#include "relay/dns/resolver.hpp"

namespace egret::relay {
namespace {

using routing::IpAddress;
using Status = DnsReply::Status;

// ---- messages, built by hand (RFC 1035 section 4.1) ----------------------------------------------------------------

std::string u16(unsigned v) {
  return {static_cast<char>(v >> 8), static_cast<char>(v & 0xff)};
}
std::string u32(std::uint32_t v) {
  return u16(v >> 16) + u16(v & 0xffff);
}

/// "mx.example" as labels.
std::string name(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::string_view label = text.substr(0, text.find('.'));
    out += static_cast<char>(label.size());
    out += label;
    text.remove_prefix(std::min(text.size(), label.size() + 1));
  }
  return out + '\0';
}

constexpr unsigned type_a = 1, type_cname = 5, type_ptr = 12, type_mx = 15, type_txt = 16, type_aaaa = 28, type_tlsa = 52;
const std::string question_name = "\xc0\x0c";  // a pointer to the name at offset 12

std::string record(unsigned type, std::uint32_t ttl, const std::string& data, const std::string& owner = question_name,
                   unsigned klass = 1) {
  return owner + u16(type) + u16(klass) + u32(ttl) + u16(static_cast<unsigned>(data.size())) + data;
}

std::string message(const std::vector<std::string>& answers, unsigned rcode = 0) {
  std::string out = u16(0x1234) + u16(0x8180 | rcode) + u16(1) + u16(static_cast<unsigned>(answers.size())) + u16(0) + u16(0);
  out += name("example.com") + u16(type_a) + u16(1);
  for (const auto& answer : answers) out += answer;
  return out;
}

DnsReply parse(const std::string& octets, DnsType type) {
  // A copy of exactly this size, so that a sanitizer sees a read behind the end.
  const std::vector<unsigned char> exact(octets.begin(), octets.end());
  return parse_dns(exact.data(), exact.size(), type);
}

std::string mx(unsigned preference, const std::string& host) {
  return u16(preference) + host;
}
std::string text(const std::string& s) {
  return std::string(1, static_cast<char>(s.size())) + s;
}
const std::string a1 = std::string("\xc0\x00\x02\x01", 4), a2 = std::string("\xc0\x00\x02\x02", 4);

// ---- what records mean -------------------------------------------------------------------------------------------

TEST(ParseDns, ReadsAddresses) {
  const DnsReply reply = parse(message({record(type_a, 300, a1), record(type_a, 60, a2)}), DnsType::a);
  EXPECT_EQ(reply.status, Status::ok);
  EXPECT_EQ(reply.addresses, (std::vector{IpAddress::v4(192, 0, 2, 1), IpAddress::v4(192, 0, 2, 2)}));
  EXPECT_EQ(reply.ttl, 60u);
}

TEST(ParseDns, ReadsIpv6Addresses) {
  const std::string data("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x25", 16);
  const DnsReply reply = parse(message({record(type_aaaa, 300, data)}), DnsType::aaaa);
  EXPECT_EQ(reply.addresses, std::vector{*IpAddress::parse("2001:db8::25")});
}

TEST(ParseDns, SkipsAddressesOfTheWrongLength) {
  EXPECT_EQ(parse(message({record(type_a, 300, a1 + "x")}), DnsType::a).status, Status::nodata);
  EXPECT_EQ(parse(message({record(type_aaaa, 300, a1)}), DnsType::aaaa).status, Status::nodata);
}

TEST(ParseDns, ReadsMailExchangers) {
  const auto reply =
      parse(message({record(type_mx, 300, mx(10, name("MX1.Example"))), record(type_mx, 300, mx(20, name("mx2.example")))}),
            DnsType::mx);
  EXPECT_EQ(reply.status, Status::ok);
  EXPECT_EQ(reply.mx, (std::vector<routing::MxHost>{{10, "mx1.example"}, {20, "mx2.example"}}));
}

TEST(ParseDns, FollowsCompressionInAHostName) {
  const std::string host = std::string("\3mx1") + question_name;
  EXPECT_EQ(parse(message({record(type_mx, 300, mx(10, host))}), DnsType::mx).mx,
            (std::vector<routing::MxHost>{{10, "mx1.example.com"}}));
}

TEST(ParseDns, KeepsANullMx) {
  const DnsReply reply = parse(message({record(type_mx, 300, mx(0, name("")))}), DnsType::mx);
  EXPECT_EQ(reply.status, Status::ok);
  EXPECT_EQ(reply.mx, (std::vector<routing::MxHost>{{0, ""}}));
}

TEST(ParseDns, DropsHostsThatAreNoHostNames) {
  std::vector<std::string> answers{record(type_mx, 300, mx(5, name("good.example")))};
  for (const char* host : {"a b", "a/b", "a\\b", "a\nb", "-a", "a-", "a,b", "\xff\xfe", "<x>", "a\"b", "a;b"})
    answers.push_back(record(type_mx, 300, mx(10, name(host))));
  answers.push_back(record(type_mx, 300, mx(10, std::string("\3a.b\0", 5))));  // a dot inside a label
  EXPECT_EQ(parse(message(answers), DnsType::mx).mx, (std::vector<routing::MxHost>{{5, "good.example"}}));
}

TEST(ParseDns, HasNoDataWhenEveryHostIsDropped) {
  EXPECT_EQ(parse(message({record(type_mx, 300, mx(10, name("a b")))}), DnsType::mx).status, Status::nodata);
  EXPECT_EQ(parse(message({record(type_ptr, 300, name("a b"))}), DnsType::ptr).status, Status::nodata);
}

TEST(ParseDns, JoinsTheStringsOfAText) {
  const DnsReply reply = parse(message({record(type_txt, 300, text("v=spf1 ") + text("-all"))}), DnsType::txt);
  EXPECT_EQ(reply.texts, std::vector<std::string>{"v=spf1 -all"});
}

TEST(ParseDns, CleansTexts) {
  const DnsReply reply = parse(message({record(type_txt, 300, text("a\x1b[31m\r\n\xff"))}), DnsType::txt);
  EXPECT_EQ(reply.texts, std::vector<std::string>{"a?[31m???"});
}

TEST(ParseDns, BoundsTexts) {
  std::string data;
  for (int i = 0; i < 100; ++i) data += text(std::string(255, 'x'));
  EXPECT_EQ(parse(message({record(type_txt, 300, data)}), DnsType::txt).texts.at(0).size(), 2048u);
}

TEST(ParseDns, ReadsTextsThatEndTooEarly) {
  EXPECT_EQ(parse(message({record(type_txt, 300,
                                  "\x0a"
                                  "abc")}),
                  DnsType::txt)
                .texts,
            std::vector<std::string>{"abc"});
  EXPECT_EQ(parse(message({record(type_txt, 300, "")}), DnsType::txt).texts, std::vector<std::string>{""});
}

TEST(ParseDns, ReadsPointers) {
  EXPECT_EQ(parse(message({record(type_ptr, 300, name("Out1.Example.com"))}), DnsType::ptr).texts,
            std::vector<std::string>{"out1.example.com"});
}

TEST(ParseDns, FollowsAChainOfAliases) {
  const auto reply =
      parse(message({record(type_cname, 300, name("b.example")), record(type_cname, 300, name("c.example"), name("b.example")),
                     record(type_a, 300, a1, name("c.example"))}),
            DnsType::a);
  EXPECT_EQ(reply.status, Status::ok);
  EXPECT_EQ(reply.addresses, std::vector{IpAddress::v4(192, 0, 2, 1)});
}

TEST(ParseDns, HasNoDataForAnAliasAlone) {
  EXPECT_EQ(parse(message({record(type_cname, 300, name("b.example"))}), DnsType::a).status, Status::nodata);
}

TEST(ParseDns, NamesTheEndOfAChainOfAliases) {
  EXPECT_EQ(parse(message({record(type_a, 300, a1)}), DnsType::a).canonical, "example.com");
  EXPECT_EQ(
      parse(message({record(type_cname, 300, name("b.example")), record(type_cname, 300, name("C.example"), name("b.example")),
                     record(type_a, 300, a1, name("C.example")), record(type_a, 300, a2, name("C.example"))}),
            DnsType::a)
          .canonical,
      "c.example");
  EXPECT_EQ(parse(message({record(type_aaaa, 300, std::string(16, '\1'), name("d.example"))}), DnsType::aaaa).canonical,
            "d.example");
}

TEST(ParseDns, NamesNoEndThatIsNoHostName) {
  EXPECT_EQ(parse(message({record(type_a, 300, a1, name("a b"))}), DnsType::a).canonical, "");
  EXPECT_EQ(parse(message({record(type_a, 300, a1, name(""))}), DnsType::a).canonical, "");
  EXPECT_EQ(parse(message({record(type_cname, 300, name("b.example"))}), DnsType::a).canonical, "");
}

TEST(ParseDns, ReadsTlsaRecords) {
  const DnsReply reply = parse(message({record(type_tlsa, 300, std::string("\3\1\1", 3) + std::string(32, '\xab')),
                                        record(type_tlsa, 60, std::string("\2\0\0", 3) + std::string("a\0b", 3))}),
                               DnsType::tlsa);
  EXPECT_EQ(reply.status, Status::ok);
  EXPECT_EQ(reply.tlsa, (std::vector<TlsaRecord>{{3, 1, 1, std::string(32, '\xab')}, {2, 0, 0, std::string("a\0b", 3)}}));
  EXPECT_EQ(reply.ttl, 60u);
}

TEST(ParseDns, ReportsTlsaRecordsThatNobodyCanUse) {
  // RFC 7672 section 2.2: that there are some matters, even if all are unusable.
  const DnsReply reply = parse(message({record(type_tlsa, 300, "\xff\xfe\xfdx")}), DnsType::tlsa);
  EXPECT_EQ(reply.tlsa, (std::vector<TlsaRecord>{{255, 254, 253, "x"}}));
}

TEST(ParseDns, TakesNoTlsaAnswerWithAMalformedRecord) {
  for (const char* data : {"", "\3", "\3\1", "\3\1\1"})
    EXPECT_EQ(parse(message({record(type_tlsa, 300, "\3\1\2good"), record(type_tlsa, 300, data)}), DnsType::tlsa).error,
              "malformed answer");
}

TEST(ParseDns, TellsNoTlsaFromAFailure) {
  EXPECT_EQ(parse(message({}, 3), DnsType::tlsa).status, Status::nxdomain);
  EXPECT_EQ(parse(message({}), DnsType::tlsa).status, Status::nodata);
  EXPECT_EQ(parse(message({record(type_cname, 300, name("b.example"))}), DnsType::tlsa).status, Status::nodata);
  EXPECT_EQ(parse(message({}, 2), DnsType::tlsa).status, Status::failed);
}

/// The same message, vouched for by the resolver.
std::string authentic(std::string octets) {
  octets[3] = static_cast<char>(octets[3] | 0x20);
  return octets;
}

TEST(ParseDns, ReportsTheAdBit) {
  const std::string answer = message({record(type_a, 300, a1)});
  EXPECT_FALSE(parse(answer, DnsType::a).secure);
  EXPECT_TRUE(parse(authentic(answer), DnsType::a).secure);
  EXPECT_TRUE(parse(authentic(message({record(type_mx, 300, mx(5, name("mx.example")))})), DnsType::mx).secure);
}

TEST(ParseDns, ReportsTheAdBitOfThereIsNone) {
  EXPECT_FALSE(parse(message({}, 3), DnsType::tlsa).secure);
  EXPECT_TRUE(parse(authentic(message({}, 3)), DnsType::tlsa).secure);
  EXPECT_TRUE(parse(authentic(message({})), DnsType::tlsa).secure);
}

TEST(ParseDns, CallsNoFailureSecure) {
  EXPECT_FALSE(parse(authentic(message({}, 2)), DnsType::a).secure);
  EXPECT_FALSE(parse(authentic(message({record(type_tlsa, 300, "x")})), DnsType::tlsa).secure);
  std::string cut = authentic(message({}));
  cut[2] = static_cast<char>(cut[2] | 2);
  EXPECT_FALSE(parse(cut, DnsType::a).secure);
}

TEST(ParseDns, TakesTheTypeAskedForOnly) {
  EXPECT_EQ(parse(message({record(type_a, 300, a1)}), DnsType::mx).status, Status::nodata);
  EXPECT_EQ(parse(message({record(type_a, 300, a1)}), DnsType::aaaa).status, Status::nodata);
}

TEST(ParseDns, SkipsOtherClasses) {
  EXPECT_EQ(parse(message({record(type_a, 300, a1, question_name, 3)}), DnsType::a).status, Status::nodata);
}

TEST(ParseDns, TakesATtlWithTheTopBitForZero) {
  EXPECT_EQ(parse(message({record(type_a, 0x80000000u, a1), record(type_a, 300, a2)}), DnsType::a).ttl, 0u);
  EXPECT_EQ(parse(message({record(type_a, 0xffffffffu, a1)}), DnsType::a).ttl, 0u);
  EXPECT_EQ(parse(message({record(type_a, 0x7fffffffu, a1)}), DnsType::a).ttl, 0x7fffffffu);
}

/// An answer that there is nothing, with the SOA record that says for how long (RFC 2308).
std::string none(unsigned rcode, std::uint32_t ttl, std::uint32_t minimum) {
  const std::string soa = name("ns.example") + name("root.example") + u32(1) + u32(60) + u32(60) + u32(60) + u32(minimum);
  std::string out = u16(0x1234) + u16(0x8180 | rcode) + u16(1) + u16(0) + u16(1) + u16(0);
  return out + name("example.com") + u16(type_a) + u16(1) + record(6, ttl, soa);
}

TEST(ParseDns, KeepsANegativeAnswerForTheLesserOfTheTwoTimesOfItsSoa) {
  for (const unsigned rcode : {0u, 3u}) {
    EXPECT_EQ(parse(none(rcode, 300, 60), DnsType::a).negative_ttl, 60u);
    EXPECT_EQ(parse(none(rcode, 10, 60), DnsType::a).negative_ttl, 10u);
    EXPECT_EQ(parse(none(rcode, 0x80000000u, 60), DnsType::a).negative_ttl, 0u);
    EXPECT_EQ(parse(none(rcode, 60, 0xffffffffu), DnsType::a).negative_ttl, 0u);
  }
  EXPECT_EQ(parse(message({}, 3), DnsType::a).negative_ttl, 0u) << "no SOA record";
  EXPECT_EQ(parse(message({record(type_a, 300, a1)}), DnsType::a).negative_ttl, 0u) << "there is something";
}

TEST(ParseDns, SurvivesABrokenSoa) {
  const std::string whole = none(3, 300, 60);
  for (std::size_t cut = whole.size() - 40; cut < whole.size(); ++cut) {
    std::string broken = whole.substr(0, cut);
    EXPECT_EQ(parse(broken, DnsType::a).negative_ttl, 0u) << cut;
  }
}

TEST(ParseDns, BoundsTheNumberOfRecords) {
  const DnsReply reply = parse(message(std::vector<std::string>(200, record(type_a, 300, a1))), DnsType::a);
  EXPECT_EQ(reply.status, Status::ok);
  EXPECT_EQ(reply.addresses.size(), 100u);
}

// ---- what is no answer -------------------------------------------------------------------------------------------

TEST(ParseDns, TellsNoNameFromNoData) {
  EXPECT_EQ(parse(message({}, 3), DnsType::a).status, Status::nxdomain);
  EXPECT_EQ(parse(message({}), DnsType::a).status, Status::nodata);
}

TEST(ParseDns, SaysHowAServerFailed) {
  EXPECT_EQ(parse(message({}, 2), DnsType::a).error, "SERVFAIL");
  EXPECT_EQ(parse(message({}, 5), DnsType::a).error, "REFUSED");
  EXPECT_EQ(parse(message({}, 4), DnsType::a).error, "rcode 4");
}

TEST(ParseDns, BelievesNoRecordOfAFailedAnswer) {
  const DnsReply reply = parse(message({record(type_a, 300, a1)}, 2), DnsType::a);
  EXPECT_EQ(reply.status, Status::failed);
  EXPECT_TRUE(reply.addresses.empty());
}

TEST(ParseDns, RefusesGarbage) {
  for (const std::string& octets : {std::string(), std::string("x"), std::string(12, '\xff'), std::string(500, '\xff'),
                                    std::string("HTTP/1.1 400 Bad Request\r\n\r\n")})
    EXPECT_EQ(parse(octets, DnsType::a).error, "malformed answer") << octets;
}

TEST(ParseDns, RefusesEveryTruncatedMessage) {
  const std::string whole = message(
      {record(type_mx, 300, mx(10, name("mx.example"))), record(type_mx, 300, mx(20, std::string("\2mx") + question_name))});
  ASSERT_EQ(parse(whole, DnsType::mx).mx.size(), 2u);
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_EQ(parse(whole.substr(0, size), DnsType::mx).status, Status::failed) << size;
}

TEST(ParseDns, RefusesMoreRecordsThanThereAre) {
  std::string octets = message({record(type_a, 300, a1)});
  octets[7] = 2;
  EXPECT_EQ(parse(octets, DnsType::a).status, Status::failed);
}

TEST(ParseDns, SurvivesCompressionLoops) {
  const std::string base = message({});
  const auto here = u16(0xc000 | static_cast<unsigned>(base.size()));  // the owner points at itself
  EXPECT_EQ(parse(message({record(type_a, 300, a1, here)}), DnsType::a).status, Status::failed);
  const auto data = u16(0xc000 | static_cast<unsigned>(base.size() + 14));  // the host points at itself
  EXPECT_TRUE(parse(message({record(type_mx, 300, mx(10, data))}), DnsType::mx).mx.empty());
}

TEST(ParseDns, DropsHostsThatPointForward) {
  EXPECT_TRUE(parse(message({record(type_mx, 300, mx(10, u16(0xffff)))}), DnsType::mx).mx.empty());
}

TEST(ParseDns, SurvivesMutations) {
  std::mt19937 random(20261122);
  const std::vector<std::pair<std::string, DnsType>> seeds{
      {message({record(type_a, 300, a1), record(type_a, 60, a2)}), DnsType::a},
      {message(
           {record(type_mx, 300, mx(10, name("mx.example"))), record(type_mx, 60, mx(20, std::string("\2mx") + question_name))}),
       DnsType::mx},
      {message({record(type_txt, 300, text("listed") + text(std::string(200, 'y')))}), DnsType::txt},
      {message({record(type_tlsa, 300, "\3\1\1" + std::string(32, 'x')), record(type_tlsa, 60, "\2\1\2y")}), DnsType::tlsa},
      {message({record(type_cname, 300, name("b.example")), record(type_ptr, 300, name("c.example"))}), DnsType::ptr}};
  for (int round = 0; round < 40000; ++round) {
    auto [octets, type] = seeds[random() % seeds.size()];
    for (unsigned changes = 1 + random() % 4; changes > 0; --changes)
      octets[random() % octets.size()] = static_cast<char>(random());
    if (random() % 4 == 0) octets.resize(random() % octets.size());
    const DnsReply reply = parse(octets, type);
    for (const auto& host : reply.mx)
      EXPECT_EQ(host.host.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_."), std::string::npos);
    EXPECT_EQ(reply.canonical.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_."), std::string::npos);
    if (reply.status == Status::failed) EXPECT_FALSE(reply.error.empty() || reply.secure);
  }
}

// ---- the rest ----------------------------------------------------------------------------------------------------

TEST(ToAnswer, KeepsStatusAddressesAndError) {
  const auto answer = to_answer(parse(message({record(type_a, 300, a1)}), DnsType::a));
  EXPECT_EQ(answer.status, routing::DnsAnswer::Status::answer);
  EXPECT_EQ(answer.addresses.size(), 1u);
  EXPECT_EQ(to_answer(parse(message({}, 3), DnsType::a)).status, routing::DnsAnswer::Status::nxdomain);
  EXPECT_EQ(to_answer(parse(message({}), DnsType::a)).status, routing::DnsAnswer::Status::nodata);
  EXPECT_EQ(to_answer(parse(message({}, 2), DnsType::a)).error, "SERVFAIL");
}

TEST(ReverseName, IsTheArpaName) {
  EXPECT_EQ(reverse_name(IpAddress::v4(192, 0, 2, 99)), "99.2.0.192.in-addr.arpa");
  EXPECT_EQ(reverse_name(*IpAddress::parse("::ffff:192.0.2.99")), "99.2.0.192.in-addr.arpa");
  EXPECT_EQ(reverse_name(*IpAddress::parse("2001:db8::25")),
            "5.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
}

TEST(DnsParse, AnAliasLimitsTheTtl) {
  EXPECT_EQ(
      parse(message({record(type_cname, 10, name("b.example")), record(type_a, 3600, a1, name("b.example"))}), DnsType::a).ttl,
      10u);
}

TEST(DnsParse, ATruncatedAnswerWithoutRecordsIsNoAnswer) {
  std::string m = message({});
  m[2] = static_cast<char>(m[2] | 2);
  EXPECT_EQ(parse(m, DnsType::a).status, Status::failed);
}

TEST(DnsParse, AQueryIsNoAnswer) {
  std::string m = message({});
  m[2] = 1;
  EXPECT_EQ(parse(m, DnsType::a).status, Status::failed);
}

}  // namespace
}  // namespace egret::relay
