#include "smtp/command.hpp"

#include <gtest/gtest.h>

namespace egret::smtp {
namespace {

/// The code with which a MAIL or RCPT argument is refused; 0: it is taken.
int mail_code(std::string_view argument) {
  MailCommand out;
  const auto error = parse_mail(argument, out);
  return error ? error->code : 0;
}

int rcpt_code(std::string_view argument, bool utf8 = false) {
  RcptCommand out;
  const auto error = parse_rcpt(argument, utf8, out);
  return error ? error->code : 0;
}

MailCommand mail(std::string_view argument) {
  MailCommand out;
  const auto error = parse_mail(argument, out);
  EXPECT_FALSE(error) << error->text;
  return out;
}

TEST(Command, KnowsItsVerbsInAnyCase) {
  EXPECT_EQ(parse_command("EHLO x").verb, Verb::ehlo);
  EXPECT_EQ(parse_command("helo x").verb, Verb::helo);
  EXPECT_EQ(parse_command("Mail FROM:<>").verb, Verb::mail);
  EXPECT_EQ(parse_command("rCpT TO:<a@b>").verb, Verb::rcpt);
  EXPECT_EQ(parse_command("DATA").verb, Verb::data);
  EXPECT_EQ(parse_command("RSET").verb, Verb::rset);
  EXPECT_EQ(parse_command("NOOP").verb, Verb::noop);
  EXPECT_EQ(parse_command("VRFY a").verb, Verb::vrfy);
  EXPECT_EQ(parse_command("EXPN a").verb, Verb::expn);
  EXPECT_EQ(parse_command("HELP").verb, Verb::help);
  EXPECT_EQ(parse_command("QUIT").verb, Verb::quit);
  EXPECT_EQ(parse_command("STARTTLS").verb, Verb::starttls);
  EXPECT_EQ(parse_command("AUTH PLAIN").verb, Verb::auth);
  EXPECT_EQ(parse_command("BDAT 1 LAST").verb, Verb::bdat);
}

TEST(Command, KnowsWholeWordsOnly) {
  for (const auto line : {"", " ", "DAT", "DATAX", "MAILFROM:<>", "RCPT\tTO:<a@b>", " DATA", "GET / HTTP/1.1"})
    EXPECT_EQ(parse_command(line).verb, Verb::unknown) << line;
}

TEST(Command, GivesTheArgumentWithoutTrailingBlanks) {
  EXPECT_EQ(parse_command("EHLO client.example \t ").argument, "client.example");
  EXPECT_EQ(parse_command("DATA  ").argument, "");
}

TEST(MailCommand, ReadsThePath) {
  EXPECT_EQ(mail("FROM:<a@b.example>").reverse_path, (Address{"a", "b.example"}));
  EXPECT_EQ(mail("from: <a@b.example>").reverse_path, (Address{"a", "b.example"}));
  EXPECT_TRUE(mail("FROM:<>").reverse_path.null());
}

TEST(MailCommand, HasNoSizeUnlessDeclared) {
  EXPECT_EQ(mail("FROM:<>").size, std::nullopt);
  EXPECT_EQ(mail("FROM:<> SIZE=0").size, 0u);
  EXPECT_EQ(mail("FROM:<> size=12345").size, 12345u);
}

TEST(MailCommand, ReadsBodyAndSmtputf8) {
  EXPECT_EQ(mail("FROM:<>").body, BodyType::seven_bit);
  EXPECT_EQ(mail("FROM:<> BODY=8bitmime").body, BodyType::eight_bit_mime);
  EXPECT_EQ(mail("FROM:<> BODY=7BIT").body, BodyType::seven_bit);
  EXPECT_FALSE(mail("FROM:<>").smtputf8);
  EXPECT_TRUE(mail("FROM:<> SMTPUTF8").smtputf8);
}

TEST(MailCommand, TakesParametersInAnyOrderAndSpacing) {
  const MailCommand command = mail("FROM:<a@b.example>  SMTPUTF8   SIZE=7 BODY=8BITMIME ");
  EXPECT_EQ(command.size, 7u);
  EXPECT_EQ(command.body, BodyType::eight_bit_mime);
  EXPECT_TRUE(command.smtputf8);
}

TEST(MailCommand, RefusesBadSyntaxWith501) {
  for (const auto text : {"", "FROM", "FROM <a@b>", "TO:<a@b>", "FROM:a@b", "FROM:<a@b", "FROM:<a b@c>", "FROM:<a@b>SIZE=1"})
    EXPECT_EQ(mail_code(text), 501) << text;
}

TEST(MailCommand, RefusesUnknownAndMalformedParametersWith555) {
  for (const auto text :
       {"FROM:<> FOO", "FROM:<> FOO=1", "FROM:<> SIZE", "FROM:<> SIZE=", "FROM:<> SIZE=-1", "FROM:<> SIZE=1x",
        "FROM:<> SIZE=99999999999999999999", "FROM:<> BODY", "FROM:<> BODY=BINARYMIME", "FROM:<> SMTPUTF8=yes", "FROM:<> ="})
    EXPECT_EQ(mail_code(text), 555) << text;
}

TEST(MailCommand, NeedsSmtputf8ForANonAsciiAddress) {
  EXPECT_EQ(mail_code("FROM:<gr\xC3\xBC\xC3\x9F@b.example>"), 553);
  EXPECT_EQ(mail_code("FROM:<gr\xC3\xBC\xC3\x9F@b.example> SMTPUTF8"), 0);
}

TEST(MailCommand, NamesNoControlCharactersInAnError) {
  MailCommand out;
  const auto error = parse_mail("FROM:<> \x1b[2J=1", out);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->text.find('\x1b'), std::string::npos);
}

TEST(RcptCommand, ReadsThePath) {
  RcptCommand out;
  ASSERT_FALSE(parse_rcpt("TO:<@relay.example:a@b.example>", false, out));
  EXPECT_EQ(out.forward_path, (Address{"a", "b.example"}));
}

TEST(RcptCommand, RefusesBadSyntaxWith501) {
  for (const auto text : {"", "TO", "FROM:<a@b>", "TO:a@b", "TO:<>", "TO:<a>", "TO:<a@b>x", "TO:<a@b@c>"})
    EXPECT_EQ(rcpt_code(text), 501) << text;
}

TEST(RcptCommand, KnowsTheDsnParametersAndNoOthers) {
  EXPECT_EQ(rcpt_code("TO:<a@b.example> NOTIFY=NEVER ORCPT=rfc822;c@d.example"), 0);
  EXPECT_EQ(rcpt_code("TO:<a@b.example> NOTIFY=NEVER,SUCCESS"), 501);
  EXPECT_EQ(rcpt_code("TO:<a@b.example> SIZE=1"), 555);
}

TEST(RcptCommand, NeedsSmtputf8ForANonAsciiAddress) {
  EXPECT_EQ(rcpt_code("TO:<gr\xC3\xBC\xC3\x9F@b.example>", false), 553);
  EXPECT_EQ(rcpt_code("TO:<gr\xC3\xBC\xC3\x9F@b.example>", true), 0);
}

}  // namespace
}  // namespace egret::smtp
