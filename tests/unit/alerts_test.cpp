#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "config/config.hpp"
#include "relay/alerts/render.hpp"
#include "relay/alerts/webhook.hpp"
#include "routing/budget_stage.hpp"

namespace egret::relay {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view base =
    "hostname: relay.example.com\n"
    "classes: {transactional: {pool: main}}\n"
    "sources: {out1: {address: 192.0.2.1}, out2: {address: 192.0.2.2}}\n"
    "pools: {main: {sources: [out1, out2]}}\n"
    "listeners: [{address: \"127.0.0.1:2525\"}]\n"
    "reputation: {blocklists: {mine: {zone: bl.example.net, delist: \"https://example.net/remove\"}}}\n";

std::shared_ptr<const config::Config> load(const std::string& alerts, config::Problems& problems) {
  const auto nothing = [](const std::string&) { return std::optional<std::string>(); };
  return config::load_text(std::string(base) + alerts, "test.yaml", nothing, problems);
}

std::shared_ptr<const config::Config> load(const std::string& alerts) {
  config::Problems problems;
  auto out = load(alerts, problems);
  for (const auto& problem : problems) ADD_FAILURE() << problem.to_string();
  return out;
}

std::string why_refused(std::string_view url) {
  std::string why;
  return config::parse_webhook_url(url, why) ? "" : why;
}

Alert listed() {
  Alert out;
  out.id = "1700000000000-7";
  out.event.id = 7;
  out.event.time = routing::Time(1'700'000'000'000ms);
  out.event.kind = "listed";
  out.event.source = "out1";
  out.event.blocklist = "mine";
  out.event.rule = "blocklist-check";
  out.event.from = "clean";
  out.event.to = "listed";
  out.event.text = "mine lists the source 127.0.0.2";
  out.event.action = "Removal: https://example.net/remove";
  out.counts = {{"listed", 1}};
  out.first = out.last = out.event.time;
  return out;
}

TEST(WebhookSignature, IsHmacSha256OverTimestampDotBody) {
  EXPECT_EQ(webhook_signature("s3cret", "1700000000", R"({"kind":"listed"})"),
            "sha256=5120c409a33a79438d74f6b24fb10be49db6c6dc9e38c4538b2cee8e052470a9");
}

TEST(WebhookPause, DoublesUpToFiveMinutesWithJitter) {
  EXPECT_EQ(webhook_pause(1, 0.5), 1s);
  EXPECT_EQ(webhook_pause(2, 0.5), 2s);
  EXPECT_EQ(webhook_pause(4, 0.5), 8s);
  EXPECT_EQ(webhook_pause(1000, 0.5), 300s);
  EXPECT_EQ(webhook_pause(1, 0.0), 750ms);
  EXPECT_EQ(webhook_pause(1, 1.0), 1250ms);
}

TEST(WebhookAnswer, ServerTroubleIsTriedAgainRedirectsAndRefusalsAreNot) {
  for (const unsigned status : {200u, 202u, 204u}) EXPECT_EQ(judge_webhook(status), WebhookVerdict::taken) << status;
  for (const unsigned status : {408u, 425u, 429u, 500u, 503u, 100u})
    EXPECT_EQ(judge_webhook(status), WebhookVerdict::again) << status;
  for (const unsigned status : {301u, 302u, 307u, 400u, 401u, 404u, 410u})
    EXPECT_EQ(judge_webhook(status), WebhookVerdict::refused) << status;
}

TEST(WebhookUrl, IsTakenApart) {
  std::string why;
  const auto url = config::parse_webhook_url("https://Hooks.Example.com:8443/a%20b?c=d", why);
  ASSERT_TRUE(url) << why;
  EXPECT_TRUE(url->tls);
  EXPECT_EQ(url->host, "hooks.example.com");
  EXPECT_EQ(url->port, 8443);
  EXPECT_EQ(url->target, "/a%20b?c=d");
  EXPECT_EQ(url->origin(), "https://hooks.example.com:8443");
  const auto bare = config::parse_webhook_url("https://[2001:db8::1]?x", why);
  ASSERT_TRUE(bare) << why;
  EXPECT_EQ(bare->target, "/?x");
  EXPECT_EQ(bare->authority(), "[2001:db8::1]");
}

TEST(WebhookUrl, InClearGoesToLoopbackOnly) {
  for (const auto* url : {"http://127.0.0.1:8080/x", "http://127.9.9.9/", "http://[::1]:80/", "http://localhost/x"})
    EXPECT_EQ(why_refused(url), "") << url;
  for (const auto* url : {"http://192.0.2.1/x", "http://hooks.example.com/", "http://localhost.example.com/", "http://[::2]/",
                          "http://127.0.0.1.example.com/"})
    EXPECT_NE(why_refused(url).find("loopback"), std::string::npos) << url;
}

TEST(WebhookUrl, EverythingElseIsRefused) {
  for (const auto* url : {"", "hooks.example.com", "ftp://example.com/", "https://", "https:///x", "https://a b/", "https://x:0/",
                          "https://x:99999/", "https://x:/", "https://x:80x/", "https://u:p@example.com/", "https://x/#f",
                          "https://x/a b", "https://x/\r\nHost: y", "https://x/\"", "https://[::1/", "https://[example.com]/"})
    EXPECT_NE(why_refused(url), "") << url;
  EXPECT_NE(why_refused("https://x/" + std::string(3000, 'a')), "");
}

TEST(AlertsConfig, DefaultsToWhatAnOperatorMustKnow) {
  const auto config = load("alerts: [{webhook: \"https://hooks.example.com/x\", secret: abc}]\n");
  ASSERT_TRUE(config);
  const auto& target = config->alerts.at(0);
  EXPECT_TRUE(target.on.contains("listed") && target.on.contains("pool-exhausted") && target.on.contains("budget"));
  EXPECT_FALSE(target.on.contains("clean") || target.on.contains("throttled"));
  EXPECT_EQ(target.webhook->timeout, 10s);
  EXPECT_EQ(target.webhook->max_age, 1h);
}

TEST(AlertsConfig, ReadsMail) {
  const auto config =
      load("alerts: [{mail: ops@example.com, from: egret@relay.example.com, class: transactional, on: [poison]}]\n");
  ASSERT_TRUE(config);
  const auto& target = config->alerts.at(0);
  EXPECT_EQ(target.mail->to.to_string(), "ops@example.com");
  EXPECT_EQ(target.mail->from->to_string(), "egret@relay.example.com");
  EXPECT_EQ(target.on, (std::set<std::string, std::less<>>{"poison"}));
}

TEST(AlertsConfig, ProblemsDoNotShowSecrets) {
  config::Problems problems;
  EXPECT_FALSE(load("alerts: [{webhook: \"http://hooks.example.com/t0ken\", secret: s3cret, on: [nothing]}]\n", problems));
  ASSERT_FALSE(problems.empty());
  for (const auto& problem : problems) {
    EXPECT_EQ(problem.to_string().find("t0ken"), std::string::npos);
    EXPECT_EQ(problem.to_string().find("s3cret"), std::string::npos);
  }
}

TEST(Notice, SaysWhatItConcernsWhatWasDoneAndWhatToDo) {
  const auto config = load("");
  ASSERT_TRUE(config);
  const Notice notice = describe(listed(), *config, {{0, 12}});
  EXPECT_EQ(notice.summary, "listed: source out1, blocklist mine");
  EXPECT_EQ(notice.pools, std::vector<std::string>{"main"});
  EXPECT_EQ(notice.classes, std::vector<std::string>{"transactional"});
  EXPECT_EQ(notice.queue.at("transactional"), 12u);
  EXPECT_EQ(notice.did, "this source carries no mail; what its pools (main) have goes by their other ways out");
  EXPECT_EQ(notice.delist, "https://example.net/remove");
}

TEST(Notice, IsJsonWithTheSameFieldsAlways) {
  const auto config = load("");
  ASSERT_TRUE(config);
  const auto full = boost::json::parse(to_json(describe(listed(), *config, {{0, 12}}), "relay.example.com")).as_object();
  EXPECT_EQ(full.at("version"), 1);
  EXPECT_EQ(full.at("alert"), "1700000000000-7");
  EXPECT_EQ(full.at("phase"), "new");
  EXPECT_EQ(full.at("host"), "relay.example.com");
  EXPECT_EQ(full.at("seen"), "mine lists the source 127.0.0.2");
  EXPECT_EQ(full.at("rule"), "blocklist-check");
  EXPECT_EQ(full.at("concerns").at("queue").at("transactional"), 12);
  EXPECT_EQ(full.at("counts").at("listed"), 1);
  EXPECT_EQ(full.at("time"), "2023-11-14T22:13:20.000Z");
  const auto empty = boost::json::parse(to_json(describe(Alert{}, *config, {}), "relay.example.com")).as_object();
  EXPECT_EQ(empty.size(), full.size());
}

TEST(Notice, RemoteWordsAreCleanedAndCut) {
  const auto config = load("");
  ASSERT_TRUE(config);
  Alert alert = listed();
  alert.event.text = "a\r\nX: b\xff" + std::string(5000, 'x');
  const auto body = boost::json::parse(to_json(describe(alert, *config, {}), "relay.example.com")).as_object();
  EXPECT_TRUE(body.at("seen").as_string().starts_with("a??X: b?x"));
  EXPECT_EQ(body.at("seen").as_string().size(), 1000u);
}

TEST(AlertMail, IsAWholeMessageInWireForm) {
  const auto config = load("");
  ASSERT_TRUE(config);
  Alert alert = listed();
  alert.event.text = "gr\xc3\xbc\xc3\x9f\x65\r\n.\r\nInjected: yes " + std::string(5000, 'x');
  AlertMessage about;
  about.hostname = "relay.example.com";
  about.from = "egret@relay.example.com";
  about.to = "ops@example.com";
  const std::string mail = to_mail({describe(alert, *config, {}), describe(listed(), *config, {})}, about);
  const std::string header = mail.substr(0, mail.find("\r\n\r\n") + 2);
  EXPECT_NE(header.find("Subject: [relay.example.com] listed: source out1, blocklist mine (and 1 more)\r\n"), std::string::npos);
  EXPECT_NE(header.find("Auto-Submitted: auto-generated\r\n"), std::string::npos);
  EXPECT_NE(header.find("Content-Transfer-Encoding: 8bit\r\n"), std::string::npos);
  for (const char c : header) EXPECT_LT(static_cast<unsigned char>(c), 0x80);
  EXPECT_EQ(mail.substr(mail.size() - 2), "\r\n");
  for (std::size_t at = 0, end; at < mail.size(); at = end + 2) {
    end = mail.find("\r\n", at);
    ASSERT_NE(end, std::string::npos);
    EXPECT_LE(end - at, 998u);
    EXPECT_NE(mail[at], '.');
    EXPECT_FALSE(mail.substr(at, 9) == "Injected:");
  }
  EXPECT_EQ(std::ranges::count(mail, '\n'), std::ranges::count(mail, '\r'));
}

TEST(BudgetStage, IsLowFromFourFifthsOn) {
  using routing::BudgetStage;
  const routing::Budget budget{100, 24h};
  EXPECT_EQ(routing::budget_stage(79, budget), BudgetStage::half);
  EXPECT_EQ(routing::budget_stage(80, budget), BudgetStage::low);
  EXPECT_EQ(routing::budget_stage(100, budget), BudgetStage::used_up);
  EXPECT_EQ(routing::budget_stage(UINT64_MAX - 1, {UINT64_MAX, 24h}), BudgetStage::low);
}

}  // namespace
}  // namespace egret::relay
