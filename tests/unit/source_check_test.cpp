#include "relay/reputation/source_check.hpp"

#include <gtest/gtest.h>

namespace egret::relay {
namespace {

using routing::IpAddress;
using Status = DnsReply::Status;

const IpAddress ours = IpAddress::v4(192, 0, 2, 25);

DnsReply names(std::vector<std::string> texts) {
  DnsReply out;
  out.status = texts.empty() ? Status::nxdomain : Status::ok;
  out.texts = std::move(texts);
  return out;
}

DnsReply addresses(std::vector<IpAddress> list) {
  DnsReply out;
  out.status = list.empty() ? Status::nxdomain : Status::ok;
  out.addresses = std::move(list);
  return out;
}

/// A source with which everything is right.
SourceFacts good() {
  SourceFacts out;
  out.address = ours;
  out.ehlo = "out1.example.net";
  out.ptr = names({"out1.example.net"});
  out.forwards = {{"out1.example.net", addresses({ours})}};
  out.ehlo_addresses = addresses({ours});
  return out;
}

bool says(const SourceDns& dns, std::string_view part) {
  return dns.problems.size() == 1 && dns.problems[0].find(part) != std::string::npos;
}

TEST(JudgeSource, HasNothingToSayWhereAllAgrees) {
  const SourceDns dns = judge_source(good());
  EXPECT_EQ(dns.problems, std::vector<std::string>{});
  EXPECT_EQ(dns.ptr, std::vector<std::string>{"out1.example.net"});
  EXPECT_EQ(dns.forward, true);
  EXPECT_EQ(dns.ehlo, true);
}

TEST(JudgeSource, MissesThePtrRecord) {
  SourceFacts facts = good();
  facts.ptr = names({});
  facts.forwards.clear();
  EXPECT_TRUE(says(judge_source(facts), "192.0.2.25 has no PTR record"));
  EXPECT_EQ(judge_source(facts).forward, false);
}

TEST(JudgeSource, WantsThePtrNameToLeadBack) {
  SourceFacts facts = good();
  facts.forwards = {{"out1.example.net", addresses({IpAddress::v4(192, 0, 2, 26)})}};
  EXPECT_TRUE(says(judge_source(facts), "does not lead back to 192.0.2.25"));
  facts.forwards = {{"out1.example.net", addresses({})}};
  EXPECT_EQ(judge_source(facts).forward, false);
}

TEST(JudgeSource, IsContentWithOneOfSeveralNames) {
  SourceFacts facts = good();
  facts.ptr = names({"other.example.net", "out1.example.net"});
  facts.forwards.insert(facts.forwards.begin(), {"other.example.net", addresses({})});
  EXPECT_TRUE(judge_source(facts).problems.empty());
}

TEST(JudgeSource, WantsTheEhloNameToLeadToTheAddress) {
  SourceFacts facts = good();
  facts.ehlo_addresses = addresses({IpAddress::v4(198, 51, 100, 1)});
  EXPECT_TRUE(says(judge_source(facts), "EHLO name out1.example.net leads elsewhere"));
  facts.ehlo_addresses = addresses({});
  EXPECT_TRUE(says(judge_source(facts), "EHLO name out1.example.net has no address"));
}

TEST(JudgeSource, TakesAnAddressLiteralAsEhloWhenItIsThisOne) {
  SourceFacts facts = good();
  facts.ehlo_addresses = {};
  facts.ehlo = "[192.0.2.25]";
  EXPECT_EQ(judge_source(facts).ehlo, true);
  facts.ehlo = "[192.0.2.99]";
  EXPECT_EQ(judge_source(facts).ehlo, false);
  facts.address = *IpAddress::parse("2001:db8::25");
  facts.ehlo = "[IPv6:2001:db8::25]";
  EXPECT_EQ(judge_source(facts).ehlo, true);
}

TEST(JudgeSource, WhatDnsDoesNotAnswerIsNoProblem) {
  SourceFacts facts = good();
  facts.ptr = facts.ehlo_addresses = {};
  facts.forwards.clear();
  SourceDns dns = judge_source(facts);
  EXPECT_TRUE(dns.problems.empty());
  EXPECT_EQ(dns.forward, std::nullopt);
  EXPECT_EQ(dns.ehlo, std::nullopt);
  facts = good();
  facts.forwards = {{"out1.example.net", DnsReply{}}};
  EXPECT_EQ(judge_source(facts).forward, std::nullopt);
  EXPECT_TRUE(judge_source(facts).problems.empty());
}

TEST(JudgeSource, MistrustsAGenericPtr) {
  SourceFacts facts = good();
  facts.ptr = names({"192-0-2-25.static.example.net"});
  facts.forwards = {{"192-0-2-25.static.example.net", addresses({ours})}};
  EXPECT_TRUE(says(judge_source(facts), "dynamic or unconfigured"));
}

TEST(GenericName, SpellsTheAddressOut) {
  for (const char* name : {"192-0-2-25.rev.example.net", "ip-192-0-2-25.example.net", "25.2.0.192.rev.example.net",
                           "ec2-192-0-2-25.compute.example.com", "host192.000.002.025.example.net", "c0000219.example.net"})
    EXPECT_TRUE(generic_name(name, ours)) << name;
}

TEST(GenericName, HasALabelOfLinesAndPools) {
  for (const char* name : {"p7.dip0.example.net", "dyn-44.example.net", "a.dynamic.example.net", "x.adsl.example.net",
                           "pool-3.example.net", "dhcp12.example.net", "h.cust.example.net"})
    EXPECT_TRUE(generic_name(name, ours)) << name;
}

TEST(GenericName, IsNoMailServersName) {
  for (const char* name : {"out1.example.net", "mx25.example.net", "mail-192-0.example.net", "dyn.com", "pool.org",
                           "spool.example.net", "cables.example.net", "customer.example.net", "a0.smtp2.example.net", "x", ""})
    EXPECT_FALSE(generic_name(name, ours)) << name;
}

}  // namespace
}  // namespace egret::relay
