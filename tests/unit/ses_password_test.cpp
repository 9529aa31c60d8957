#include "smtp/ses_password.hpp"

#include <gtest/gtest.h>

#include "smtp/text.hpp"

namespace egret::smtp {
namespace {

// Made with Python's hmac and hashlib, and not by this code:
//   s = ("AWS4" + secret).encode()
//   for m in ("11111111", region, "ses", "aws4_request", "SendRawEmail"): s = hmac.new(s, m.encode(), hashlib.sha256).digest()
//   base64.b64encode(b"\4" + s)
constexpr std::string_view secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

TEST(SesPassword, IsWhatAnIndependentImplementationMakes) {
  EXPECT_EQ(ses_smtp_password(secret, "us-east-1"), "BLBM/9hSUELfq8Gw+rU1YcBjkOxGbhT2XG763xVLGWL9");
  EXPECT_EQ(ses_smtp_password(secret, "eu-west-1"), "BMW5RDrXmmVs0lV7GpI4oLkHXpZ4stDsk6q91z1g38Pk");
}

TEST(SesPassword, BelongsToOneRegionAndOneSecret) {
  EXPECT_NE(ses_smtp_password(secret, "us-east-1"), ses_smtp_password(secret, "us-east-2"));
  EXPECT_NE(ses_smtp_password(secret, "us-east-1"), ses_smtp_password("x", "us-east-1"));
}

TEST(SesPassword, BeginsWithTheVersionOfTheScheme) {
  const auto octets = base64_decode(ses_smtp_password("", ""));
  ASSERT_TRUE(octets);
  EXPECT_EQ(octets->size(), 33u);
  EXPECT_EQ(octets->front(), 4);
}

}  // namespace
}  // namespace egret::smtp
