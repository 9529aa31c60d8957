#include "routing/sender_records.hpp"

#include <gtest/gtest.h>

namespace egret::routing {
namespace {

const std::string ours = "v=DKIM1; k=rsa; p=MIIBAB+/==";

std::vector<std::optional<DmarcRecord>> records(const std::vector<std::string>& texts) {
  std::vector<std::optional<DmarcRecord>> out;
  for (const auto& text : texts) out.push_back(find_dmarc({text}));
  return out;
}

TEST(DkimRecords, MatchWhateverTheirSpacing) {
  EXPECT_EQ(judge_dkim_records({ours}, ours), PublishedKey::matches);
  EXPECT_EQ(judge_dkim_records({"p=MIIB AB+/ == ;k=rsa"}, ours), PublishedKey::matches);
  EXPECT_EQ(judge_dkim_records({"unrelated", "v=DKIM1;p=MIIBAB+/==; t=s"}, ours), PublishedKey::matches)
      << "k=rsa is the default";
}

TEST(DkimRecords, DifferByKeyOrAlgorithm) {
  EXPECT_EQ(judge_dkim_records({"v=DKIM1; p=AAAA"}, ours), PublishedKey::differs);
  EXPECT_EQ(judge_dkim_records({"v=DKIM1; k=ed25519; p=MIIBAB+/=="}, ours), PublishedKey::differs);
}

TEST(DkimRecords, AreRevokedMissingOrSeveral) {
  EXPECT_EQ(judge_dkim_records({"v=DKIM1; p="}, ours), PublishedKey::revoked);
  EXPECT_EQ(judge_dkim_records({}, ours), PublishedKey::missing);
  EXPECT_EQ(judge_dkim_records({"v=DKIM2; p=MIIBAB+/=="}, ours), PublishedKey::missing);
  EXPECT_EQ(judge_dkim_records({"v=spf1 -all", "p=a; p=b", "=;="}, ours), PublishedKey::missing);
  EXPECT_EQ(judge_dkim_records({ours, "v=DKIM1; p=AAAA"}, ours), PublishedKey::several);
}

TEST(Dmarc, ReadsThePolicyAndItsAlignment) {
  const auto record = find_dmarc({"v=spf1 -all", "v=DMARC1; p=Reject; sp=quarantine; adkim=s; rua=mailto:a@b.test"});
  ASSERT_TRUE(record);
  EXPECT_EQ(record->policy, "reject");
  EXPECT_EQ(record->subdomain_policy, "quarantine");
  EXPECT_TRUE(record->strict_dkim);
  EXPECT_FALSE(record->strict_spf);
}

TEST(Dmarc, CountsAnUnknownPolicyAsNone) {
  EXPECT_EQ(find_dmarc({"v=DMARC1; p=deny"})->policy, "none");
  EXPECT_EQ(find_dmarc({"v=DMARC1;"})->policy, "none");
}

TEST(Dmarc, TakesExactlyOneRecordThatBeginsWithItsVersion) {
  EXPECT_FALSE(find_dmarc({"p=reject; v=DMARC1"}));
  EXPECT_FALSE(find_dmarc({"v=dmarc1; p=reject"}));
  EXPECT_FALSE(find_dmarc({"v=DMARC1; p=reject", "v=DMARC1; p=none"}));
  EXPECT_FALSE(find_dmarc({"v=DMARC1; p=reject; p=none"}));
}

TEST(Dmarc, WalksUpInAtMostEightSteps) {
  EXPECT_EQ(dmarc_walk("A.b.example.com"), (std::vector<std::string>{"a.b.example.com", "b.example.com", "example.com", "com"}));
  const auto walk = dmarc_walk("a.b.c.d.e.f.g.h.i.j.example.com");
  ASSERT_EQ(walk.size(), 8u);
  EXPECT_EQ(walk[0], "a.b.c.d.e.f.g.h.i.j.example.com");
  EXPECT_EQ(walk[1], "f.g.h.i.j.example.com") << "seven labels";
  EXPECT_EQ(walk[7], "com");
}

TEST(Dmarc, PrefersTheDomainsOwnRecord) {
  const auto found =
      discover_dmarc({"a.example.com", "example.com", "com"}, records({"v=DMARC1; p=none", "v=DMARC1; p=reject", ""}));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->policy, "none");
  EXPECT_EQ(found->found_at, "a.example.com");
}

TEST(Dmarc, FallsBackToTheSubdomainPolicyOfTheOrganizationalDomain) {
  const std::vector<std::string> walk{"a.b.example.com", "b.example.com", "example.com", "com"};
  const auto top = discover_dmarc(walk, records({"", "v=DMARC1; p=none", "v=DMARC1; p=none; sp=reject", ""}));
  EXPECT_EQ(top->policy, "reject");
  EXPECT_EQ(top->found_at, "example.com") << "the fewest labels";
  const auto said = discover_dmarc(walk, records({"", "v=DMARC1; p=quarantine; psd=n", "v=DMARC1; p=reject", ""}));
  EXPECT_EQ(said->found_at, "b.example.com") << "it says that it is one";
  const auto below = discover_dmarc(walk, records({"", "", "v=DMARC1; p=quarantine", "v=DMARC1; p=reject; psd=y"}));
  EXPECT_EQ(below->found_at, "example.com");
  const auto suffix = discover_dmarc(walk, records({"", "", "", "v=DMARC1; p=reject; psd=y"}));
  EXPECT_EQ(suffix->found_at, "com");
  EXPECT_FALSE(discover_dmarc(walk, records({"", "", "", ""})));
}

}  // namespace
}  // namespace egret::routing
