#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "config/config.hpp"
#include "config/data.hpp"
#include "config/shipped.hpp"
#include "smtp/address.hpp"

namespace egret::config {
namespace {

std::string to_text(const Problems& problems) {
  std::string out;
  for (const auto& problem : problems) out += problem.to_string() + "\n";
  return out;
}

BlocklistData blocklists() {
  Problems problems;
  auto out = read_blocklists(parse_yaml(shipped_blocklists, "blocklists.yaml", problems), "blocklists.yaml", problems);
  EXPECT_TRUE(problems.empty()) << to_text(problems);
  return out;
}

std::vector<routing::Provider> providers() {
  Problems problems;
  auto out = read_providers(parse_yaml(shipped_providers, "providers.yaml", problems), "providers.yaml", problems);
  EXPECT_TRUE(problems.empty()) << to_text(problems);
  return out;
}

std::map<std::string, SmarthostPreset> smarthosts() {
  Problems problems;
  auto out = read_smarthosts(parse_yaml(shipped_smarthosts, "smarthosts.yaml", problems), "smarthosts.yaml", problems);
  EXPECT_TRUE(problems.empty()) << to_text(problems);
  return out;
}

std::vector<routing::ReplyRule> replies() {
  Problems problems;
  auto out = read_replies(parse_yaml(shipped_replies, "replies.yaml", problems), "replies.yaml", problems).rules;
  EXPECT_TRUE(problems.empty()) << to_text(problems);
  return out;
}

TEST(ShippedData, IsWhatTheFilesSay) {
  const std::vector<std::pair<std::string, std::string_view>> files{{"blocklists", shipped_blocklists},
                                                                    {"providers", shipped_providers},
                                                                    {"replies", shipped_replies},
                                                                    {"smarthosts", shipped_smarthosts}};
  for (const auto& [name, compiled_in] : files) {
    std::ostringstream text;
    text << std::ifstream(EGRET_SOURCE_DIR "/config/" + name + ".yaml").rdbuf();
    EXPECT_EQ(compiled_in, text.str()) << name;
  }
}

TEST(ShippedData, IsReadWithoutAProblem) {
  EXPECT_GE(blocklists().lists.size(), 15u);
  EXPECT_GE(providers().size(), 30u);
  EXPECT_GE(smarthosts().size(), 10u);
  EXPECT_GE(replies().size(), 50u);
}

// ---- blocklists --------------------------------------------------------------------------------------------------

TEST(ShippedBlocklists, HaveZonesThatCanBeAsked) {
  for (const auto& [name, entry] : blocklists().lists) EXPECT_TRUE(smtp::valid_domain(entry.list.zone, false)) << name;
}

TEST(ShippedBlocklists, HaveZonesOfTheirOwn) {
  std::set<std::string> zones;
  for (const auto& [name, entry] : blocklists().lists) EXPECT_TRUE(zones.insert(entry.list.zone).second) << name;
}

TEST(ShippedBlocklists, AreNotDead) {
  const BlocklistData data = blocklists();
  for (const auto& [name, entry] : data.lists) EXPECT_EQ(routing::find_dead(data.dead, entry.list.zone), nullptr) << name;
}

TEST(ShippedBlocklists, SayWhatTheirAnswersMean) {
  for (const auto& [name, entry] : blocklists().lists) {
    EXPECT_FALSE(entry.list.codes.empty()) << name;
    EXPECT_FALSE(entry.list.delist.empty()) << name;
    EXPECT_TRUE(entry.list.ipv4 || entry.list.ipv6) << name;
  }
}

TEST(ShippedBlocklists, HaveAPlaceForTheKeyTheyNeed) {
  for (const auto& [name, entry] : blocklists().lists) {
    if (entry.needs_key || !entry.keyed_zone.empty()) EXPECT_NE(entry.keyed_zone.find("{key}."), std::string::npos) << name;
    EXPECT_TRUE(entry.key.empty()) << name;
  }
}

TEST(ShippedBlocklists, NeverTakeAnErrorForAListing) {
  for (const auto& [name, entry] : blocklists().lists)
    for (const auto& [code, meaning] : entry.list.codes)
      if (code.bytes[1] == 255) EXPECT_EQ(meaning, routing::CodeMeaning::error) << name;
}

TEST(ShippedBlocklists, KnowTheCodeOfTheirTestPoint) {
  for (const auto& [name, entry] : blocklists().lists) {
    if (!entry.list.enabled || !entry.list.test_listed) continue;
    bool listed = false;
    for (const auto& [code, meaning] : entry.list.codes) listed = listed || meaning == routing::CodeMeaning::listed;
    EXPECT_TRUE(listed) << name;
  }
}

TEST(ShippedBlocklists, KnowThePolicyCodesOfZen) {
  const BlocklistData data = blocklists();
  const auto& codes = data.lists.at("zen").list.codes;
  EXPECT_EQ(codes.at(routing::IpAddress::v4(127, 0, 0, 2)), routing::CodeMeaning::listed);
  EXPECT_EQ(codes.at(routing::IpAddress::v4(127, 0, 0, 10)), routing::CodeMeaning::policy);
  EXPECT_EQ(codes.at(routing::IpAddress::v4(127, 0, 0, 11)), routing::CodeMeaning::policy);
}

TEST(ShippedBlocklists, AreThoseOfTheCatalogue) {
  const std::map<std::string, double> weights{{"zen", 1.0},
                                              {"authbl", 0},
                                              {"dbl", 0},
                                              {"zrd", 0},
                                              {"hbl", 0},
                                              {"barracuda", 0.6},
                                              {"spamcop", 0.5},
                                              {"abusix", 0.6},
                                              {"invaluement", 0.5},
                                              {"mailspike", 0.2},
                                              {"psbl", 0.15},
                                              {"gbudb", 0.15},
                                              {"blocklistde", 0.2},
                                              {"senderscore", 0.2},
                                              {"spameatingmonkey", 0.1},
                                              {"dnswl", 0},
                                              {"uceprotect1", 0.1},
                                              {"uceprotect2", 0},
                                              {"uceprotect3", 0},
                                              {"spameatingmonkey6", 0.1},
                                              {"backscatterer", 0},
                                              {"hostkarma", 0.1},
                                              {"mailspike-rep", 0},
                                              {"senderscore-score", 0}};
  const BlocklistData data = blocklists();
  for (const auto& [name, weight] : weights) {
    ASSERT_TRUE(data.lists.contains(name)) << name;
    EXPECT_EQ(data.lists.at(name).list.weight, weight) << name;
  }
}

TEST(ShippedBlocklists, OfNamesAreKnownAndNeverAsked) {
  const BlocklistData data = blocklists();
  for (const char* name : {"dbl", "zrd", "hbl", "surbl", "uribl"}) {
    EXPECT_TRUE(data.lists.at(name).list.names) << name;
    EXPECT_FALSE(data.lists.at(name).list.enabled) << name;
  }
}

TEST(ShippedBlocklists, ForIpv6AloneHaveTestPointsOfIpv6) {
  const BlocklistData data = blocklists();
  for (const auto& [name, entry] : data.lists)
    if (!entry.list.ipv4 && !entry.list.names)
      EXPECT_TRUE(entry.list.test_listed && entry.list.test_listed->v6 && entry.list.test_clean && entry.list.test_clean->v6)
          << name;
}

TEST(ShippedBlocklists, ThatFlapWaitForADay) {
  const BlocklistData data = blocklists();
  EXPECT_EQ(data.lists.at("spamcop").list.settle, std::chrono::hours(24));
}

TEST(ShippedBlocklists, OfWholeNetworksOnlyInform) {
  const BlocklistData data = blocklists();
  for (const char* name : {"uceprotect2", "uceprotect3"}) {
    EXPECT_TRUE(data.lists.at(name).list.inform_only) << name;
    EXPECT_EQ(data.lists.at(name).list.weight, 0.0) << name;
  }
}

TEST(ShippedBlocklists, RefuseTheDeadOnesOfTheCatalogue) {
  const BlocklistData data = blocklists();
  for (const char* zone :
       {"dnsbl.sorbs.net", "ix.dnsbl.manitu.net", "dnsbl.ahbl.org", "relays.ordb.org", "bl.spamcannibal.org",
        "dnsbl.burnt-tech.com", "dnsbl.cyberlogic.net", "dnsbl.solid.net", "spam.dnsbl.anonmails.de", "dnsbl.inps.de",
        "ubl.unsubscore.com", "db.wpbl.info", "virbl.bit.nl", "dul.dnsbl.njabl.org", "list.dsbl.org", "korea.services.net",
        "tr.countries.nerd.dk", "postmaster.rfc-ignorant.org", "combined.rbl.msrbl.net"})
    EXPECT_TRUE(routing::find_dead(data.dead, zone)) << zone;
}

TEST(ShippedBlocklists, GiveDateAndReasonOfEveryDeath) {
  for (const auto& dead : blocklists().dead) {
    EXPECT_FALSE(dead.since.empty() || dead.reason.empty()) << dead.zone;
    EXPECT_TRUE(smtp::valid_domain(dead.zone, false)) << dead.zone;
  }
}

// ---- providers ---------------------------------------------------------------------------------------------------

TEST(ShippedProviders, NameBlocklistsThatExist) {
  const BlocklistData data = blocklists();
  for (const auto& provider : providers())
    for (const auto& name : provider.blocklists) EXPECT_TRUE(data.lists.contains(name)) << provider.name << " " << name;
}

TEST(ShippedProviders, HaveTheLimitsThatSendersFound) {
  struct Limits {
    const char* name;
    int connections, messages;
    bool tls;
  };
  const routing::Providers known(providers());
  for (const Limits& wanted :
       {Limits{"google", 5, 50, true}, Limits{"yahoo", 0, 20, false}, Limits{"microsoft", 5, 50, false},
        Limits{"microsoft365", 5, 50, false}, Limits{"apple", 10, 5, false}, Limits{"comcast", 25, 1000, true},
        Limits{"gmx", 4, 20, true}, Limits{"orange", 2, 100, true}, Limits{"mimecast", 10, 100, false},
        Limits{"barracuda", 10, 15, true}, Limits{"qq", 4, 8, false}, Limits{"netease", 4, 7, false}}) {
    const auto* provider = known.named(wanted.name);
    ASSERT_TRUE(provider) << wanted.name;
    EXPECT_EQ(provider->connections.value_or(0), wanted.connections) << wanted.name;
    EXPECT_EQ(provider->messages_per_connection.value_or(0), wanted.messages) << wanted.name;
    EXPECT_EQ(provider->tls_required, wanted.tls) << wanted.name;
  }
}

TEST(ShippedProviders, KnowWhoConsultsAList) {
  const routing::Providers known(providers());
  const auto consulting = known.consulting("zen");
  EXPECT_NE(std::ranges::find(consulting, "microsoft"), consulting.end());
  EXPECT_EQ(std::ranges::find(consulting, "google"), consulting.end());
  EXPECT_TRUE(known.consulting("uceprotect3").empty());
}

TEST(ShippedProviders, HaveSuffixesOfTheirOwn) {
  std::set<std::string> suffixes;
  for (const auto& provider : providers()) {
    EXPECT_FALSE(provider.mx.empty()) << provider.name;
    for (const auto& suffix : provider.mx) EXPECT_TRUE(suffixes.insert(suffix).second) << provider.name << " " << suffix;
  }
}

TEST(ShippedProviders, WriteSuffixesAsHostNames) {
  for (const auto& provider : providers())
    for (const auto& suffix : provider.mx) {
      const std::string host = suffix.starts_with('.') ? suffix.substr(1) : suffix;
      EXPECT_TRUE(smtp::valid_domain(host, false) && host.find_first_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ") == std::string::npos)
          << suffix;
    }
}

TEST(ShippedProviders, FindTheOwnersOfKnownHosts) {
  const routing::Providers known(providers());
  const auto owner = [&](const char* host) { return known.find(host) ? known.find(host)->name : "none"; };
  EXPECT_EQ(owner("gmail-smtp-in.l.google.com"), "google");
  EXPECT_EQ(owner("aspmx.l.google.com"), "google");
  EXPECT_EQ(owner("outlook-com.olc.protection.outlook.com"), "microsoft");
  EXPECT_EQ(owner("example-com.mail.protection.outlook.com"), "microsoft365");
  EXPECT_EQ(owner("example-com.o-v1.mx.microsoft"), "microsoft365");
  EXPECT_EQ(owner("mta5.am0.yahoodns.net"), "yahoo");
  EXPECT_EQ(owner("mx01.mail.icloud.com"), "apple");
  EXPECT_EQ(owner("mx00.gmx.net"), "gmx");
  EXPECT_EQ(owner("eu-smtp-inbound-1.mimecast.com"), "mimecast");
  EXPECT_EQ(owner("mx.notgoogle.com"), "none");
}

// ---- smarthosts --------------------------------------------------------------------------------------------------

TEST(ShippedSmarthosts, CanBeUsedWithWhatTheyNeed) {
  const auto presets = smarthosts();
  for (const auto& [name, preset] : presets) {
    std::string text =
        "hostname: r.example\nlisteners: [{address: \"127.0.0.1:25\"}]\nclasses: {c: {pool: p}}\npools: {p: {fallback: [s]}}\n"
        "smarthosts: {s: {provider: " +
        name;
    for (const auto& need : preset.needs) text += ", " + need + ": " + (need == "address" ? "\"smtp.example.net:587\"" : "x");
    Problems problems;
    const auto config = load_text(
        text + "}}\n", "f", [](const std::string&) { return std::nullopt; }, problems);
    ASSERT_TRUE(config) << name << "\n" << to_text(problems);
    EXPECT_TRUE(smtp::valid_domain(config->smarthosts.at(0).host, false)) << config->smarthosts.at(0).host;
  }
}

TEST(ShippedSmarthosts, WantTlsOnEveryPort) {
  for (const auto& [name, preset] : smarthosts()) {
    ASSERT_FALSE(preset.ports.empty()) << name;
    for (const std::uint16_t port : preset.ports)
      EXPECT_EQ(port == 465 || port == 2465, std::ranges::find(preset.implicit_tls, port) != preset.implicit_tls.end())
          << name << " " << port;
  }
}

TEST(ShippedSmarthosts, KnowUserNamesThatAreAlwaysTheSame) {
  const auto presets = smarthosts();
  EXPECT_EQ(presets.at("sendgrid").username, "apikey");
  EXPECT_EQ(presets.at("sparkpost").username, "SMTP_Injection");
  EXPECT_EQ(presets.at("postmark").username, "{password}");
  EXPECT_EQ(presets.at("ses").needs, (std::vector<std::string>{"region", "username", "password"}));
}

// ---- reply rules -------------------------------------------------------------------------------------------------

TEST(ShippedReplies, AreCompiledWithoutAProblem) {
  Problems problems;
  const auto rules = shipped_reply_rules(problems);
  EXPECT_TRUE(problems.empty()) << to_text(problems);
  EXPECT_EQ(rules->rules().size(), replies().size());
}

TEST(ShippedReplies, HaveNamesOfTheirOwn) {
  std::set<std::string> names;
  for (const auto& rule : replies()) EXPECT_TRUE(names.insert(rule.name).second) << rule.name;
}

TEST(ShippedReplies, NameProvidersThatExist) {
  std::set<std::string> names;
  for (const auto& provider : providers()) names.insert(provider.name);
  for (const auto& [name, preset] : smarthosts()) EXPECT_TRUE(names.insert(name).second) << name << " is a receiver too";
  for (const auto& rule : replies())
    for (const auto& provider : rule.providers) EXPECT_TRUE(names.contains(provider)) << rule.name << " " << provider;
}

TEST(ShippedReplies, BringRepliesThatTheyJudge) {
  for (const auto& rule : replies())
    if (!rule.match.empty()) EXPECT_FALSE(rule.matches.empty()) << rule.name;
}

}  // namespace
}  // namespace egret::config
