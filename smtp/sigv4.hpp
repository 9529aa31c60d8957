// AWS Signature Version 4 of a request ("AWS General Reference", Signing AWS API requests): what proves to Amazon that a
// request comes from the holder of a secret access key, and was not changed on its way. Here for SES; services that want
// their path encoded once only (S3) are not served.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace egret::smtp {

/// SHA-256 of what comes in pieces. Throws std::bad_alloc when libcrypto has no memory.
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  ~Sha256();

  void update(std::string_view piece);
  /// The raw digest. Call it once, last.
  std::string finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Lower-case hexadecimal.
std::string hex(std::string_view octets);

/// Whose signature it is, and for what. The secret is an IAM user's secret access key.
struct SigV4Scope {
  std::string access_key;
  std::string secret_key;
  std::string region;
  std::string service;
};

struct SigV4Request {
  std::string method;
  std::string path;            ///< absolute, as it stands in the request: percent-encoded where it must be
  std::string query;           ///< as it stands in the request, without '?': names in order, percent-encoded
  std::string date;            ///< of sigv4_date()
  std::string payload_sha256;  ///< of the body, hexadecimal
  /// Header fields to be signed: lower-case names, in their order, with "host" and "x-amz-date".
  std::vector<std::pair<std::string, std::string>> headers;
};

/// "20150830T123600Z", the form of X-Amz-Date.
std::string sigv4_date(std::chrono::sys_seconds time);
/// What is signed, by way of its digest. For tests and for people who compare it with an error of Amazon's.
std::string sigv4_canonical_request(const SigV4Request& request);
/// The value of the Authorization field. Deterministic. A clock that is more than five minutes off makes it worthless.
std::string sigv4_authorization(const SigV4Request& request, const SigV4Scope& scope);

}  // namespace egret::smtp
