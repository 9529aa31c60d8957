#include "smtp/webhook_signature.hpp"

#include <gtest/gtest.h>

#include <ctime>

#include "tests/unit/webhook_keys.hpp"

namespace egret::smtp {
namespace {

const SigningKey& ec_key() {
  static const SigningKey key(SigningKey::p256());
  return key;
}

const SigningKey& rsa_key() {
  static const SigningKey key(SigningKey::rsa());
  return key;
}

SnsMessage notification() {
  SnsMessage m;
  m.type = "Notification";
  m.message = "{\"eventType\":\"Bounce\"}";
  m.message_id = "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324";
  m.timestamp = "2026-11-22T03:14:15.926Z";
  m.topic = "arn:aws:sns:eu-west-1:123456789012:ses-events";
  m.signature_version = "2";
  return m;
}

TEST(SendGridSignature, CoversTimestampAndBody) {
  std::string error;
  const auto key = VerifyingKey::p256(ec_key().public_key(), error);
  ASSERT_TRUE(key) << error;
  const std::string signature = ec_key().sign("1700000000[{\"event\":\"bounce\"}]");
  EXPECT_TRUE(sendgrid_signature_fits(*key, signature, "1700000000", "[{\"event\":\"bounce\"}]"));
  EXPECT_FALSE(sendgrid_signature_fits(*key, signature, "1700000001", "[{\"event\":\"bounce\"}]"));
  EXPECT_FALSE(sendgrid_signature_fits(*key, signature, "1700000000", "[{\"event\":\"bounce\"} ]"));
  EXPECT_FALSE(sendgrid_signature_fits(*key, "", "1700000000", "[{\"event\":\"bounce\"}]"));
  EXPECT_FALSE(sendgrid_signature_fits(*key, "AAAA", "1700000000", "[{\"event\":\"bounce\"}]"));
  EXPECT_FALSE(sendgrid_signature_fits(*key, std::string(5000, 'A'), "1700000000", "[{\"event\":\"bounce\"}]"));
  const SigningKey other(SigningKey::p256());
  EXPECT_FALSE(sendgrid_signature_fits(*key, other.sign("1700000000x"), "1700000000", "x"));
}

TEST(SendGridSignature, TakesKeysOnP256Only) {
  std::string error;
  EXPECT_FALSE(VerifyingKey::p256(rsa_key().public_key(), error));
  EXPECT_FALSE(error.empty());
  const SigningKey p384(EVP_EC_gen("P-384"));
  EXPECT_FALSE(VerifyingKey::p256(p384.public_key(), error));
  for (const char* text : {"", "AAAA", "not base64", "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE"})
    EXPECT_FALSE(VerifyingKey::p256(text, error)) << text;
}

TEST(MailgunSignature, IsTheHmacOfTimestampAndToken) {
  // echo -n 1700000000abc | openssl dgst -sha256 -hmac key
  const std::string good = "bd2f1af294b8152534265a2dada145799d31c54cb9bab55bf4ea75be1770a0e3";
  EXPECT_TRUE(mailgun_signature_fits("key", "1700000000", "abc", good));
  EXPECT_FALSE(mailgun_signature_fits("kex", "1700000000", "abc", good));
  EXPECT_FALSE(mailgun_signature_fits("key", "1700000001", "abc", good));
  EXPECT_FALSE(mailgun_signature_fits("key", "1700000000", "abd", good));
  EXPECT_FALSE(mailgun_signature_fits("key", "1700000000", "abc", good.substr(1)));
  EXPECT_FALSE(mailgun_signature_fits("key", "1700000000", "abc", ""));
}

TEST(SnsSignature, IsOverNamesAndValuesInAmazonsOrder) {
  SnsMessage m = notification();
  EXPECT_EQ(sns_signed_text(m), "Message\n" + m.message + "\nMessageId\n" + m.message_id + "\nTimestamp\n" + m.timestamp +
                                    "\nTopicArn\n" + m.topic + "\nType\nNotification\n");
  m.subject = "Hello";
  EXPECT_NE(sns_signed_text(m)->find("\nSubject\nHello\nTimestamp\n"), std::string::npos);
  m.type = "SubscriptionConfirmation";
  m.token = "t0";
  m.subscribe_url = "https://x/";
  EXPECT_EQ(sns_signed_text(m), "Message\n" + m.message + "\nMessageId\n" + m.message_id +
                                    "\nSubscribeURL\nhttps://x/\nTimestamp\n" + m.timestamp + "\nToken\nt0\nTopicArn\n" +
                                    m.topic + "\nType\nSubscriptionConfirmation\n");
  m.type = "Other";
  EXPECT_FALSE(sns_signed_text(m));
}

TEST(SnsSignature, OfBothVersionsIsVerified) {
  std::string error;
  const auto key = VerifyingKey::certificate(rsa_key().certificate(), error);
  ASSERT_TRUE(key) << error;
  SnsMessage m = notification();
  m.signature = rsa_key().sign(*sns_signed_text(m), EVP_sha256());
  EXPECT_TRUE(sns_signature_fits(*key, m));
  m.signature_version = "1";
  EXPECT_FALSE(sns_signature_fits(*key, m)) << "SHA-256 under the name of SHA-1";
  m.signature = rsa_key().sign(*sns_signed_text(m), EVP_sha1());
  EXPECT_TRUE(sns_signature_fits(*key, m));
  m.message += ' ';
  EXPECT_FALSE(sns_signature_fits(*key, m));
  m = notification();
  m.signature_version = "3";
  m.signature = rsa_key().sign(*sns_signed_text(m));
  EXPECT_FALSE(sns_signature_fits(*key, m));
}

TEST(SnsSignature, WantsAnRsaKeyOfFairSizeInTheCertificate) {
  std::string error;
  EXPECT_FALSE(VerifyingKey::certificate(ec_key().certificate(), error));
  const SigningKey small(SigningKey::rsa(1024));
  EXPECT_FALSE(VerifyingKey::certificate(small.certificate(), error));
  for (const char* text : {"", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"})
    EXPECT_FALSE(VerifyingKey::certificate(text, error));
  const auto now = static_cast<long long>(std::time(nullptr));
  EXPECT_TRUE(certificate_valid_at(rsa_key().certificate(), now));
  EXPECT_FALSE(certificate_valid_at(rsa_key().certificate(), now + 7200));
  EXPECT_FALSE(certificate_valid_at(rsa_key().certificate(), now - 7200));
  EXPECT_FALSE(certificate_valid_at("", now));
}

TEST(SnsUrl, IsAtAmazonsHostOfTheRegionOnly) {
  EXPECT_EQ(sns_topic_region("arn:aws:sns:eu-west-1:123456789012:ses-events"), "eu-west-1");
  EXPECT_EQ(sns_topic_region("arn:aws-cn:sns:cn-north-1:123456789012:x"), "cn-north-1");
  for (const char* arn :
       {"", "arn:aws:sqs:eu-west-1:123456789012:x", "arn:aws:sns:eu-west-1:12345:x", "arn:aws:sns:evil.example/:123456789012:x",
        "arn:aws:sns:eu-west-1:123456789012:x:y", "arn:aws:sns:eu-west-1:123456789012:"})
    EXPECT_EQ(sns_topic_region(arn), "") << arn;
  EXPECT_EQ(sns_host("cn-north-1"), "sns.cn-north-1.amazonaws.com.cn");
  EXPECT_EQ(sns_url_target("https://sns.eu-west-1.amazonaws.com/S-1.pem", "eu-west-1"), "/S-1.pem");
  for (const char* url : {"http://sns.eu-west-1.amazonaws.com/S.pem", "https://sns.eu-west-1.amazonaws.com.evil.example/S.pem",
                          "https://sns.eu-west-1.amazonaws.com@evil.example/S.pem",
                          "https://sns.eu-west-1.amazonaws.com:444/S.pem", "https://sns.us-east-1.amazonaws.com/S.pem",
                          "https://evil.example/sns.eu-west-1.amazonaws.com/S.pem", "https://sns.eu-west-1.amazonaws.com",
                          "https://sns.eu-west-1.amazonaws.com/a b", "https://sns.eu-west-1.amazonaws.com/a\r\nX: y", ""})
    EXPECT_FALSE(sns_url_target(url, "eu-west-1")) << url;
  EXPECT_FALSE(sns_url_target("https://sns../S.pem", "."));
}

TEST(SnsUrl, OfACertificateIsAFileAndNoCallOfTheApi) {
  const std::string host = "https://sns.eu-west-1.amazonaws.com";
  const std::string longest = "/SimpleNotificationService-" + std::string(64, 'a') + ".pem";
  for (const std::string& target : {std::string("/SimpleNotificationService-0123456789abcdefABCDEF.pem"), longest})
    EXPECT_EQ(sns_certificate_target(host + target, "eu-west-1"), target);
  for (const char* target :
       {"/?Action=X&x=.pem", "/SimpleNotificationService-x/../y.pem", "/SimpleNotificationService-x.pem?Action=X",
        "/SimpleNotificationService-?x=.pem", "/SimpleNotificationService-.pem", "/SimpleNotificationService.pem",
        "/SimpleNotificationService-x.txt", "/SimpleNotificationService-%2e.pem", "/a/SimpleNotificationService-x.pem", "/x.pem"})
    EXPECT_FALSE(sns_certificate_target(host + target, "eu-west-1")) << target;
  EXPECT_FALSE(sns_certificate_target(host + "/SimpleNotificationService-" + std::string(65, 'a') + ".pem", "eu-west-1"));
  EXPECT_FALSE(sns_certificate_target("https://evil.example/SimpleNotificationService-1.pem", "eu-west-1"));
}

TEST(Secrets, AreTheSameOrNotWhateverTheirLengths) {
  EXPECT_TRUE(same_secret("s3cret", "s3cret"));
  EXPECT_FALSE(same_secret("s3cret", "s3creT"));
  EXPECT_FALSE(same_secret("", "s3cret"));
  EXPECT_FALSE(same_secret("s3cret0", "s3cret"));
}

}  // namespace
}  // namespace egret::smtp
