#include "config/config.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace egret::config {
namespace {

using namespace std::chrono_literals;
using routing::IpAddress;
using routing::WhenExhausted;

// A small valid configuration, one line for each key.
const std::map<std::string, std::string> minimal{{"hostname", "hostname: relay.example.com"},
                                                 {"listeners", "listeners: [{address: \"127.0.0.1:2525\"}]"},
                                                 {"classes", "classes: {transactional: {pool: main}}"},
                                                 {"sources", "sources: {out1: {address: 192.0.2.1}}"},
                                                 {"pools", "pools: {main: {sources: [out1]}}"}};

/// The minimal configuration with `other` in the place of the same keys.
std::string with(const std::string& other) {
  auto lines = minimal;
  std::istringstream in(other);
  for (std::string line; std::getline(in, line);) lines.erase(line.substr(0, line.find(':')));
  std::string out = other + "\n";
  for (const auto& [key, line] : lines) out += line + "\n";
  return out;
}

std::optional<std::string> environment(const std::string& name) {
  static const std::map<std::string, std::string> values{{"EGRET_HOSTNAME", "relay.example.com"},
                                                         {"EGRET_DATA_DIR", "/tmp/egret"},
                                                         {"EGRET_SOURCE_ADDRESS", "192.0.2.1"},
                                                         {"KEY", "s3cret"},
                                                         {"EMPTY", ""}};
  const auto it = values.find(name);
  if (it == values.end()) return std::nullopt;
  return it->second;
}

std::string to_text(const Problems& problems) {
  std::string out;
  for (const auto& problem : problems) out += problem.to_string() + "\n";
  return out;
}

struct Loaded {
  std::shared_ptr<const Config> config;
  Problems problems;
};

Loaded load(const std::string& text) {
  Loaded out;
  out.config = load_text(text, "f", environment, out.problems);
  return out;
}

/// The configuration; the test fails where it has problems.
std::shared_ptr<const Config> good(const std::string& other) {
  const Loaded loaded = load(with(other));
  EXPECT_TRUE(loaded.config) << to_text(loaded.problems);
  return loaded.config ? loaded.config : std::make_shared<const Config>();
}

/// All problems of a configuration that must not load.
std::string bad(const std::string& other) {
  const Loaded loaded = load(with(other));
  EXPECT_FALSE(loaded.config);
  return to_text(loaded.problems);
}

/// The minimal configuration.
const Config& defaults() {
  static const auto config = good("");
  return *config;
}

// ---- files -------------------------------------------------------------------------------------------------------

TEST(ConfigFile, OfDeployLoads) {
  Problems problems;
  const auto config = load_file(EGRET_SOURCE_DIR "/deploy/egret.yaml", environment, problems);
  ASSERT_TRUE(config) << to_text(problems);
  EXPECT_EQ(config->hostname, "relay.example.com");
  EXPECT_EQ(config->data_dir, "/tmp/egret");
  EXPECT_EQ(config->topology.sources.at(0).address, IpAddress::v4(192, 0, 2, 1));
}

TEST(ConfigFile, ThatIsMissingIsNamed) {
  Problems problems;
  EXPECT_FALSE(load_file("/nonexistent/egret.yaml", environment, problems));
  EXPECT_EQ(to_text(problems), "/nonexistent/egret.yaml: cannot be read\n");
}

TEST(ConfigFile, ThatIsTooLargeIsRefused) {
  const std::string path = testing::TempDir() + "egret_large_config.yaml";
  std::ofstream(path) << std::string(5u << 20, '#');
  Problems problems;
  EXPECT_FALSE(load_file(path, environment, problems));
  EXPECT_EQ(problems.size(), 1u);
  std::remove(path.c_str());
}

/// Every tests/bad_configs/NAME.yaml is refused, and every line of NAME.expected is in the list of its problems.
TEST(ConfigFile, ThatIsBadIsRefusedForTheRightReason) {
  int seen = 0;
  for (const auto& entry : std::filesystem::directory_iterator(EGRET_SOURCE_DIR "/tests/bad_configs")) {
    if (entry.path().extension() != ".yaml") continue;
    ++seen;
    Problems problems;
    EXPECT_FALSE(load_file(entry.path(), environment, problems)) << entry.path();
    std::ifstream expected(std::filesystem::path(entry.path()).replace_extension(".expected"));
    ASSERT_TRUE(expected) << entry.path();
    for (std::string line; std::getline(expected, line);)
      EXPECT_NE(to_text(problems).find(line), std::string::npos) << entry.path() << " expected\n"
                                                                 << line << "\nin\n"
                                                                 << to_text(problems);
  }
  EXPECT_GE(seen, 20);
}

// ---- defaults ----------------------------------------------------------------------------------------------------

TEST(ConfigDefaults, OfTheWhole) {
  EXPECT_EQ(defaults().file, "f");
  EXPECT_EQ(defaults().data_dir, "/var/lib/egret");
  EXPECT_EQ(defaults().threads, 0);
  EXPECT_EQ(defaults().limits.message_size, 50u << 20);
  EXPECT_EQ(defaults().limits.recipients, 1000);
  EXPECT_EQ(defaults().limits.connections, 10000);
  EXPECT_EQ(defaults().limits.connections_per_client, 200);
  EXPECT_EQ(defaults().limits.connections_out, 2000);
  EXPECT_EQ(defaults().spool.reserve, 1u << 30);
  EXPECT_EQ(defaults().spool.cache, 256u << 20);
}

TEST(ConfigDefaults, OfDelivery) {
  EXPECT_EQ(defaults().delivery.port, 25);
  EXPECT_EQ(defaults().delivery.retry, (std::vector<routing::Duration>{1min, 5min, 15min, 30min, 1h, 2h, 4h}));
  EXPECT_EQ(defaults().delivery.connections_per_site, 20);
  EXPECT_EQ(defaults().delivery.messages_per_connection, 100);
  EXPECT_EQ(defaults().delivery.warn_after, routing::Duration(4h));
  EXPECT_FALSE(defaults().delivery.allow_private);
  EXPECT_EQ(defaults().delivery.tls, smtp::TlsMode::opportunistic);
}

TEST(ConfigDefaults, OfReputation) {
  EXPECT_FALSE(defaults().reputation.observe);
  EXPECT_EQ(defaults().reputation.interval, routing::Duration(5min));
  EXPECT_EQ(defaults().reputation.threshold, 1.0);
  EXPECT_EQ(defaults().reputation.confirm, 2);
  EXPECT_EQ(defaults().reputation.confirm_interval, routing::Duration(30s));
  EXPECT_EQ(defaults().reputation.cooldown_first, routing::Duration(15min));
  EXPECT_EQ(defaults().reputation.cooldown_max, routing::Duration(24h));
  EXPECT_EQ(defaults().reputation.warmup, (std::vector<double>{0.1, 0.25, 0.5, 1.0}));
  EXPECT_EQ(defaults().reputation.warmup_step, routing::Duration(1h));
  EXPECT_TRUE(defaults().reputation.warmup_caps.empty());
  EXPECT_EQ(defaults().topology.returning, 1);
}

TEST(ConfigDefaults, OfDnsAndAdmin) {
  EXPECT_TRUE(defaults().dns.servers.empty());
  EXPECT_EQ(defaults().dns.timeout, routing::Duration(2s));
  EXPECT_EQ(defaults().dns.tries, 3);
  EXPECT_EQ(defaults().admin.address, "127.0.0.1:8025");
  EXPECT_EQ(defaults().admin.token, "");
}

TEST(ConfigDefaults, AllowOnlyThisHostToRelay) {
  const auto& allow = defaults().listeners.at(0).allow;
  const auto allows = [&](const char* address) {
    return std::ranges::any_of(allow, [&](const routing::Network& n) { return n.contains(*IpAddress::parse(address)); });
  };
  EXPECT_TRUE(allows("127.0.0.9") && allows("::1"));
  EXPECT_FALSE(allows("192.0.2.1") || allows("::2") || allows("0.0.0.0"));
}

TEST(ConfigDefaults, StripTheOrdersToAnEsp) {
  EXPECT_EQ(defaults().strip, (std::vector<std::string>{"X-SES-*", "X-SMTPAPI", "X-Mailgun-*", "X-MSYS-API", "X-PM-*", "X-MJ-*",
                                                        "X-Mailjet-*", "X-Mailin-*", "X-Egret-Class"}));
}

TEST(ConfigDefaults, OfASource) {
  const auto& source = defaults().topology.sources.at(0);
  EXPECT_EQ(source.ehlo, "relay.example.com");
  EXPECT_EQ(source.reputation, source.address);
  EXPECT_EQ(source.weight, 1.0);
  EXPECT_FALSE(source.shared);
}

TEST(ConfigDefaults, HoldWhereThereIsNoSmarthost) {
  EXPECT_EQ(defaults().topology.pools.at(0).when_exhausted, WhenExhausted::hold);
}

TEST(ConfigDefaults, FallBackWhereThereIsASmarthost) {
  const auto config =
      good("smarthosts: {other: {address: \"smtp.example.net:587\"}}\npools: {main: {sources: [out1], fallback: [other]}}");
  EXPECT_EQ(config->topology.pools.at(0).when_exhausted, WhenExhausted::fallback);
}

TEST(ConfigDefaults, MakeTheFirstClassTheListeners) {
  const auto config = good(
      "classes: {bulk: {pool: other}, transactional: {pool: main}}\nsources: {out1: {address: 192.0.2.1}, out2: {address: "
      "192.0.2.2}}\n"
      "pools: {main: {sources: [out1]}, other: {sources: [out2]}}");
  EXPECT_EQ(config->classes.at(config->listeners.at(0).message_class).name, "bulk");
}

// ---- values ------------------------------------------------------------------------------------------------------

/// One configuration with a value for nearly everything.
const Config& full() {
  static const auto config = good(R"(
listeners: [{address: "[::1]:587", allow: [10.0.0.0/8], normalize: [10.1.0.0/16], class: bulk, accept: queue, tls: none, auth: none, submission: false, xclient: [], proxy_protocol: []},
    {address: "192.0.2.1:25", allow: []}]
classes: {transactional: {pool: main, max_age: 3d, spill: false}, bulk: {pool: other}}
classify: [{sender_domain: news.example.com, class: bulk}, {header: X-Egret-Class, from_value: true}]
sources: {out1: {address: 10.0.0.4, public: 198.51.100.20, ehlo: nat1.example.com, weight: 2}, out2: {address: "2001:db8::25"}}
smarthosts: {ses: {provider: ses, region: eu-west-1, username: u, password: "${KEY}", budget: 50000/d},
    sendgrid: {provider: sendgrid, password: k}, other: {address: "smtp.example.net:2587", username: u, password: p},
    port465: {address: "smtp.example.net:465"}, implicit: {address: "smtp.example.net:587", tls: implicit},
    clear: {address: "10.0.0.9:25", tls: none}}
pools: {main: {sources: [out1], fallback: [ses, other]}, other: {sources: [out2], fallback: [ses], when_exhausted: send-anyway}}
delivery: {retry: [10ms, 1s], warn_after: 0, allow_private: true, tls: required}
routes: [{domain: internal.example.com, to: "10.0.0.9:25"}, {domain: "*.partner.example", pool: main}]
headers: {strip: [X-Mine-*]}
dns: {servers: ["127.0.0.1:5353", 192.0.2.53, "[::1]:53"], timeout: 500ms, tries: 1}
reputation: {mode: observe, interval: 10ms, confirm_interval: 20ms, warmup: [20%, 60%],
    blocklists: {zen: {zone: zen.spamhaus.org, key: "${KEY}", weight: 0.7}, abusix: {key: "${KEY}"},
      spamcop: {enabled: false}, psbl: {codes: {"127.0.0.4": info}},
      mine: {zone: BL.Example.net., weight: 0.3, concerns: [microsoft], delist: "https://x"},
      nix: {zone: ix.dnsbl.manitu.net, enabled: false}, living: {zone: notsorbs.net}}}
admin: {address: "192.0.2.1:8025", token: "${KEY}"})");
  return *config;
}

TEST(ConfigValues, OfAListener) {
  const Listener& listener = full().listeners.at(0);
  EXPECT_EQ(listener.ip, *IpAddress::parse("::1"));
  EXPECT_EQ(listener.port, 587);
  ASSERT_EQ(listener.allow.size(), 1u);
  EXPECT_EQ(listener.allow[0].to_string(), "10.0.0.0/8");
  EXPECT_EQ(listener.normalize.at(0).to_string(), "10.1.0.0/16");
  EXPECT_EQ(full().classes.at(listener.message_class).name, "bulk");
}

TEST(ConfigValues, MayLetNobodyRelay) {
  EXPECT_TRUE(full().listeners.at(1).allow.empty());
}

TEST(ConfigValues, OfASourceBehindNat) {
  const auto& source = full().topology.sources.at(0);
  EXPECT_EQ(source.address, IpAddress::v4(10, 0, 0, 4));
  EXPECT_EQ(source.reputation, IpAddress::v4(198, 51, 100, 20));
  EXPECT_EQ(source.ehlo, "nat1.example.com");
  EXPECT_EQ(source.weight, 2.0);
}

TEST(ConfigValues, OfAClass) {
  const MessageClass& c = full().classes.at(0);
  EXPECT_EQ(c.max_age, routing::Duration(72h));
  EXPECT_FALSE(c.spill);
}

TEST(ConfigValues, KeepTheOrderOfAPool) {
  const auto& pool = full().topology.pools.at(0);
  EXPECT_EQ(pool.sources, std::vector<std::uint32_t>{0});
  EXPECT_EQ(pool.fallback, (std::vector<std::uint32_t>{0, 2}));
  EXPECT_EQ(full().topology.pools.at(1).when_exhausted, WhenExhausted::send_anyway);
}

TEST(ConfigValues, AreTakenAsWritten) {
  EXPECT_EQ(full().delivery.retry, (std::vector<routing::Duration>{10ms, 1s}));
  EXPECT_EQ(full().delivery.warn_after, routing::Duration(0));
  EXPECT_EQ(full().reputation.interval, routing::Duration(10ms));
  EXPECT_EQ(full().reputation.confirm_interval, routing::Duration(20ms));
}

TEST(ConfigValues, LetObserveReachTheRouter) {
  EXPECT_TRUE(full().reputation.observe && full().topology.observe);
}

TEST(ConfigValues, EndTheWarmupAtTheFullWeight) {
  EXPECT_EQ(full().reputation.warmup, (std::vector<double>{0.2, 0.6, 1.0}));
}

TEST(ConfigValues, OfRoutes) {
  EXPECT_EQ(full().routes.at(0).to.value().host, "10.0.0.9");
  EXPECT_EQ(full().routes.at(1).pool, 0u);
}

TEST(ConfigValues, AlwaysStripTheClassHeader) {
  EXPECT_EQ(full().strip, (std::vector<std::string>{"X-Mine-*", "X-Egret-Class"}));
}

TEST(ConfigValues, OfDnsServers) {
  ASSERT_EQ(full().dns.servers.size(), 3u);
  EXPECT_EQ(full().dns.servers[0].port, 5353);
  EXPECT_EQ(full().dns.servers[1].port, 53);
  EXPECT_EQ(full().dns.servers[2].host, "::1");
  EXPECT_EQ(full().dns.timeout, routing::Duration(500ms));
}

TEST(ConfigValues, OfClassificationReachTheClassifier) {
  const routing::MessageFacts facts{"", "news.example.com", nullptr};
  EXPECT_EQ(full().classifier->classify(facts).class_name, "bulk");
  EXPECT_EQ(full().classifier->headers(), std::vector<std::string>{"x-egret-class"});
}

// ---- the environment ---------------------------------------------------------------------------------------------

TEST(ConfigEnvironment, FillsSecretsIn) {
  EXPECT_EQ(full().admin.token, "s3cret");
}

TEST(ConfigEnvironment, FillsFilesInAndIgnoresComments) {
  const std::string path = testing::TempDir() + "egret_config_test_token";
  std::ofstream(path) << "from-file\n";
  EXPECT_EQ(good("# ${NO_SUCH_THING}\nadmin: {token: \"${file:" + path + "}\"}")->admin.token, "from-file");
  std::remove(path.c_str());
}

TEST(ConfigEnvironment, MustNotLeaveTheTokenEmpty) {
  EXPECT_NE(bad("admin: {token: \"${EMPTY}\"}").find("f:1:16: admin.token: must not be empty"), std::string::npos);
}

TEST(ConfigEnvironment, NamesEveryKeyThatLacksSomething) {
  const std::string text = bad("data_dir: ${A}\nadmin: {token: \"${B}\"}");
  EXPECT_NE(text.find("f:1:11: data_dir: the environment has no A"), std::string::npos) << text;
  EXPECT_NE(text.find("f:2:16: admin.token: the environment has no B"), std::string::npos) << text;
}

// ---- never mix ---------------------------------------------------------------------------------------------------

TEST(NeverMix, RefusesTwoClassesOnOneSource) {
  const std::string text =
      bad("classes:\n  transactional: {pool: main}\n  bulk: {pool: other}\n"
          "pools: {main: {sources: [out1]}, other: {sources: [out1]}}");
  EXPECT_NE(text.find("f:3:16: classes.bulk.pool: classes transactional and bulk share source out1"), std::string::npos) << text;
}

TEST(NeverMix, RefusesTwoClassesOnOnePool) {
  EXPECT_NE(bad("classes: {transactional: {pool: main}, bulk: {pool: main}}").find("share source out1"), std::string::npos);
}

TEST(NeverMix, AllowsWhatIsSharedKnowingly) {
  good("classes: {transactional: {pool: main}, bulk: {pool: main}}\nsources: {out1: {address: 192.0.2.1, shared: true}}");
}

TEST(NeverMix, WantsEverySharedSourceToSaySo) {
  const std::string text = bad(
      "classes: {transactional: {pool: main}, bulk: {pool: main}}\n"
      "sources: {out1: {address: 192.0.2.1, shared: true}, out2: {address: 192.0.2.2}}\npools: {main: {sources: [out1, out2]}}");
  EXPECT_EQ(text.find("share source out1"), std::string::npos) << text;
  EXPECT_NE(text.find("share source out2"), std::string::npos) << text;
}

TEST(NeverMix, AllowsTwoClassesOneFallback) {
  EXPECT_EQ(full().topology.pools.at(0).fallback.at(0), full().topology.pools.at(1).fallback.at(0));
}

// ---- smarthosts --------------------------------------------------------------------------------------------------

const Smarthost& smarthost(const std::string& name) {
  return *std::ranges::find(full().smarthosts, name, &Smarthost::name);
}

TEST(Smarthosts, StandInTheOrderOfTheTopology) {
  ASSERT_EQ(full().smarthosts.size(), full().topology.smarthosts.size());
  for (std::size_t i = 0; i < full().smarthosts.size(); ++i) EXPECT_EQ(full().smarthosts[i].name, full().topology.smarthosts[i]);
}

TEST(Smarthosts, FillTheRegionIntoThePresetsHost) {
  EXPECT_EQ(smarthost("ses").host, "email-smtp.eu-west-1.amazonaws.com");
}

TEST(Smarthosts, TakeWhatThePresetSays) {
  const Smarthost& ses = smarthost("ses");
  EXPECT_EQ(ses.ports.at(0), 587);
  EXPECT_EQ(ses.implicit_tls, (std::vector<std::uint16_t>{465, 2465}));
  EXPECT_EQ(ses.tls, smtp::TlsMode::required);
  EXPECT_EQ(ses.recipients, 50);
  EXPECT_EQ(ses.message_size, 40u << 20);
}

TEST(Smarthosts, TakeLoginAndBudget) {
  EXPECT_EQ(smarthost("ses").credentials.value().username, "u");
  EXPECT_EQ(smarthost("ses").credentials.value().password, "s3cret");
  EXPECT_EQ(smarthost("ses").budget.value().recipients, 50000u);
}

TEST(Smarthosts, KnowSendgridsUser) {
  EXPECT_EQ(smarthost("sendgrid").credentials.value().username, "apikey");
  EXPECT_EQ(smarthost("sendgrid").host, "smtp.sendgrid.net");
}

TEST(Smarthosts, OfNoPresetAreGeneric) {
  EXPECT_EQ(smarthost("other").provider, "generic");
  EXPECT_EQ(smarthost("other").host, "smtp.example.net");
  EXPECT_EQ(smarthost("other").ports, std::vector<std::uint16_t>{2587});
  EXPECT_TRUE(smarthost("other").implicit_tls.empty());
  EXPECT_EQ(smarthost("other").tls, smtp::TlsMode::required);
}

TEST(Smarthosts, StartWithTlsOnPort465OrWhereTold) {
  EXPECT_EQ(smarthost("port465").implicit_tls, std::vector<std::uint16_t>{465});
  EXPECT_EQ(smarthost("implicit").implicit_tls, std::vector<std::uint16_t>{587});
}

TEST(Smarthosts, MayGoWithoutTlsWhenThereIsNoPassword) {
  EXPECT_EQ(smarthost("clear").tls, smtp::TlsMode::none);
  EXPECT_FALSE(smarthost("clear").credentials);
}

TEST(Smarthosts, NeedWhatThePresetNeeds) {
  const std::string text = bad("smarthosts: {ses: {provider: ses}}");
  for (const char* key : {"ses.region: is required", "ses.username: is required", "ses.password: is required"})
    EXPECT_NE(text.find(key), std::string::npos) << text;
}

TEST(Smarthosts, SendNoPasswordWithoutTls) {
  const std::string text = bad("smarthosts: {sendgrid: {provider: sendgrid, password: \"${KEY}\", tls: none}}");
  EXPECT_NE(text.find("no password is sent without TLS"), std::string::npos);
  EXPECT_EQ(text.find("s3cret"), std::string::npos);
}

TEST(Smarthosts, WantUserAndPasswordTogether) {
  const std::string text =
      bad("smarthosts: {a: {address: \"h.example:587\", username: u}, b: {address: \"h.example:587\", password: p}}");
  EXPECT_NE(text.find("smarthosts.a.password: user name and password go together"), std::string::npos) << text;
  EXPECT_NE(text.find("smarthosts.b.password: user name and password go together"), std::string::npos) << text;
}

// ---- blocklists --------------------------------------------------------------------------------------------------

const routing::Blocklist& shipped(const std::string& name) {
  return defaults().blocklists.at(name);
}
const routing::Blocklist& own(const std::string& name) {
  return full().blocklists.at(name);
}

TEST(BlocklistConfig, AddsToTheShippedOnes) {
  EXPECT_EQ(own("mine").zone, "bl.example.net");
  EXPECT_EQ(own("mine").weight, 0.3);
  EXPECT_EQ(own("mine").concerns, std::vector<std::string>{"microsoft"});
  EXPECT_TRUE(own("mine").enabled);
  EXPECT_TRUE(full().blocklists.contains("uceprotect1"));
}

TEST(BlocklistConfig, TakesTheUsualCodeWhereNoneIsGiven) {
  EXPECT_EQ(own("mine").codes,
            (std::map<IpAddress, routing::CodeMeaning>{{IpAddress::v4(127, 0, 0, 2), routing::CodeMeaning::listed}}));
}

TEST(BlocklistConfig, KeepsTheCodesOfAListThatIsOverridden) {
  EXPECT_EQ(own("zen").codes, shipped("zen").codes);
  EXPECT_EQ(own("zen").delist, shipped("zen").delist);
  EXPECT_EQ(own("zen").weight, 0.7);
}

TEST(BlocklistConfig, ReplacesCodesThatAreGiven) {
  EXPECT_EQ(own("psbl").codes.size(), 1u);
}

TEST(BlocklistConfig, RemovesAListThatIsNotEnabled) {
  EXPECT_TRUE(shipped("spamcop").enabled);
  EXPECT_FALSE(own("spamcop").enabled);
  EXPECT_EQ(own("spamcop").disabled_reason, "not enabled");
}

TEST(BlocklistConfig, PutsTheKeyIntoTheZoneAndNowhereElse) {
  EXPECT_EQ(own("zen").zone, "s3cret.zen.dq.spamhaus.net");
  EXPECT_TRUE(own("zen").keyed);
  EXPECT_EQ(own("zen").public_zone, "KEY.zen.dq.spamhaus.net");
}

TEST(BlocklistConfig, TakesAKeyThatIsWrittenIntoTheZone) {
  Problems problems;
  const auto config = load_text(
      "hostname: r.example\nlisteners: [{address: \"127.0.0.1:25\"}]\nclasses: {c: {pool: p}}\nsources: {s: {address: "
      "192.0.2.1}}\n"
      "pools: {p: {sources: [s]}}\nreputation: {queries: 20/s, blocklists: {zen: {zone: S3cret.zen.dq.spamhaus.net, queries: "
      "1000/h}, "
      "mine: {zone: bl.example, codes: {\"127.0.4.3-5\": listed}}}}\n",
      "f", [](const std::string&) { return std::nullopt; }, problems);
  ASSERT_TRUE(config) << to_text(problems);
  const auto& zen = config->blocklists.at("zen");
  EXPECT_EQ(zen.zone, "s3cret.zen.dq.spamhaus.net");
  EXPECT_EQ(zen.public_zone, "KEY.zen.dq.spamhaus.net");
  EXPECT_TRUE(zen.keyed);
  EXPECT_EQ(zen.key, "s3cret");
  ASSERT_TRUE(zen.queries);
  EXPECT_EQ(zen.queries->count, 1000u);
  EXPECT_EQ(zen.queries->per, std::chrono::hours(1));
  EXPECT_EQ(config->blocklist_queries.count, 20u);
  const auto& codes = config->blocklists.at("mine").codes;
  ASSERT_EQ(codes.size(), 3u);
  EXPECT_TRUE(codes.contains(IpAddress::v4(127, 0, 4, 3)) && codes.contains(IpAddress::v4(127, 0, 4, 5)));
}

TEST(BlocklistConfig, NeverAsksAListOfNamesAboutAnAddress) {
  for (const char* name : {"dbl", "zrd", "hbl", "surbl", "uribl"}) {
    EXPECT_FALSE(shipped(name).enabled) << name;
    EXPECT_EQ(shipped(name).disabled_reason, "lists names, not addresses") << name;
  }
}

TEST(BlocklistConfig, ShowsTheZoneOfAListWithoutAKey) {
  EXPECT_EQ(shipped("zen").public_zone, "zen.spamhaus.org");
  EXPECT_EQ(shipped("zen").zone, "zen.spamhaus.org");
  EXPECT_FALSE(shipped("zen").keyed);
}

TEST(BlocklistConfig, LeavesOutAListThatLacksItsKey) {
  EXPECT_FALSE(shipped("abusix").enabled);
  EXPECT_EQ(shipped("abusix").disabled_reason, "needs a key");
}

TEST(BlocklistConfig, TakesInAListThatHasItsKey) {
  EXPECT_TRUE(own("abusix").enabled);
  EXPECT_EQ(own("abusix").zone, "s3cret.combined.mail.abusix.zone");
}

TEST(BlocklistConfig, RefusesDeadListsByNameWithTheReason) {
  const std::string text = bad("reputation: {blocklists: {nix: {zone: ix.dnsbl.manitu.net}}}");
  EXPECT_NE(text.find("nix.zone: ix.dnsbl.manitu.net is dead (2025-01-16): NiX Spam was shut down"), std::string::npos) << text;
}

TEST(BlocklistConfig, RefusesDeadListsHoweverTheyAreWritten) {
  const std::string text =
      bad("reputation: {blocklists: {a: {zone: DNSBL.Sorbs.NET}, b: {zone: dnsbl.sorbs.net.}, c: {zone: sorbs.net},"
          " d: {zone: a.b.ahbl.org}}}");
  for (const char* key : {"a.zone: dnsbl.sorbs.net is dead", "b.zone: dnsbl.sorbs.net is dead", "c.zone: sorbs.net is dead",
                          "d.zone: a.b.ahbl.org is dead"})
    EXPECT_NE(text.find(key), std::string::npos) << text;
}

TEST(BlocklistConfig, LetsADeadListStandThatIsNotEnabled) {
  EXPECT_FALSE(own("nix").enabled);
}

TEST(BlocklistConfig, TakesNoNeighbourForADeadList) {
  EXPECT_TRUE(own("living").enabled);
}

// ---- problems ----------------------------------------------------------------------------------------------------

TEST(ConfigProblems, AreReportedAllAtOnceWithTheirPlaces) {
  const std::string text =
      bad("threads: x\nlimits:\n  recipients: 0\n  nonsense: 1\nsources: {out1: {address: 1.2.3}}\nlisteners: [{address: here}]");
  for (const char* expected : {"f:1:10: threads: ", "f:3:15: limits.recipients: ", "f:4:3: limits.nonsense: unknown key",
                               "f:5:27: sources.out1.address: ", "f:6:23: listeners[0].address: "})
    EXPECT_NE(text.find(expected), std::string::npos) << expected << " in\n" << text;
}

TEST(ConfigProblems, OfUnknownKeysSayWhatIsKnown) {
  EXPECT_NE(
      bad("delivery: {prot: 25}").find("f:1:12: delivery.prot: unknown key; known here: allow_private, connections_per_site"),
      std::string::npos);
}

TEST(ConfigProblems, ComeWithoutAConfiguration) {
  EXPECT_FALSE(load(with("nonsense: 1")).config);
}

TEST(ConfigProblems, OfLoadsBeforeDoNotMatter) {
  Problems problems{{"other", 1, 1, "", "x"}};
  EXPECT_TRUE(load_text(with(""), "f", environment, problems));
  EXPECT_EQ(problems.size(), 1u);
}

TEST(ConfigNames, AreFoundByIndex) {
  EXPECT_EQ(full().class_named("bulk"), 1u);
  EXPECT_EQ(full().pool_named("other"), 1u);
  EXPECT_EQ(full().class_named("main"), std::nullopt);
  EXPECT_EQ(full().pool_named("bulk"), std::nullopt);
}

}  // namespace
}  // namespace egret::config
