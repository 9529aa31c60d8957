// DKIM signatures (RFC 6376; rsa-sha256 by RFC 8301, ed25519-sha256 by RFC 8463), relaxed/relaxed.
//
// No l= (what is appended would be covered by our name) and no x= (mail may wait in queues for longer than one expects).
// Sign last: after every change to the message, and for the route that it takes, as some smarthosts rewrite fields.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace egret::smtp {

/// A private key. Immutable, so threads may share it.
class DkimKey {
 public:
  /// From an unencrypted PEM text: RSA of 1024 to 4096 bits (what every verifier must take, RFC 8301 section 3.2) or
  /// Ed25519. nullptr and a text for the operator in `error` otherwise. Never asks for a passphrase.
  static std::shared_ptr<const DkimKey> load(std::string_view pem, std::string& error);

  DkimKey(const DkimKey&) = delete;
  DkimKey& operator=(const DkimKey&) = delete;
  ~DkimKey();

  /// "rsa-sha256" or "ed25519-sha256", as in a=.
  std::string_view algorithm() const;
  /// RSA below 2048 bits: valid, but not recommended (RFC 8301 section 3.2). Worth a warning.
  bool weak() const;
  /// What the operator publishes as TXT at SELECTOR._domainkey.DOMAIN (a TXT string ends at 255 octets: the record of
  /// an RSA key needs several): "v=DKIM1; k=...; p=...".
  std::string dns_record() const;
  /// The raw signature over `data`, the canonical header fields; nullopt when libcrypto fails.
  std::optional<std::string> sign(std::string_view data) const;

 private:
  struct Impl;
  explicit DkimKey(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

/// The hash of a body for bh=. It does not depend on the key: one hash serves all signatures of a message.
class DkimBodyHash {
 public:
  DkimBodyHash();
  DkimBodyHash(DkimBodyHash&&) noexcept;
  DkimBodyHash& operator=(DkimBodyHash&&) noexcept;
  ~DkimBodyHash();

  /// The next octets, in pieces of any size, in wire form (dot-stuffed CRLF lines): everything behind the empty line
  /// that ends the header section, without the final dot line.
  void update(std::string_view wire);
  /// The raw SHA-256 digest; empty when libcrypto fails. Call it once, last.
  std::string finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct DkimOptions {
  std::string domain;                ///< d=, an A-label name
  std::string selector;              ///< s=
  std::vector<std::string> exclude;  ///< lower-case names of fields that the next hop rewrites: never signed
  std::int64_t time = 0;             ///< t=, seconds since 1970; a time before that leaves t= out
};

/// A complete "DKIM-Signature: ..." field, folded, with CRLF, to be put above the message. `header_block` is the header
/// section in wire form with or without its empty line; `body_hash` is what DkimBodyHash gave. The message must have
/// that empty line: without it verifiers disagree about where the body starts, so send it unsigned.
///
/// Empty when the message cannot be signed and must go as it is: not exactly one From field (RFC 6376 section 5.4 wants
/// it signed, RFC 5322 section 3.6 wants one), From among the excluded fields, a line that is not a header field, over 100
/// fields to sign (RFC 5322 allows one of each), a domain or selector that is no host name, no body hash.
std::string dkim_field(const DkimKey& key, const DkimOptions& options, std::string_view header_block, std::string_view body_hash);

/// The domain of the first address in From, in lower case, as it stands (no IDNA conversion): the one a signature must align with
/// (RFC 7489 section 3.1.1). nullopt when there is not exactly one From field, or when readers could disagree about its
/// first address: broken syntax, an empty group, an address literal.
std::optional<std::string> from_domain(std::string_view header_block);

}  // namespace egret::smtp
