#include "relay/delivery/selector.hpp"

#include <gtest/gtest.h>

namespace egret::relay {
namespace {

const config::Config& two_classes() {
  static const config::Config config = [] {
    config::Config out;
    out.classes.resize(2);
    out.classes[0].name = "transactional";
    out.classes[1].name = "bulk";
    out.topology.sources.resize(2);
    out.topology.sources[0].name = "out1";
    out.topology.sources[1].name = "out2";
    out.topology.smarthosts = {"ses"};
    return out;
  }();
  return config;
}

Selector parsed(std::string_view text) {
  auto out = parse_selector(text, two_classes());
  EXPECT_TRUE(std::holds_alternative<Selector>(out)) << text << ": " << std::get<std::string>(out);
  return std::get<Selector>(std::move(out));
}

std::string error(std::string_view text) {
  auto out = parse_selector(text, two_classes());
  EXPECT_TRUE(std::holds_alternative<std::string>(out)) << text;
  const auto* wrong = std::get_if<std::string>(&out);
  return wrong ? *wrong : "";
}

constexpr routing::EgressRef out2{routing::EgressKind::source, 1};
constexpr routing::EgressRef ses{routing::EgressKind::smarthost, 0};

SelectorFacts some_facts() {
  return {smtp::MessageId{7}, 1, "held", out2, "mx.example.net"};
}

// ---- what is understood ------------------------------------------------------------------------------------------

TEST(Selector, NamesMessagesByEveryKey) {
  const std::string id = smtp::to_string(smtp::MessageId{7});
  const Selector s =
      parsed("id=" + id + ",class=bulk,sender=a@b.example,domain=B.Example,site=mx.b.example,egress=ses,state=held");
  EXPECT_EQ(s.id, smtp::MessageId{7});
  EXPECT_EQ(s.message_class, 1u);
  EXPECT_EQ(s.sender, (smtp::Address{"a", "b.example"}));
  EXPECT_EQ(s.domain, "b.example");
  EXPECT_EQ(s.site, "mx.b.example");
  EXPECT_EQ(s.egress, ses);
  EXPECT_EQ(s.state, "held");
}

TEST(Selector, KeepsItsText) {
  EXPECT_EQ(parsed("class=bulk,state=held").text, "class=bulk,state=held");
}

TEST(Selector, ACommaInAQuotedStringSeparatesNothing) {
  const Selector s = parsed(R"(sender="a,\"b"@example.com,class=bulk)");
  EXPECT_EQ(s.sender, (smtp::Address{R"("a,\"b")", "example.com"}));
  EXPECT_EQ(s.message_class, 1u);
}

TEST(Selector, TakesASenderInAngleBracketsAndTheNullSender) {
  EXPECT_EQ(parsed("sender=<a@b.example>").sender, (smtp::Address{"a", "b.example"}));
  EXPECT_TRUE(parsed("sender=<>").sender.value().null());
}

// ---- what is refused, by its key ---------------------------------------------------------------------------------

TEST(Selector, IsNeverEmptyByAccident) {
  EXPECT_EQ(error(""), "selector: expected KEY=VALUE,... or all");
  EXPECT_EQ(error(","), "selector: expected KEY=VALUE");
  EXPECT_EQ(error("class=bulk,"), "selector: expected KEY=VALUE");
  EXPECT_EQ(error("all,class=bulk"), "all: expected KEY=VALUE");
}

TEST(Selector, NamesTheKeyThatIsWrong) {
  EXPECT_TRUE(error("colour=red").starts_with("colour: no such key"));
  EXPECT_TRUE(error("Class=bulk").starts_with("Class: no such key"));
  EXPECT_EQ(error("class"), "class: expected KEY=VALUE");
  EXPECT_EQ(error("id=xyz!"), "id: expected a message id");
  EXPECT_EQ(error("class=news"), "class: no class is called news");
  EXPECT_TRUE(error("sender=nobody").starts_with("sender: "));
  EXPECT_TRUE(error("sender=").starts_with("sender: "));
  EXPECT_TRUE(error("domain=a..b").starts_with("domain: "));
  EXPECT_TRUE(error("domain=").starts_with("domain: "));
  EXPECT_TRUE(error("site=").starts_with("site: "));
  EXPECT_EQ(error("egress=out9"), "egress: no source or smarthost is called out9");
  EXPECT_TRUE(error("state=waiting").starts_with("state: expected held"));
  EXPECT_EQ(error("class=bulk,class=transactional"), "class: given twice");
}

TEST(Selector, HasALimit) {
  EXPECT_TRUE(error("site=" + std::string(3000, 'x')).starts_with("selector: longer"));
}

// ---- what fits ---------------------------------------------------------------------------------------------------

TEST(Selector, AllFitsEverything) {
  const Selector all = parsed("all");
  EXPECT_TRUE(all.fits(some_facts()));
  EXPECT_TRUE(all.fits_sender({}));
  EXPECT_TRUE(all.fits_domain("anything.example"));
  EXPECT_FALSE(all.wants_envelope());
}

TEST(Selector, FitsOnlyWhenAllConditionsHold) {
  EXPECT_TRUE(parsed("class=bulk,state=held,egress=out2,site=mx.example.net").fits(some_facts()));
  EXPECT_FALSE(parsed("class=transactional,state=held").fits(some_facts()));
  EXPECT_FALSE(parsed("class=bulk,state=ready").fits(some_facts()));
  EXPECT_FALSE(parsed("class=bulk,egress=out1").fits(some_facts()));
  EXPECT_FALSE(parsed("class=bulk,egress=ses").fits(some_facts()));
  EXPECT_FALSE(parsed("class=bulk,site=mx.example.com").fits(some_facts()));
  EXPECT_FALSE(parsed("class=bulk,id=" + smtp::to_string(smtp::MessageId{8})).fits(some_facts()));
}

TEST(Selector, AnEgressFitsOnlyWhatHasOne) {
  SelectorFacts facts = some_facts();
  facts.egress.reset();
  EXPECT_FALSE(parsed("egress=out2").fits(facts));
}

TEST(Selector, AnUnknownSiteIsLeftToALookup) {
  SelectorFacts facts = some_facts();
  facts.site.reset();
  EXPECT_TRUE(parsed("site=mx.elsewhere.example").fits(facts));
}

TEST(Selector, ComparesSendersAsSmtpDoes) {
  const Selector s = parsed("sender=App@Example.com");
  EXPECT_TRUE(s.wants_envelope());
  EXPECT_TRUE(s.fits_sender({"App", "EXAMPLE.COM"}));
  EXPECT_FALSE(s.fits_sender({"app", "example.com"}));
  EXPECT_FALSE(s.fits_sender({"App", "example.org"}));
  EXPECT_FALSE(s.fits_sender({}));
  EXPECT_TRUE(parsed("sender=<>").fits_sender({}));
  EXPECT_FALSE(parsed("sender=<>").fits_sender({"App", "example.com"}));
}

TEST(Selector, ComparesDomainsWithoutCaseAndInOneForm) {
  EXPECT_TRUE(parsed("domain=example.com").fits_domain("Example.COM"));
  EXPECT_FALSE(parsed("domain=example.com").fits_domain("sub.example.com"));
  EXPECT_TRUE(parsed("domain=b\xc3\xbc"
                     "cher.example")
                  .fits_domain("XN--BCHER-KVA.example"));
  EXPECT_TRUE(parsed("domain=xn--bcher-kva.example")
                  .fits_domain("B\xc3\x9c"
                               "CHER.example"));
  EXPECT_TRUE(parsed("domain=[192.0.2.1]").fits_domain("[192.0.2.1]"));
}

}  // namespace
}  // namespace egret::relay
