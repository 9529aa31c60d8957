#include "smtp/sigv4.hpp"

#include <gtest/gtest.h>

#include "smtp/scram.hpp"

namespace egret::smtp {
namespace {

/// The credentials and the time of Amazon's published test suite; every signature here was checked with botocore.
const std::string key_id = "AKIDEXAMPLE", secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", date = "20150830T123600Z";

SigV4Request request(std::string method, std::string path, std::string query, std::string host, std::string body) {
  return {std::move(method), std::move(path),
          std::move(query),  date,
          hex(sha256(body)), {{"host", std::move(host)}, {"x-amz-date", date}}};
}

std::string signature(const SigV4Request& signed_request, const std::string& region, const std::string& service) {
  const std::string out = sigv4_authorization(signed_request, {key_id, secret, region, service});
  return out.substr(out.rfind('=') + 1);
}

TEST(SigV4, SignsAmazonsPlainExample) {
  const auto vanilla = request("GET", "/", "", "example.amazonaws.com", "");
  EXPECT_EQ(sigv4_authorization(vanilla, {key_id, secret, "us-east-1", "service"}),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
            "SignedHeaders=host;x-amz-date, Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
}

TEST(SigV4, SignsABodyAndItsType) {
  auto post =
      request("POST", "/v2/email/outbound-emails", "", "email.eu-west-1.amazonaws.com", R"({"Content":{"Raw":{"Data":"QQ=="}}})");
  post.headers.insert(post.headers.begin(), {"content-type", "  application/json "});
  EXPECT_EQ(signature(post, "eu-west-1", "ses"), "e54cf4ad896b55089249b215cd496ebfc83f38d8464b656518e06ca0565969be");
  post.payload_sha256 = hex(sha256("another body"));
  EXPECT_NE(signature(post, "eu-west-1", "ses"), "e54cf4ad896b55089249b215cd496ebfc83f38d8464b656518e06ca0565969be");
}

TEST(SigV4, EncodesAnEncodedPathOnceMoreAndLeavesTheQuery) {
  const auto get = request("GET", "/v2/email/identities/a%40b.test", "A=1&B=%20", "email.eu-west-1.amazonaws.com", "");
  EXPECT_EQ(signature(get, "eu-west-1", "ses"), "d5ffe13e1f7c52de8e44ea556f70588051405cfc1b6315c0fb1b440ff18b4d7f");
  EXPECT_NE(sigv4_canonical_request(get).find("/v2/email/identities/a%2540b.test\nA=1&B=%20\n"), std::string::npos);
}

TEST(SigV4, TakesBlanksTogetherInFieldValues) {
  auto get = request("GET", "/", "", "example.amazonaws.com", "");
  get.headers.insert(get.headers.begin(), {"a", "  x   y "});
  EXPECT_NE(sigv4_canonical_request(get).find("\na:x y\nhost:"), std::string::npos);
}

TEST(SigV4, WritesTheTimeWithoutPunctuation) {
  EXPECT_EQ(sigv4_date(std::chrono::sys_seconds(std::chrono::seconds(1440938160))), date);
  EXPECT_EQ(sigv4_date(std::chrono::sys_seconds(std::chrono::seconds(0))), "19700101T000000Z");
}

TEST(Sha256, IsTheSameInPiecesAndAtOnce) {
  Sha256 digest;
  for (const std::string_view piece : {"a", "", "bc"}) digest.update(piece);
  EXPECT_EQ(hex(digest.finish()), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hex(Sha256().finish()), hex(sha256("")));
}

}  // namespace
}  // namespace egret::smtp
