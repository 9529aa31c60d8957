// Mistakes that were found and fixed, one test each. The comment above a group names the subject.

#include <gtest/gtest.h>
#include "routing/blame.hpp"
#include "routing/blocklist.hpp"
#include "routing/message_class.hpp"
#include "routing/reply_rules.hpp"
#include "routing/route.hpp"
#include "routing/standing.hpp"
#include "smtp/client_session.hpp"
#include "smtp/data_scanner.hpp"
#include "smtp/dsn.hpp"
#include "smtp/server_session.hpp"
#include "smtp/text.hpp"
#include "tests/unit/fake_policy.hpp"
using namespace egret;
using namespace egret::smtp;
using namespace egret::routing;
using namespace std::chrono_literals;
using namespace std::string_literals;
namespace {
struct S {
  bool ended;
  DataProblem problem;
  std::string body;
  std::string rest;
  int hops;
  std::string sent;
};
S scan(std::string_view bytes, const DataLimits& l, std::size_t step = 1u << 30) {
  DataScanner sc(l);
  Body b;
  std::string buf;
  bool e = false;
  std::size_t at = 0;
  while (at < bytes.size() && !e) {
    buf += bytes.substr(at, step);
    at += std::min(step, bytes.size() - at);
    std::string_view in = buf;
    e = sc.scan(in, b);
    buf = in;
  }
  if (e) buf += bytes.substr(at);
  std::string sent;
  without_cuts(b.flat(), 0, sc.cuts(), [&](std::string_view p) { sent += p; });
  return {e, sc.problem(), b.flat(), buf, 0, sent};
}
// data_scanner_test
TEST(DataRepair, NeverMakesALoneDotLine) {
  DataLimits l;
  l.repair = true;
  for (const auto trick : {"\r\n.\n", "\r\n.\r", "\r\n.\r\r\n"}) {
    const S s = scan("a"s + trick + "MAIL FROM:<evil@x>\r\n.\r\n", l);
    EXPECT_EQ(s.problem, DataProblem::none);
    EXPECT_EQ(("\r\n" + s.body).find("\r\n.\r\n"), std::string::npos) << testing::PrintToString(s.body);
  }
}
TEST(DataHeaders, AreCutBehindAStuffedDot) {
  DataLimits l;
  l.strip = {"X-SES-*"};
  EXPECT_EQ(scan("A: 1\r\n.X-SES-Configuration-Set: evil\r\nB: 2\r\n\r\n.\r\n", l).sent, "A: 1\r\nB: 2\r\n\r\n");
}
TEST(DataHeaders, ReceivedBehindAStuffedDotCounts) {
  DataLimits l;
  l.max_hops = 1;
  EXPECT_EQ(scan("Received: x\r\n.Received: y\r\n\r\n.\r\n", l).problem, DataProblem::too_many_hops);
}
TEST(DataHeaders, AStuffedContinuationBelongsToTheCutField) {
  DataLimits l;
  l.strip = {"X-*"};
  EXPECT_EQ(scan("A: 1\r\nX-B: 2\r\n. folded\r\nC: 3\r\n\r\n.\r\n", l).sent, "A: 1\r\nC: 3\r\n\r\n");
}
TEST(DataLimit, AnOverlongLineWithNulIsRefusedTheSameInEveryChunking) {
  const std::string b = "\0"s + std::string(3000, 'a') + "\r\n.\r\n";
  EXPECT_EQ(scan(b, {}).problem, scan(b, {}, 1).problem);
  const std::string c = "\r\n" + std::string(3000, 'a') + "\n\r\n.\r\n";
  EXPECT_EQ(scan(c, {}).problem, scan(c, {}, 1).problem);
}
// address_test
TEST(Mailbox, LimitsTheWholeTo254Octets) {
  const std::string label(50, 'a'), domain = label + "." + label + "." + label + "." + std::string(37, 'b');  // 190
  EXPECT_TRUE(parse_mailbox(std::string(63, 'l') + "@" + domain, false));                                     // 254
  EXPECT_FALSE(parse_mailbox(std::string(64, 'l') + "@" + domain, false));                                    // 255
}
// server_session_test
std::string codes(std::string_view bytes, std::size_t step) {
  ServerOptions o;
  o.hostname = "r";
  FakePolicy p;
  ServerSession s(o, p, relaying_client());
  std::string buf;
  for (std::size_t at = 0; at < bytes.size(); at += step) {
    buf += bytes.substr(at, step);
    std::string_view in = buf;
    const auto a = s.process(in);
    buf = in;
    if (a != ServerSession::Action::read) break;
  }
  return s.output();
}
TEST(ServerSession, ALongCommandIsJudgedTheSameInEveryChunking) {
  for (std::size_t n : {2045u, 2046u, 2047u, 2048u, 2049u}) {
    const std::string b = "NOOP " + std::string(n - 6, 'x') + "\r\n";  // LF at index n
    EXPECT_EQ(codes(b, 100000), codes(b, 1)) << n;
  }
}
TEST(ServerSession, TakesOnlyAsciiInEhlo) {
  EXPECT_TRUE(codes("EHLO b\xC3\xBC"
                    "cher.example\r\n",
                    1000)
                  .starts_with("501"));
}
// client_session_test
TEST(ClientTransaction, UtfAddressesAreNotSentWithoutSmtputf8) {
  ClientOptions o;
  o.helo = "h";
  o.tls = TlsMode::none;
  ClientSession s(o);
  s.on_reply(make_reply(220, "x"));
  s.on_reply(make_reply(250, "mx"));
  s.output().clear();
  Envelope e;
  e.sender = {"a", "b"};
  e.recipients = {{"gr\xC3\xBC\xC3\x9F", "example.net"}};
  e.utf8_header = true;
  s.send(e);
  s.on_reply(make_reply(250, "ok"));
  EXPECT_EQ(s.output().find('\xC3'), std::string::npos);
}
// text_test
TEST(Printable, ReplacesC1Controls) {
  EXPECT_EQ(printable("a\xC2\x9B"
                      "31m")
                .find("\xC2\x9B"),
            std::string::npos);
}
// dsn_test
DsnInput dsn() {
  DsnInput in;
  in.reporting_host = "r.example";
  in.dsn_id = smtp::MessageId{2};
  in.sender = {"a", "b"};
  in.recipients.push_back({{"b", "c"}, make_reply(550, "5.1.1 x"), "mx", "5.1.1", "e", ""});
  return in;
}
TEST(DsnStatus, OfAFailureIsNeverASuccess) {
  EXPECT_NE(dsn_status(make_reply(250, "stray")).front(), '2');
}
TEST(DsnStatus, OfNoReplyIsNotASuccess) {
  EXPECT_NE(dsn_status({}).front(), '2');
}
TEST(Dsn, LinesStayWithin998Octets) {
  DsnInput in = dsn();
  in.recipients[0].reply = make_reply(550, std::string(2000, 'x'));
  in.recipients[0].remote_host = std::string(200, 'h');
  const std::string d = build_dsn(in);
  for (std::size_t at = 0; at < d.size();) {
    const auto e = d.find("\r\n", at);
    EXPECT_LE(e - at, 998u);
    at = e + 2;
  }
}
TEST(Dsn, StatusPartIsSevenBit) {
  DsnInput in = dsn();
  in.recipients[0].reply = make_reply(550, "5.1.1 gr\xC3\xBC\xC3\x9F");
  const std::string d = build_dsn(in);
  const auto at = d.find("Reporting-MTA");
  const std::string part = d.substr(at, d.find("--egret", at) - at);
  for (const char c : part) ASSERT_LT(static_cast<unsigned char>(c), 0x80);
}
TEST(Dsn, CutsRemoteTextAtACharacter) {
  DsnInput in = dsn();
  std::string t = "x";
  while (t.size() < 2000) t += "\xC3\xA9";
  in.recipients[0].explanation = t;
  in.recipients[0].explanation = t;
  const bool a = valid_utf8(build_dsn(in));
  in.recipients[0].explanation = "x" + t;
  const bool b = valid_utf8(build_dsn(in));
  EXPECT_TRUE(a && b);
}
// blame_test
TEST(BlameSmarthost, ADisabledOrFullMailboxIsTheRecipientsTrouble) {
  Verdict v;
  v.label = Label::recipient;
  const RecipientOutcome a{make_reply(550, "5.2.1 The email account that you tried to reach is disabled"), Phase::rcpt};
  EXPECT_EQ(blame_smarthost(a, v).action, routing::Action::fail);
  EXPECT_FALSE(blame_smarthost(a, v).egress_at_fault);
  v.label = Label::mailbox_full;
  const RecipientOutcome b{make_reply(552, "5.2.2 mailbox quota exceeded"), Phase::rcpt};
  EXPECT_EQ(blame_smarthost(b, v).action, routing::Action::fail);
  EXPECT_FALSE(blame_smarthost(b, v).egress_at_fault);
}
TEST(BlameSmarthost, AMessageTooLargeForItIsNotItsFault) {
  Verdict v;
  v.label = Label::policy_other;
  EXPECT_FALSE(blame_smarthost({make_reply(552, "5.3.4 message size exceeds fixed limit"), Phase::mail}, v).egress_at_fault);
  EXPECT_FALSE(blame_smarthost({make_reply(552, "5.3.4 message size limit exceeded"), Phase::final_dot}, v).egress_at_fault);
}
// route_test
Topology topo(WhenExhausted w) {
  Topology t;
  for (int i = 0; i < 2; ++i) {
    SourceInfo s;
    s.name = "out" + std::to_string(i);
    s.address = IpAddress::v4(1, 1, 1, 1);
    t.sources.push_back(s);
  }
  t.smarthosts = {"ses", "mg"};
  PoolInfo p;
  p.name = "p";
  p.sources = {0, 1};
  p.fallback = {0, 1};
  p.when_exhausted = w;
  t.pools.push_back(p);
  return t;
}
Snapshot snap(Standing s) {
  Snapshot n;
  StandingView v;
  v.standing = s;
  v.share = 0;
  n.sources.resize(2);
  n.sources[0].standing = n.sources[1].standing = v;
  n.smarthosts.resize(2);
  return n;
}
TEST(RouteOnly, IsSentAnywayOnlyByItsSource) {
  Request r;
  r.only_source = 1;
  const Route out = route(topo(WhenExhausted::send_anyway), snap(Standing::listed), r, Time{1h}, 1);
  for (const auto& c : out.candidates) EXPECT_EQ(c.egress.index, 1u);
}
TEST(RouteOnly, ExplainsEveryEgressOfThePool) {
  Request r;
  r.only_source = 1;
  const Route out = route(topo(WhenExhausted::fallback), snap(Standing::listed), r, Time{1h}, 1);
  EXPECT_EQ(out.candidates.size() + out.rejected.size(), 4u);
  Request q;
  q.only_smarthost = 1;
  const Route o2 = route(topo(WhenExhausted::fallback), snap(Standing::listed), q, Time{1h}, 1);
  EXPECT_EQ(o2.candidates.size() + o2.rejected.size(), 4u);
}
TEST(RouteOnly, WaitsForARestingSmarthost) {
  Request q;
  q.only_smarthost = 1;
  Snapshot s = snap(Standing::listed);
  s.smarthosts[1] = {Time{2h}, "paused"};
  EXPECT_TRUE(route(topo(WhenExhausted::fallback), s, q, Time{1h}, 1).hold);
}
TEST(RouteExhausted, SendAnywayIsNotForAPoolWhoseGoodSourceIsOnlyBusy) {
  Request q;
  q.excluded.push_back({{EgressKind::source, 0}, "trial: another message is under way", Time{1h} + 1s});
  Snapshot s = snap(Standing::listed);
  s.sources[0].standing.standing = Standing::trial;
  s.sources[0].standing.share = 0.1;
  EXPECT_TRUE(route(topo(WhenExhausted::send_anyway), s, q, Time{1h}, 1).candidates.empty());
}
TEST(RouteExhausted, SharesOfAllCandidatesAddUpToOne) {
  double sum = 0;
  for (const auto& c : route(topo(WhenExhausted::fallback), snap(Standing::listed), {}, Time{1h}, 1).candidates) sum += c.share;
  EXPECT_NEAR(sum, 1, 1e-9);
}
// standing_test
struct W {
  StandingPolicy policy;
  Blocklists lists;
  SourceState state;
  Time now{1000h};
  void f(const Evidence& e) { fold(state, e, {policy, lists}, now); }
  void check(std::string n, bool l) {
    for (int i = 0; i < 2; ++i) f(ListChecked{n, {l ? Judgement::Result::listed : Judgement::Result::clean, false, {}, {}}, {}});
  }
  Standing st(std::string_view p = "") { return view(state, p, {policy, lists}).standing; }
};
Blocklist bl(double w, std::vector<std::string> c = {}) {
  Blocklist b;
  b.weight = w;
  b.concerns = c;
  return b;
}
TEST(Delisting, OfAWithdrawnListThatDidNotMatterNeedsNoTrial) {
  W w;
  w.lists = {{"fifth", bl(0.2)}};
  w.check("fifth", true);
  EXPECT_EQ(w.st(), Standing::clean);
  w.f(ListWithdrawn{"fifth"});
  EXPECT_EQ(w.st(), Standing::clean);
}
TEST(Delisting, OfASharedListTriesWithTheProviderThatWasOut) {
  W w;
  w.lists = {{"half", bl(0.5)}, {"ms", bl(0.5, {"microsoft"})}};
  w.check("half", true);
  w.check("ms", true);
  EXPECT_EQ(w.st("microsoft"), Standing::listed);
  w.check("half", false);
  EXPECT_EQ(w.st("microsoft"), Standing::trial);
}
TEST(Delisting, ConcerningSeveralProvidersTriesOnlyThoseThatWereOut) {
  W w;
  w.lists = {{"two", bl(0.5, {"google", "microsoft"})}, {"ms", bl(0.5, {"microsoft"})}};
  w.check("two", true);
  w.check("ms", true);
  EXPECT_EQ(w.st("microsoft"), Standing::listed);
  EXPECT_EQ(w.st("google"), Standing::clean);
  w.check("two", false);
  EXPECT_EQ(w.st("microsoft"), Standing::trial);
  EXPECT_EQ(w.st("google"), Standing::clean);
}
TEST(Return, AnOldTrialDoesNotEndWhileTheSourceIsOut) {  // observe mode or late replies
  W w;
  w.lists = {{"zen", bl(1)}, {"other", bl(1)}};
  w.check("zen", true);
  w.check("other", true);
  w.check("zen", false);
  for (int i = 0; i < 3; ++i) w.f(Delivered{"g"});
  w.check("other", false);
  EXPECT_EQ(w.st(), Standing::trial);
}
TEST(Block, ALateReplyDoesNotTurnAMisconfigurationIntoABlock) {
  W w;
  w.f(Refused{"g", Label::ip_config, "", "r", "no PTR"});
  w.f(Refused{"g", Label::ip_blocked, "", "r", "x"});
  EXPECT_EQ(w.st("g"), Standing::misconfigured);
}
// blocklist_test
TEST(ListHealth, ATestPointAnsweredByAnErrorCodeIsNotListed) {
  Blocklist l;
  l.codes[IpAddress::v4(127, 0, 0, 1)] = CodeMeaning::error;
  DnsAnswer nx;
  nx.status = DnsAnswer::Status::nxdomain;
  DnsAnswer e;
  e.status = DnsAnswer::Status::answer;
  e.addresses = {IpAddress::v4(127, 0, 0, 1)};
  EXPECT_FALSE(judge_health({e, nx, nx}, l).in_service);
}
TEST(Judge, NamesACodeOnce) {
  Blocklist l;
  l.bitmask = true;
  l.codes[IpAddress::v4(127, 0, 0, 2)] = CodeMeaning::listed;
  DnsAnswer e;
  e.status = DnsAnswer::Status::answer;
  e.addresses = {IpAddress::v4(127, 0, 0, 2), IpAddress::v4(127, 0, 0, 3)};
  EXPECT_EQ(judge(e, l).codes.size(), 1u);
}
TEST(QueryName, OfTheIpv6TestPointIsInNibbles) {  // facts A1
  EXPECT_TRUE(query_name(*IpAddress::parse("::ffff:7f00:2"), "z").starts_with("2.0.0.0.0.0.f.7."));
}
// ip_address_test
TEST(IpAddress, RefusesNul) {
  EXPECT_FALSE(IpAddress::parse("1.2.3.4\0x"s));
}
// reply_rules_test
TEST(AddressesIn, FindsThemBehindATag) {
  EXPECT_EQ(addresses_in("Client IP:192.0.2.1 is blocked").size(), 1u);
  EXPECT_EQ(addresses_in("(ip:192.0.2.1)").size(), 1u);
}
TEST(AddressesIn, FindsThemBeforeAPort) {
  EXPECT_EQ(addresses_in("from 192.0.2.1:25").size(), 1u);
}
// message_class_test
TEST(MessageClass, NamedByAHeaderMayHaveCapitals) {
  ClassRule r;
  r.header = "X-Egret-Class";
  r.from_value = true;
  std::vector<std::string> p;
  const MessageClassifier c({r}, {"OTP"}, p);
  const std::vector<std::pair<std::string, std::string>> h{{"x-egret-class", "OTP"}};
  EXPECT_EQ(c.classify({"", "", &h}).class_name, "OTP");
}
}  // namespace
