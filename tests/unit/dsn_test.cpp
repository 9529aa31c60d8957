#include "smtp/dsn.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace egret::smtp {
namespace {

DsnInput failed() {
  DsnInput in;
  in.reporting_host = "relay.example.com";
  in.id = MessageId{1};
  in.dsn_id = MessageId{2};
  in.sender = {"a", "example.com"};
  in.recipients.push_back(
      {{"b", "example.net"}, make_reply(550, "5.1.1 unknown user"), "mx.example.net", "5.1.1", "The receiver refused it.", ""});
  in.original = "From: a@example.com\r\nSubject: hello\r\n";
  in.arrived = std::chrono::system_clock::time_point(std::chrono::seconds(0));
  in.now = std::chrono::system_clock::time_point(std::chrono::seconds(86400));
  return in;
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

/// The body of the n-th part, 0 to 2, without its own header.
std::string part(const std::string& dsn, int n) {
  const std::string mark = "--egret-" + to_string(MessageId{2});
  std::size_t at = dsn.find(mark + "\r\n");
  for (int i = 0; i < n; ++i) at = dsn.find(mark + "\r\n", at + 1);
  const std::size_t start = dsn.find("\r\n\r\n", at) + 4;
  return dsn.substr(start, dsn.find("\r\n" + mark, start) - start);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find("\r\n", at);
    out.push_back(text.substr(at, end - at));
    at = end == std::string::npos ? text.size() : end + 2;
  }
  return out;
}

bool clean_wire_form(const std::string& text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n' && (i == 0 || text[i - 1] != '\r')) return false;
    if (text[i] == '\r' && (i + 1 == text.size() || text[i + 1] != '\n')) return false;
    if (text[i] == '\0') return false;
  }
  for (const std::string& line : lines_of(text))
    if (line == ".") return false;
  return text.ends_with("\r\n");
}

TEST(DsnStatus, IsTheRepliesEnhancedCode) {
  EXPECT_EQ(dsn_status(make_reply(550, "5.7.1 no")), "5.7.1");
  EXPECT_EQ(dsn_status(make_reply(451, "4.2.2 full")), "4.2.2");
}

TEST(DsnStatus, FallsBackToTheClass) {
  EXPECT_EQ(dsn_status(make_reply(550, "no")), "5.0.0");
  EXPECT_EQ(dsn_status(make_reply(451, "no")), "4.0.0");
}

TEST(DsnStatus, DisbelievesACodeOfAnotherClass) {
  EXPECT_EQ(dsn_status(make_reply(550, "4.7.1 no")), "5.0.0");
  EXPECT_EQ(dsn_status(make_reply(450, "5.7.1 no")), "4.0.0");
}

TEST(Dsn, HasTheHeaderOfAReport) {
  const std::string dsn = build_dsn(failed());
  const std::string header = dsn.substr(0, dsn.find("\r\n\r\n") + 2);
  EXPECT_TRUE(has(header, "From: Mail Delivery System <MAILER-DAEMON@relay.example.com>\r\n"));
  EXPECT_TRUE(has(header, "To: <a@example.com>\r\n"));
  EXPECT_TRUE(has(header, "Date: Fri, 02 Jan 1970 00:00:00 +0000\r\n"));
  EXPECT_TRUE(has(header, "Message-ID: <0000000000002@relay.example.com>\r\n"));
  EXPECT_TRUE(has(header, "Auto-Submitted: auto-replied\r\n"));
  EXPECT_TRUE(has(header, "MIME-Version: 1.0\r\n"));
  EXPECT_TRUE(has(header, "Content-Type: multipart/report; report-type=delivery-status;"));
}

TEST(Dsn, HasThreeParts) {
  const std::string dsn = build_dsn(failed());
  EXPECT_TRUE(has(dsn, "Content-Type: text/plain; charset=utf-8\r\n"));
  EXPECT_TRUE(has(dsn, "Content-Type: message/delivery-status\r\n"));
  EXPECT_TRUE(has(dsn, "Content-Type: text/rfc822-headers\r\n"));
  EXPECT_TRUE(dsn.ends_with("\r\n--egret-0000000000002--\r\n"));
}

