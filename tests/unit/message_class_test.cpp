#include "routing/message_class.hpp"

#include <gtest/gtest.h>

namespace egret::routing {
namespace {

using Headers = std::vector<std::pair<std::string, std::string>>;

ClassRule user_rule(std::string user, std::string class_name) {
  ClassRule out;
  out.user = std::move(user);
  out.class_name = std::move(class_name);
  return out;
}

ClassRule header_rule(std::string header, std::string matches, std::string class_name) {
  ClassRule out;
  out.header = std::move(header);
  out.matches = std::move(matches);
  out.class_name = std::move(class_name);
  return out;
}

ClassRule domain_rule(std::string domain, std::string class_name) {
  ClassRule out;
  out.sender_domain = std::move(domain);
  out.class_name = std::move(class_name);
  return out;
}

ClassRule value_rule() {
  ClassRule out;
  out.header = "X-Egret-Class";
  out.from_value = true;
  return out;
}

MessageClassifier classifier(std::vector<ClassRule> rules) {
  std::vector<std::string> problems;
  MessageClassifier out(std::move(rules), {"transactional", "bulk"}, problems);
  EXPECT_TRUE(problems.empty());
  return out;
}

/// The class by name; "-" for the listener's own.
std::string class_of(const MessageClassifier& c, std::string_view user, std::string_view domain, const Headers& headers = {}) {
  return c.classify({user, domain, &headers}).class_name.value_or("-");
}

TEST(MessageClass, IsTheListenersWhereNoRuleFits) {
  EXPECT_EQ(class_of(classifier({user_rule("newsletter", "bulk")}), "shop", "example.com"), "-");
}

TEST(MessageClass, FollowsTheUser) {
  const auto c = classifier({user_rule("newsletter", "bulk")});
  EXPECT_EQ(class_of(c, "newsletter", ""), "bulk");
  EXPECT_EQ(class_of(c, "Newsletter", ""), "-");
}

TEST(MessageClass, FollowsTheSenderDomain) {
  const auto c = classifier({domain_rule("news.example.com", "bulk")});
  EXPECT_EQ(class_of(c, "", "News.Example.com"), "bulk");
  EXPECT_EQ(class_of(c, "", "a.news.example.com"), "-");
}

TEST(MessageClass, FollowsAHeadersPresence) {
  const auto c = classifier({header_rule("List-Unsubscribe", "", "bulk")});
  EXPECT_EQ(class_of(c, "", "", {{"list-unsubscribe", ""}}), "bulk");
  EXPECT_EQ(class_of(c, "", "", {{"list-id", "x"}}), "-");
}

TEST(MessageClass, FollowsAHeadersValue) {
  const auto c = classifier({header_rule("Precedence", "(?i)^(bulk|list|junk)$", "bulk")});
  EXPECT_EQ(class_of(c, "", "", {{"precedence", "Bulk"}}), "bulk");
  EXPECT_EQ(class_of(c, "", "", {{"precedence", "bulky"}}), "-");
  EXPECT_EQ(class_of(c, "", "", {{"precedence", "first-class"}, {"precedence", "list"}}), "bulk");
}

TEST(MessageClass, IsThatOfTheFirstRuleThatFits) {
  const auto c = classifier({domain_rule("example.com", "transactional"), header_rule("Precedence", "", "bulk")});
  EXPECT_EQ(class_of(c, "", "example.com", {{"precedence", "bulk"}}), "transactional");
  EXPECT_EQ(class_of(c, "", "example.net", {{"precedence", "bulk"}}), "bulk");
}

TEST(MessageClass, NeedsEveryConditionOfARule) {
  ClassRule rule = user_rule("shop", "bulk");
  rule.sender_domain = "example.com";
  rule.header = "Precedence";
  const auto c = classifier({rule});
  EXPECT_EQ(class_of(c, "shop", "example.com", {{"precedence", "x"}}), "bulk");
  EXPECT_EQ(class_of(c, "other", "example.com", {{"precedence", "x"}}), "-");
  EXPECT_EQ(class_of(c, "shop", "example.net", {{"precedence", "x"}}), "-");
  EXPECT_EQ(class_of(c, "shop", "example.com"), "-");
}

TEST(MessageClass, MayBeNamedByAHeader) {
  const auto c = classifier({value_rule(), user_rule("shop", "transactional")});
  EXPECT_EQ(class_of(c, "shop", "", {{"x-egret-class", " bulk "}}), "bulk");
  EXPECT_EQ(class_of(c, "shop", ""), "transactional");
}

TEST(MessageClass, NamedByAHeaderMustExist) {
  const Headers headers{{"x-egret-class", "vip\x1b"}};
  const Classified out = classifier({value_rule(), user_rule("shop", "bulk")}).classify({"shop", "", &headers});
  EXPECT_FALSE(out.class_name);
  EXPECT_EQ(out.unknown_class, "vip?");
}

TEST(MessageClass, NamesTheHeadersItNeeds) {
  const auto c = classifier(
      {value_rule(), header_rule("Precedence", "", "bulk"), header_rule("PRECEDENCE", "x", "bulk"), user_rule("a", "bulk")});
  EXPECT_EQ(c.headers(), (std::vector<std::string>{"x-egret-class", "precedence"}));
}

TEST(MessageClass, ABadPatternIsReportedAndNeverFits) {
  std::vector<std::string> problems;
  const MessageClassifier c({header_rule("Precedence", "(", "bulk")}, {"bulk"}, problems);
  EXPECT_EQ(problems.size(), 1u);
  EXPECT_EQ(class_of(c, "", "", {{"precedence", "("}}), "-");
}

TEST(MessageClass, NeedsNoHeaders) {
  EXPECT_FALSE(classifier({header_rule("A", "", "bulk")}).classify({"", "", nullptr}).class_name);
}

TEST(DomainPattern, IsTheDomainItself) {
  EXPECT_TRUE(domain_matches("example.com", "EXAMPLE.com"));
  EXPECT_FALSE(domain_matches("example.com", "a.example.com"));
}

TEST(DomainPattern, WithAStarIsWhatLiesBelow) {
  EXPECT_TRUE(domain_matches("*.example.com", "a.b.Example.com"));
  EXPECT_FALSE(domain_matches("*.example.com", "example.com"));
  EXPECT_FALSE(domain_matches("*.example.com", "badexample.com"));
  EXPECT_FALSE(domain_matches("*.example.com", ".example.com"));
}

}  // namespace
}  // namespace egret::routing
