#include "relay/ingress/brake_claims.hpp"

#include <gtest/gtest.h>

namespace egret::relay {
namespace {

using namespace std::chrono_literals;

config::Config config_of(std::string_view brakes) {
  const std::string text =
      "hostname: relay.example.com\nclasses: {t: {pool: main}}\nsources: {a: {address: 192.0.2.1}}\n"
      "pools: {main: {sources: [a]}}\nlisteners: [{address: \"127.0.0.1:2525\"}]\nbrakes: " +
      std::string(brakes) + "\n";
  config::Problems problems;
  const auto loaded = config::load_text(
      text, "test.yaml", [](const std::string&) { return std::nullopt; }, problems);
  for (const auto& problem : problems) ADD_FAILURE() << problem.to_string();
  return loaded ? *loaded : config::Config{};
}

BrakeSubject joe(std::uint64_t messages, std::uint64_t recipients) {
  BrakeSubject out;
  out.client = routing::IpAddress::v4(192, 0, 2, 7);
  out.user = "joe";
  out.sender_domain = "Shop.Example";
  out.messages = messages;
  out.recipients = recipients;
  return out;
}

TEST(BrakeClaims, CountMessagesAndRecipientsInEveryPeriod) {
  const auto config = config_of("{user: {messages: 2/h, recipients: [3/h, 4/d]}}");
  Rates rates;
  const routing::Time start{};
  const auto take = [&](std::uint64_t messages, std::uint64_t recipients, routing::Duration at) {
    const auto claims = brake_claims(config, joe(messages, recipients));
    const auto refusal = take_claims(rates, claims, true, start + at);
    return refusal ? claims[refusal->claim].what : std::string();
  };
  EXPECT_EQ(take(1, 1, 0ms), "");
  EXPECT_EQ(take(0, 1, 1min), "");
  EXPECT_EQ(take(1, 1, 2min), "");
  EXPECT_EQ(take(0, 0, 3min), "user joe may send 2 messages in 1h");
  EXPECT_EQ(take(0, 0, 1h), "");
  EXPECT_EQ(take(1, 1, 1h), "");
  EXPECT_EQ(take(0, 1, 61min), "user joe may send to 4 recipients in 1d");
}

TEST(BrakeClaims, TheLastMessageMayHaveMoreRecipients) {
  const auto config = config_of("{user: {messages: 1/h}, suspend: {rate: 1/h}}");
  Rates rates;
  BrakeSubject subject = joe(1, 1);
  subject.barrier = Brakes::Barrier{routing::UserState::slowed, "why"};
  EXPECT_FALSE(take_claims(rates, brake_claims(config, subject), true, {}));
  subject.messages = 0;
  EXPECT_FALSE(take_claims(rates, brake_claims(config, subject), true, {}));
  subject.recipients = 0;
  EXPECT_TRUE(take_claims(rates, brake_claims(config, subject), true, {}));
}

TEST(BrakeClaims, WhatIsRefusedTakesNothingAnywhere) {
  const auto config = config_of("{user: {recipients: 1/h}, network: {recipients: 2/h}}");
  Rates rates;
  const auto take = [&](std::string_view user) {
    BrakeSubject subject = joe(1, 1);
    subject.user = user;
    const auto claims = brake_claims(config, subject);
    return take_claims(rates, claims, true, {}).has_value();
  };
  EXPECT_FALSE(take("joe"));
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(take("joe"));
  EXPECT_FALSE(take("ann"));  // the network still had one
  EXPECT_TRUE(take("eve"));
}

TEST(BrakeClaims, NameNetworkAndSenderDomain) {
  const auto config = config_of("{network: {messages: 1/h}, sender_domain: {messages: 1/h}}");
  const auto claims = brake_claims(config, joe(1, 1));
  ASSERT_EQ(claims.size(), 2u);
  EXPECT_EQ(claims[0].what, "client network 192.0.2.0/24 may send 1 messages in 1h");
  EXPECT_EQ(claims[1].what, "sender domain shop.example may send 1 messages in 1h");
  BrakeSubject null = joe(1, 1);
  null.sender_domain = {};
  EXPECT_EQ(brake_claims(config, null).size(), 1u);
}

TEST(BrakeClaims, AUsersOwnRateReplacesTheRecipientsOfAll) {
  const auto config = config_of("{user: {messages: 5/h, recipients: 3/h}}");
  BrakeSubject subject = joe(1, 1);
  subject.own_rate = routing::Budget{1000, 1h};
  const auto claims = brake_claims(config, subject);
  ASSERT_EQ(claims.size(), 2u);
  EXPECT_EQ(claims[0].what, "user joe may send to 1000 recipients in 1h");
  EXPECT_EQ(claims[1].what, "user joe may send 5 messages in 1h");
}

TEST(BrakeClaims, ObservingTakesApart) {
  const auto config = config_of("{mode: observe, user: {messages: 1/h}}");
  BrakeSubject subject = joe(1, 1);
  subject.own_rate = routing::Budget{10, 1h};
  Rates rates;
  const auto claims = brake_claims(config, subject);
  EXPECT_FALSE(take_claims(rates, claims, true, {}));
  EXPECT_FALSE(take_claims(rates, claims, false, {}));
  EXPECT_FALSE(take_claims(rates, claims, true, {}));
  const auto refusal = take_claims(rates, claims, false, {});
  ASSERT_TRUE(refusal);
  EXPECT_FALSE(claims[refusal->claim].enforced);
}

TEST(BrakeClaims, ASlowedUserIsToldWhy) {
  const auto config = config_of("{suspend: {rate: 1/m}}");
  BrakeSubject subject = joe(1, 1);
  subject.barrier = Brakes::Barrier{routing::UserState::slowed, "60 of 80 recipients do not exist"};
  const auto claims = brake_claims(config, subject);
  ASSERT_EQ(claims.size(), 1u);
  EXPECT_EQ(claims[0].what, "slowed user joe may send 1 messages in 1m, because 60 of 80 recipients do not exist");
}

TEST(BrakeClaims, RepliesStayShortAndPrintable) {
  BrakeSubject subject = joe(1, 1);
  const std::string domain(250, 'x');
  subject.sender_domain = domain;
  const auto claims = brake_claims(config_of("{sender_domain: {messages: 1/h}}"), subject);
  EXPECT_LT(claims.at(0).what.size(), 200u);
  EXPECT_LT(suspended_text(std::string(3000, 'x'), std::string(255, 'y')).size(), 500u);
}

}  // namespace
}  // namespace egret::relay