TEST(Dsn, StatesTheFieldsOfRfc3464) {
  EXPECT_EQ(part(build_dsn(failed()), 1),
            "Reporting-MTA: dns; relay.example.com\r\n"
            "X-Egret-Queue-ID: 0000000000001\r\n"
            "Arrival-Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n"
            "\r\n"
            "Final-Recipient: rfc822; b@example.net\r\n"
            "Action: failed\r\n"
            "Status: 5.1.1\r\n"
            "Remote-MTA: dns; mx.example.net\r\n"
            "Diagnostic-Code: smtp; 550 5.1.1 unknown user\r\n");
}

TEST(Dsn, LeavesOutWhatNobodySaid) {
  DsnInput in = failed();
  in.recipients[0].reply = {};
  in.recipients[0].remote_host.clear();
  const std::string status = part(build_dsn(in), 1);
  EXPECT_FALSE(has(status, "Remote-MTA"));
  EXPECT_FALSE(has(status, "Diagnostic-Code"));
}

TEST(Dsn, HasOneGroupForEachRecipient) {
  DsnInput in = failed();
  in.recipients.push_back({{"c", "example.net"}, {}, "", "5.4.7", "No delivery within 1d.", ""});
  const std::string status = part(build_dsn(in), 1);
  EXPECT_TRUE(has(status, "\r\n\r\nFinal-Recipient: rfc822; b@example.net\r\n"));
  EXPECT_TRUE(has(status, "\r\n\r\nFinal-Recipient: rfc822; c@example.net\r\nAction: failed\r\nStatus: 5.4.7\r\n"));
}

TEST(Dsn, TellsAPersonWhatHappened) {
  const std::string text = part(build_dsn(failed()), 0);
  EXPECT_TRUE(has(text, "<b@example.net>"));
  EXPECT_TRUE(has(text, "The receiver refused it."));
  EXPECT_TRUE(has(text, "mx.example.net said: 550 5.1.1 unknown user"));
}

TEST(Dsn, OfADelaySaysUntilWhen) {
  DsnInput in = failed();
  in.action = DsnAction::delayed;
  in.recipients[0].status = "4.4.1";
  in.will_retry_until = std::chrono::system_clock::time_point(std::chrono::seconds(2 * 86400));
  const std::string status = part(build_dsn(in), 1);
  EXPECT_TRUE(has(status, "Action: delayed\r\nStatus: 4.4.1\r\n"));
  EXPECT_TRUE(has(status, "Will-Retry-Until: Sat, 03 Jan 1970 00:00:00 +0000\r\n"));
}

TEST(Dsn, ReturnsTheOriginalHeader) {
  EXPECT_EQ(part(build_dsn(failed()), 2), "From: a@example.com\r\nSubject: hello\r\n");
}

TEST(Dsn, RepeatsWhatTheSenderWantedToRecogniseItBy) {
  DsnInput in = failed();
  in.envid = "Q+2B1";
  in.recipients[0].original = "rfc822;a+2Bb@example.org";
  const std::string status = part(build_dsn(in), 1);
  EXPECT_TRUE(has(status, "Original-Envelope-Id: Q+1\r\n"));
  EXPECT_TRUE(has(status, "Original-Recipient: rfc822; a+b@example.org\r\nFinal-Recipient:"));
}

TEST(Dsn, ReturnsTheWholeMessageWhereItIsWanted) {
  DsnInput in = failed();
  in.full = true;
  in.original = "Subject: hello\r\n\r\n..dot\r\n";
  EXPECT_TRUE(has(build_dsn(in), "Content-Type: message/rfc822\r\n\r\nSubject: hello\r\n\r\n..dot\r\n"));
}

TEST(Dsn, OfSuccessSaysThatItWasRelayed) {
  DsnInput in = failed();
  in.action = DsnAction::relayed;
  EXPECT_TRUE(has(part(build_dsn(in), 1), "Action: relayed\r\n"));
}

