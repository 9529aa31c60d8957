#include "routing/esp_id.hpp"

#include <gtest/gtest.h>

namespace egret::routing {
namespace {

std::string id(std::string_view preset, std::string_view reply) {
  return esp_message_id(preset, smtp::parse_reply(reply));
}

TEST(EspId, IsReadFromEachEspsReply) {
  EXPECT_EQ(id("ses", "250 Ok 0102018f3c2a1b4d-7e1f-000000"), "0102018f3c2a1b4d-7e1f-000000");
  EXPECT_EQ(id("sendgrid", "250 Ok: queued as k2Xn3fQ7RzC"), "k2Xn3fQ7RzC");
  EXPECT_EQ(id("sendgrid-eu", "250 Ok: queued as k2Xn3fQ7RzC"), "k2Xn3fQ7RzC");
  EXPECT_EQ(id("mailgun", "250 Great success <20260101.1.ABC@mg.example.com>"), "20260101.1.ABC@mg.example.com");
  EXPECT_EQ(id("sparkpost", "250 2.0.0 OK 7E/54-12345-ABCDEF95"), "7E/54-12345-ABCDEF95");
  EXPECT_EQ(id("brevo", "250 2.0.0 OK: queued as <202601011200.123@smtp-relay.example>"), "202601011200.123@smtp-relay.example");
  EXPECT_EQ(id("mailjet", "250 OK queued as 8e1978a2-12cd"), "8e1978a2-12cd");
  EXPECT_EQ(id("generic", "250 2.0.0 Ok: queued as 4bXyZ12 (more words)"), "4bXyZ12");
}

TEST(EspId, IsEmptyWhereTheReplyNamesNone) {
  for (const char* preset : {"ses", "sendgrid", "mailgun", "postmark", "sparkpost", "brevo", "mailjet", "generic"})
    for (const char* reply :
         {"250 Ok", "250 Ok thanks", "250", "250 queued as ", "250 <>", "250 <unclosed1", "250 queued as \x01\x02 1"})
      EXPECT_EQ(id(preset, reply), "") << preset << " " << reply;
}

TEST(EspId, IsBounded) {
  EXPECT_EQ(id("generic", "250 queued as " + std::string(200, '1')).size(), 200u);
  EXPECT_EQ(id("generic", "250 queued as " + std::string(201, '1')), "");
}

}  // namespace
}  // namespace egret::routing
