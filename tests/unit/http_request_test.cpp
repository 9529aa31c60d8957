#include "relay/delivery/http_request.hpp"

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <filesystem>

#include "relay/delivery/http_account.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

/// The pieces of a body whose message is in memory, put together.
std::string body_of(const Outgoing& outgoing, const Submission& submission) {
  const auto directory = std::filesystem::temp_directory_path() / ("egret-http-" + std::to_string(::getpid()));
  spool::Options options;
  options.directory = directory;
  options.reserve = 0;
  std::string out;
  {
    spool::Spool spool(options, [](spool::Recovered) {});
    boost::asio::io_context context;
    boost::asio::co_spawn(
        context,
        [](const Outgoing* o, const Submission* s, spool::Spool* sp, std::string* to) -> boost::asio::awaitable<void> {
          HttpBody body(*o, *s, *sp);
          for (std::string piece = co_await body.next(); !piece.empty(); piece = co_await body.next()) *to += piece;
        }(&outgoing, &submission, &spool, &out),
        boost::asio::detached);
    context.run();
  }
  std::filesystem::remove_all(directory);
  return out;
}

Outgoing message(std::vector<std::string> tail) {
  auto stored = std::make_shared<spool::Message>();
  for (const auto& piece : tail) stored->body_size += piece.size();
  stored->tail = std::move(tail);
  Outgoing out;
  out.message = std::move(stored);
  return out;
}

smtp::Envelope envelope(const std::string& sender, const std::vector<std::string>& recipients) {
  smtp::Envelope out;
  if (!sender.empty()) out.sender = *smtp::parse_mailbox(sender, false);
  for (const auto& recipient : recipients) out.recipients.push_back(*smtp::parse_mailbox(recipient, false));
  return out;
}

config::HttpApi api(config::HttpApiKind kind) {
  config::HttpApi out;
  out.kind = kind;
  out.host = "api.example.com";
  out.domain = "mg.example.com";
  out.region = "eu-west-1";
  out.user = "user";
  out.secret = "secret";
  return out;
}

TEST(HttpRequest, TakesStuffingAwayWhereverPiecesEnd) {
  const std::string wire = "A: b\r\n\r\n..two\r\n.\x2e\r\nx.y\r\n..\r\n";
  const std::string content = "A: b\r\n\r\n.two\r\n.\r\nx.y\r\n.\r\n";
  for (std::size_t at = 0; at <= wire.size(); ++at) {
    for (const auto coding : {MessageCoding::plain, MessageCoding::base64}) {
      Submission submission;
      submission.coding = coding;
      const std::string out = body_of(message({wire.substr(0, at), wire.substr(at)}), submission);
      EXPECT_EQ(coding == MessageCoding::plain ? out : smtp::base64_decode(out), content) << at;
    }
  }
}

TEST(HttpRequest, LeavesOutCutsAndPutsTheHeadInPlace) {
  auto out = message({"Old: x\r\nBcc: y\r\n\r\nbody"});
  auto changed = std::make_shared<spool::Message>(*out.message);
  changed->header_end = 16;
  changed->cuts = {{8, 8}};
  out.message = changed;
  EXPECT_EQ(body_of(out, {}), "Old: x\r\n\r\nbody");
  out.head = "New: z\r\n";
  out.body_from = 16;
  EXPECT_EQ(body_of(out, {}), "New: z\r\n\r\nbody");
}

TEST(HttpRequest, EscapesAMessageInJson) {
  Submission submission;
  submission.coding = MessageCoding::json;
  EXPECT_EQ(body_of(message({"a\"b\\c\td\r\n"}), submission), R"(a\"b\\c\u0009d\r\n)");
}

