#include "smtp/ses_password.hpp"

#include "smtp/scram.hpp"
#include "smtp/text.hpp"

namespace egret::smtp {

std::string ses_smtp_password(std::string_view secret_key, std::string_view region) {
  constexpr char version = 0x04;
  std::string signature = hmac_sha256("AWS4" + std::string(secret_key), "11111111");
  signature = hmac_sha256(signature, region);
  for (const std::string_view step : {"ses", "aws4_request", "SendRawEmail"}) signature = hmac_sha256(signature, step);
  return base64_encode(version + signature);
}

}  // namespace egret::smtp
