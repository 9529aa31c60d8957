#include "routing/site.hpp"

#include <gtest/gtest.h>

namespace egret::routing {
namespace {

Provider provider(std::string name, std::vector<std::string> mx) {
  Provider out;
  out.name = std::move(name);
  out.mx = std::move(mx);
  return out;
}

Providers providers() {
  return Providers({provider("google", {".google.com", ".googlemail.com"}), provider("microsoft", {"outlook.com"}),
                    provider("hosted", {".hosted.outlook.com"})});
}

std::string found(std::string_view host) {
  const Providers all = providers();
  const Provider* p = all.find(host);
  return p ? p->name : "-";
}

TEST(Providers, AreFoundBySuffix) {
  EXPECT_EQ(found("aspmx.l.google.com"), "google");
  EXPECT_EQ(found("x.googlemail.com"), "google");
  EXPECT_EQ(found("mx.example.com"), "-");
}

TEST(Providers, ASuffixWithADotIsOnlyWhatLiesBelow) {
  EXPECT_EQ(found("google.com"), "-");
}

TEST(Providers, ASuffixWithoutADotIsTheHostToo) {
  EXPECT_EQ(found("outlook.com"), "microsoft");
  EXPECT_EQ(found("mx.outlook.com"), "microsoft");
}

TEST(Providers, ASuffixEndsAtALabel) {
  EXPECT_EQ(found("notoutlook.com"), "-");
  EXPECT_EQ(found("evilgoogle.com"), "-");
  EXPECT_EQ(found("google.com.evil.example"), "-");
}

TEST(Providers, TheLongestSuffixWins) {
  EXPECT_EQ(found("a.hosted.outlook.com"), "hosted");
}

TEST(Providers, AreKnownByName) {
  const Providers all = providers();
  ASSERT_NE(all.named("microsoft"), nullptr);
  EXPECT_EQ(all.named("microsoft")->mx.front(), "outlook.com");
  EXPECT_EQ(all.named("nobody"), nullptr);
}

TEST(Site, IsTheSameForTheSameHostsInAnyOrder) {
  std::vector<MxHost> a{{20, "b.example"}, {10, "c.example"}, {10, "a.example"}},
      b{{10, "a.example"}, {20, "b.example"}, {10, "c.example"}};
  sort_hosts(a);
  sort_hosts(b);
  EXPECT_EQ(a, b);
  EXPECT_EQ(site_key(a), "a.example,c.example,b.example");
}

TEST(Site, BelongsToTheProviderOfItsFirstHost) {
  const std::vector<MxHost> hosts{{5, "aspmx.l.google.com"}, {10, "mx.example.com"}};
  EXPECT_EQ(provider_of(hosts, providers()), "google");
}

TEST(Site, OfNobodyKnownIsItsOwnProvider) {
  const std::vector<MxHost> hosts{{5, "mx1.example.com"}, {10, "mx2.example.com"}};
  EXPECT_EQ(provider_of(hosts, providers()), "mx1.example.com");
}

TEST(Site, WithoutHostsHasNoProvider) {
  EXPECT_EQ(provider_of({}, providers()), "");
  EXPECT_EQ(site_key({}), "");
}

}  // namespace
}  // namespace egret::routing