TEST(HttpRequest, NamesRecipientsAsTheApiWantsThem) {
  const auto to = envelope("app@a.test", {"one@b.test", "\"a\\\"b,c\"@b.test"});
  const auto ses = submission(api(config::HttpApiKind::ses), to, {{"x-ses-configuration-set", "main"}}, "b");
  EXPECT_EQ(ses.before, R"({"FromEmailAddress":"app@a.test","Destination":{"ToAddresses":["one@b.test","\"a\\\"b,c\"@b.test"]},)"
                        R"("ConfigurationSetName":"main","Content":{"Raw":{"Data":")");
  const auto mailgun = submission(api(config::HttpApiKind::mailgun), to, {}, "b");
  EXPECT_EQ(mailgun.target, "/v3/mg.example.com/messages.mime");
  EXPECT_NE(mailgun.before.find("name=\"to\"\r\n\r\none@b.test\r\n--b\r\n"), std::string::npos);
  const auto spark = submission(api(config::HttpApiKind::sparkpost), to, {}, "b");
  EXPECT_NE(spark.before.find(R"("return_path":"app@a.test","recipients":[{"address":{"email":"one@b.test"}},)"),
            std::string::npos);
}

TEST(HttpRequest, CannotNameTheNullSender) {
  const auto bounce = envelope("", {"one@b.test"});
  EXPECT_TRUE(submission(api(config::HttpApiKind::ses), bounce, {}, "b").before.starts_with("{\"Destination\""));
  EXPECT_EQ(submission(api(config::HttpApiKind::sparkpost), bounce, {}, "b").before.find("return_path"), std::string::npos);
}

TEST(HttpRequest, IsNotRepeatedWithItsLogin) {
  auto login = api(config::HttpApiKind::mailgun);
  login.secret = "key?";  // its base64 has a slash
  const std::string travels = smtp::base64_encode("user:key?");
  ASSERT_NE(travels.find('/'), std::string::npos);
  std::string escaped = travels;
  escaped.replace(escaped.find('/'), 1, "\\/");
  EXPECT_EQ(without_secret(login, "a key? b Basic " + travels + " c key?"), "a *** b Basic *** c ***");
  EXPECT_EQ(without_secret(login, R"({"message":"Basic )" + escaped + "\"}"), R"({"message":"Basic ***"})");
  EXPECT_EQ(without_secret(login, "user"), "user");
  login.secret.clear();
  EXPECT_EQ(without_secret(login, "user:"), "user:");
  config::Smarthost host;
  login.secret = "secret";
  host.provider = "mailgun";
  host.api = std::make_shared<const config::HttpApi>(login);
  HttpAnswer answer;
  answer.status = 401;
  answer.body = "no secret, no dXNlcjpzZWNyZXQ=";
  EXPECT_EQ(account_refusal(host, answer), "no ***, no *** (HTTP 401)");
  host.provider = "ses";
  answer.error_type = "Refused secret";
  answer.body = "{}";
  EXPECT_EQ(account_refusal(host, answer), "Refused *** (HTTP 401)");
}

TEST(HttpRequest, SaysWhoAsks) {
  const routing::Time time{std::chrono::seconds(1440938160)};
  EXPECT_NE(account_request(api(config::HttpApiKind::mailgun), time).find("Authorization: Basic dXNlcjpzZWNyZXQ=\r\n"),
            std::string::npos);
  EXPECT_NE(account_request(api(config::HttpApiKind::sparkpost), time).find("Authorization: secret\r\n"), std::string::npos);
  const std::string ses = account_request(api(config::HttpApiKind::ses), time);
  EXPECT_TRUE(ses.starts_with("GET /v2/email/account HTTP/1.1\r\nHost: api.example.com\r\n"));
  EXPECT_NE(ses.find("X-Amz-Date: 20150830T123600Z\r\nAuthorization: AWS4-HMAC-SHA256 Credential=user/20150830/eu-west-1/ses/"),
            std::string::npos);
  EXPECT_EQ(ses.find("secret\r"), std::string::npos);
}

}  // namespace
}  // namespace egret::relay