TEST(Dsn, SaysWhereItIsEightBit) {
  EXPECT_FALSE(has(build_dsn(failed()), "8bit"));
  DsnInput in = failed();
  in.original = "Subject: gr\xC3\xBC\xC3\x9F\r\n";
  const std::string dsn = build_dsn(in);
  EXPECT_LT(dsn.find("Content-Transfer-Encoding: 8bit\r\n"), dsn.find("\r\n\r\n"));
  EXPECT_TRUE(has(dsn, "text/rfc822-headers\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"));
}

TEST(Dsn, CutsAHugeHeaderAtALineEnd) {
  DsnInput in = failed();
  in.original.clear();
  for (int i = 0; i < 20'000; ++i) in.original += "X-Filler: 0123456789\r\n";
  const std::string header = part(build_dsn(in), 2);
  EXPECT_LE(header.size(), 65u * 1024);
  EXPECT_TRUE(header.ends_with("X-Filler: 0123456789\r\n"));
}

TEST(Dsn, OfSmtputf8MailUsesTheTypesOfRfc6533) {
  DsnInput in = failed();
  in.utf8 = true;
  in.recipients[0].address = {"gr\xC3\xBC\xC3\x9F", "example.net"};
  const std::string dsn = build_dsn(in);
  EXPECT_TRUE(has(dsn, "Content-Type: message/global-delivery-status\r\n"));
  EXPECT_TRUE(has(dsn, "Content-Type: message/global-headers\r\n"));
  EXPECT_TRUE(has(dsn, "Final-Recipient: utf-8; gr\xC3\xBC\xC3\x9F@example.net\r\n"));
}

// ---- hostile replies
// ---------------------------------------------------------------------------------------------

TEST(Dsn, RemoteTextInjectsNoLines) {
  DsnInput in = failed();
  in.recipients[0].reply = {
      550, {"5.1.1 x\r\nAction: delivered\r\n\r\nFinal-Recipient: rfc822; evil@example.com", "\nBcc: evil@example.com"}};
  in.recipients[0].remote_host = "mx\r\nX-Host: evil";
  in.recipients[0].explanation = "why\r\n.\r\nX-Why: evil";
  const std::string dsn = build_dsn(in);
  EXPECT_TRUE(clean_wire_form(dsn));
  for (const auto injected : {"\nAction: delivered", "\nBcc:", "\nX-Host:", "\nX-Why:", "\nFinal-Recipient: rfc822; evil"})
    EXPECT_FALSE(has(dsn, injected)) << injected;
}

TEST(Dsn, AMultiLineReplyIsOneField) {
  DsnInput in = failed();
  in.recipients[0].reply = {550, {"5.7.1 one", "5.7.1 two"}};
  EXPECT_TRUE(has(part(build_dsn(in), 1), "Diagnostic-Code: smtp; 550-5.7.1 one 550 5.7.1 two\r\n"));
}

TEST(Dsn, RemoteTextCannotCloseAPart) {
  DsnInput in = failed();
  in.recipients[0].reply = make_reply(550, "5.1.1 x\r\n--egret-0000000000002--\r\n");
  const auto lines = lines_of(build_dsn(in));
  EXPECT_EQ(std::ranges::count(lines, "--egret-0000000000002--"), 1);
}

TEST(DsnProperty, NoReplyMakesABareLineEndOrALoneDot) {
  static constexpr std::string_view alphabet("\r\n.\0-: aZ\x1b\xC3\xA9\xFF", 14);
  std::mt19937 random(9);
  const auto noise = [&] {
    std::string out(random() % 40, '\0');
    for (char& c : out) c = alphabet[random() % alphabet.size()];
    return out;
  };
  for (int i = 0; i < 5000; ++i) {
    DsnInput in = failed();
    in.recipients[0].reply = {550, {noise(), noise()}};
    in.recipients[0].remote_host = noise();
    in.recipients[0].explanation = noise();
    const std::string dsn = build_dsn(in);
    ASSERT_TRUE(clean_wire_form(dsn)) << testing::PrintToString(dsn);
    ASSERT_EQ(lines_of(part(dsn, 1)).size(),
              lines_of(part(build_dsn(failed()), 1)).size() - in.recipients[0].remote_host.empty());
  }
}

}  // namespace
}  // namespace egret::smtp
