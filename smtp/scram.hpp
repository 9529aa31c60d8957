// SCRAM-SHA-256 (RFC 5802, RFC 7677): stored secrets, proofs and signatures, and the pieces of its messages, for both
// sides of the exchange. Strings are raw octets unless said otherwise.
//
// SASLprep (RFC 4013) is not applied: printable ASCII is its own SASLprep, and every other password is compared octet
// by octet, as crypt(3) hashes are.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace egret::smtp {

/// RFC 7677 section 4 asks for 4096 at least; above the upper bound a secret is a way to keep a processor busy.
inline constexpr int scram_min_iterations = 4096;
inline constexpr int scram_max_iterations = 1'000'000;

/// What a server stores instead of a password (RFC 5802 section 2.2). It lets nobody log in by itself.
struct ScramSecret {
  int iterations = 0;
  std::string salt;
  std::string stored_key;  ///< 32 octets
  std::string server_key;  ///< 32 octets
  bool operator==(const ScramSecret&) const = default;
};

/// RFC 5803 in the spelling that PostgreSQL uses: SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>, base64.
std::string to_string(const ScramSecret& secret);
/// Only what to_string() would write: canonical base64, a salt of 8 to 64 octets, keys of 32, iterations in bounds.
std::optional<ScramSecret> parse_scram_secret(std::string_view text);

/// Takes about half a microsecond for each iteration.
ScramSecret make_scram_secret(std::string_view password, std::string_view salt, int iterations);
/// Whether `password` made the secret. Constant time but for the iterations, as slow as make_scram_secret().
bool verify_password(const ScramSecret& secret, std::string_view password);
/// A secret that no password opens; the same for the same `key` and `username`, so that somebody who asks twice for an
/// unknown user sees one salt, as he would for a known one.
ScramSecret fake_scram_secret(std::string_view key, std::string_view username, int iterations);

/// These throw std::bad_alloc when libcrypto has no memory.
std::string sha256(std::string_view text);
std::string hmac_sha256(std::string_view key, std::string_view text);
/// The time depends on the lengths only.
bool equal_in_constant_time(std::string_view a, std::string_view b);

/// RFC 5802 section 3. `auth_message` is client-first-message-bare "," server-first-message ","
/// client-final-message-without-proof.
std::string scram_salted_password(std::string_view password, std::string_view salt, int iterations);
std::string scram_client_proof(std::string_view salted_password, std::string_view auth_message);
/// The server's half: whether the client knows the password behind `secret`. Constant time.
bool scram_proof_matches(const ScramSecret& secret, std::string_view proof, std::string_view auth_message);
std::string scram_server_key(std::string_view salted_password);
std::string scram_server_signature(std::string_view server_key, std::string_view auth_message);

/// RFC 5802 section 5.1: ',' and '=' in a name are sent as "=2C" and "=3D".
std::string encode_saslname(std::string_view name);
/// nullopt for ',' and for '=' followed by anything else.
std::optional<std::string> decode_saslname(std::string_view text);

/// Takes "name=value" and the comma behind it off the front of `message`; nullopt, and nothing taken, if something else
/// stands there.
std::optional<std::string_view> take_scram_attribute(std::string_view& message, char name);
/// One or more printable ASCII characters without ',', at most 512.
bool valid_scram_nonce(std::string_view nonce);

}  // namespace egret::smtp
