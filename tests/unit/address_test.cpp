#include "smtp/address.hpp"

#include <gtest/gtest.h>

namespace egret::smtp {
namespace {

std::optional<Address> mailbox(std::string_view text) {
  return parse_mailbox(text, false);
}
std::optional<Address> utf8_mailbox(std::string_view text) {
  return parse_mailbox(text, true);
}

/// The address of a path and what stands behind it, as "address|rest"; "-" where there is no path.
std::string path(std::string_view text) {
  const auto address = parse_path(text, false);
  return address ? address->to_string() + "|" + std::string(text) : "-";
}

std::string domain_of(std::size_t size) {
  std::string out;
  while (out.size() + 51 <= size) out += std::string(50, 'a') + '.';
  out += std::string(size - out.size(), 'b');
  return out;
}

TEST(Mailbox, KeepsCaseOfBothParts) {
  EXPECT_EQ(mailbox("John.Doe@Example.COM"), (Address{"John.Doe", "Example.COM"}));
}

TEST(Mailbox, TakesEveryAtextCharacter) {
  EXPECT_EQ(mailbox("!#$%&'*+-/=?^_`{|}~@example.com")->local, "!#$%&'*+-/=?^_`{|}~");
}

TEST(Mailbox, KeepsAQuotedLocalPartVerbatim) {
  EXPECT_EQ(mailbox(R"("a b\"c@d"@example.com)"), (Address{R"("a b\"c@d")", "example.com"}));
}

TEST(Mailbox, DropsASourceRoute) {
  EXPECT_EQ(mailbox("@a.example,@b.example:c@d.example"), (Address{"c", "d.example"}));
}

TEST(Mailbox, TakesAddressLiterals) {
  EXPECT_EQ(mailbox("a@[192.0.2.1]")->domain, "[192.0.2.1]");
  EXPECT_EQ(mailbox("a@[IPv6:2001:db8::1]")->domain, "[IPv6:2001:db8::1]");
}

TEST(Mailbox, NeedsBothParts) {
  for (const auto text : {"", "a", "@example.com", "a@", "a.example.com", "\"\"", "@a.example"})
    EXPECT_FALSE(mailbox(text)) << text;
}

TEST(Mailbox, RefusesMisplacedDotsInTheDomain) {
  for (const auto text : {"a@.example.com", "a@example..com", "a@example.com."}) EXPECT_FALSE(mailbox(text)) << text;
}

TEST(Mailbox, TakesNoOctetAbove127BehindABackslashWithoutSmtputf8) {
  EXPECT_FALSE(
      parse_mailbox("\"a b\\\xDE"
                    "c\"@[192.0.2.1]",
                    false));
}

TEST(Mailbox, TakesDotsWhereverALocalPartHasThem) {
  for (const auto text : {".a@example.com", "a.@example.com", "a..b@example.com"}) EXPECT_TRUE(mailbox(text)) << text;
}

TEST(Mailbox, RefusesSpacesAndSpecialsOutsideQuotes) {
  for (const auto text :
       {"a b@example.com", "a,b@example.com", "a<b@example.com", "a(b)@example.com", "a@exam ple.com", "a@b@example.com"})
    EXPECT_FALSE(mailbox(text)) << text;
}

TEST(Mailbox, RefusesControlCharactersEvenQuoted) {
  using namespace std::string_view_literals;
  for (const auto text :
       {"\"a\rb\"@example.com"sv, "\"a\nb\"@example.com"sv, "\"a\0b\"@example.com"sv, "\"a\\\rb\"@example.com"sv,
        "\"a\x7f\"@example.com"sv, "a\0@example.com"sv, "a@example.com\0"sv, "a@exam\r\nple.com"sv})
    EXPECT_FALSE(mailbox(text)) << text;
}

TEST(Mailbox, RefusesAnUnfinishedQuotation) {
  for (const auto text : {"\"a@example.com", "\"a\\\"@example.com", "\"a\"b@example.com", "\"a\\"})
    EXPECT_FALSE(mailbox(text)) << text;
}

TEST(Mailbox, LimitsTheLocalPartTo64Octets) {
  EXPECT_TRUE(mailbox(std::string(64, 'a') + "@example.com"));
  EXPECT_FALSE(mailbox(std::string(65, 'a') + "@example.com"));
}

TEST(Mailbox, LimitsTheDomain) {
  EXPECT_TRUE(mailbox("a@" + domain_of(252)));
  EXPECT_FALSE(mailbox("a@" + domain_of(256)));
}

TEST(Mailbox, TakesNonAsciiOnlyWithSmtputf8) {
  EXPECT_FALSE(mailbox("gr\xC3\xBC\xC3\x9F@example.com"));
  EXPECT_FALSE(
      mailbox("a@b\xC3\xBC"
              "cher.example"));
  EXPECT_TRUE(
      utf8_mailbox("gr\xC3\xBC\xC3\x9F@b\xC3\xBC"
                   "cher.example"));
}

TEST(Mailbox, RefusesBrokenUtf8) {
  EXPECT_FALSE(utf8_mailbox("a\xC3@example.com"));
  EXPECT_FALSE(utf8_mailbox("\"\xFF\"@example.com"));
  EXPECT_FALSE(utf8_mailbox("a@\xC0\xAF.example"));
}

TEST(Address, KnowsItsAlphabet) {
  EXPECT_TRUE((Address{"a", "b.example"}).ascii());
  EXPECT_FALSE((Address{"\xC3\xBC", "b.example"}).ascii());
  EXPECT_FALSE((Address{"a", "\xC3\xBC.example"}).ascii());
}

TEST(Path, LeavesWhatFollowsIt) {
  EXPECT_EQ(path("<a@b.example> SIZE=1"), "a@b.example| SIZE=1");
}

TEST(Path, OfNothingIsTheNullAddress) {
  std::string_view text = "<> BODY=7BIT";
  const auto address = parse_path(text, false);
  ASSERT_TRUE(address);
  EXPECT_TRUE(address->null());
  EXPECT_EQ(address->to_string(), "");
}

TEST(Path, ToleratesASpaceBeforeTheBracket) {
  EXPECT_EQ(path(" <a@b.example>"), "a@b.example|");
}

TEST(Path, NeedsBrackets) {
  for (const auto text : {"", " ", "a@b.example", "<a@b.example", "a@b.example>", "< a@b.example>", "<<a@b.example>>"})
    EXPECT_EQ(path(text), "-") << text;
}

TEST(Path, EndsAtTheFirstBracketOutsideQuotes) {
  EXPECT_EQ(path(R"(<"a>b"@c.example> X)"), R"("a>b"@c.example| X)");
  EXPECT_EQ(path(R"(<"a\">b"@c.example>)"), R"("a\">b"@c.example|)");
}

TEST(Path, IsLeftAloneWhenMalformed) {
  std::string_view text = "<bad> X";
  EXPECT_FALSE(parse_path(text, false));
  EXPECT_EQ(text, "<bad> X");
}

TEST(Domain, IsMadeOfLabels) {
  for (const auto text : {"a", "example.com", "a-b.example", "_dmarc.example.com", "1.2", "xn--bcher-kva.example"})
    EXPECT_TRUE(valid_domain(text, false)) << text;
  for (const auto text : {"", ".", "a..b", ".a", "a.", "-a.example", "a-.example", "a.b-", "a b", "a/b", "a:b", "[1.2.3.4]"})
    EXPECT_FALSE(valid_domain(text, false)) << text;
}

TEST(Domain, LimitsLabelsTo63AndAllTo253) {
  EXPECT_TRUE(valid_domain(std::string(63, 'a') + ".example", false));
  EXPECT_FALSE(valid_domain(std::string(64, 'a') + ".example", false));
  EXPECT_TRUE(valid_domain(domain_of(253), false));
  EXPECT_FALSE(valid_domain(domain_of(254), false));
}

TEST(AddressLiteral, HasBracketsAndDigits) {
  for (const auto text : {"[192.0.2.1]", "[IPv6:2001:db8::1]", "[ipv6:::1]"}) EXPECT_TRUE(valid_address_literal(text)) << text;
  for (const auto text : {"", "[]", "192.0.2.1", "[192.0.2.1", "[IPv6:]", "[a.b]", "[2001:db8::1]", "[IPv6:x]", "[1 ]"})
    EXPECT_FALSE(valid_address_literal(text)) << text;
}

}  // namespace
}  // namespace egret::smtp
