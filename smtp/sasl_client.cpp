#include "smtp/sasl_client.hpp"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <charconv>

#include "smtp/scram.hpp"
#include "smtp/text.hpp"

namespace egret::smtp {
namespace {

constexpr std::size_t max_command_line = 512;  // with CRLF, RFC 5321 section 4.5.3.1.4
constexpr std::string_view no_channel_binding = "n,,";

/// Empty where the system's policy forbids MD5.
std::string hmac_md5_hex(std::string_view key, std::string_view text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  HMAC(EVP_md5(), key.data(), static_cast<int>(key.size()), reinterpret_cast<const unsigned char*>(text.data()), text.size(),
       digest, &size);
  constexpr std::string_view hex = "0123456789abcdef";
  std::string out;
  for (unsigned i = 0; i < size; ++i) {
    out += hex[digest[i] >> 4];
    out += hex[digest[i] & 15];
  }
  return out;
}

std::optional<int> parse_number(std::string_view digits) {
  int value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

}  // namespace

std::string choose_mechanism(const std::vector<std::string>& offered, const std::vector<std::string>& preferred) {
  for (const std::string& wanted : preferred)
    for (const std::string& there : offered)
      if (iequals(wanted, there)) return wanted;
  return {};
}

std::optional<SaslClient> SaslClient::make(std::string_view mechanism, Credentials credentials, std::string nonce) {
  const auto with = [&](Mechanism m) { return SaslClient(m, std::move(credentials), std::move(nonce)); };
  if (iequals(mechanism, "PLAIN")) return with(Mechanism::plain);
  if (iequals(mechanism, "LOGIN")) return with(Mechanism::login);
  if (iequals(mechanism, "CRAM-MD5")) return with(Mechanism::cram_md5);
  if (iequals(mechanism, "SCRAM-SHA-256")) return with(Mechanism::scram_sha_256);
  return std::nullopt;
}

std::optional<std::string> SaslClient::initial() {
  if (state_ != State::start || mechanism_ == Mechanism::login || mechanism_ == Mechanism::cram_md5) return std::nullopt;
  const std::string_view name = mechanism_ == Mechanism::plain ? "PLAIN" : "SCRAM-SHA-256";
  if (!presentable()) return std::nullopt;
  auto message = first_message();
  if (!message) return std::nullopt;
  if (std::string_view("AUTH ").size() + name.size() + 1 + message->size() + 2 <= max_command_line) return message;
  state_ = State::start;
  return std::nullopt;
}

std::optional<std::string> SaslClient::step(std::string_view challenge) {
  if (challenge.size() > max_challenge) return fail("the server's challenge is too long");
  switch (state_) {
    case State::start:
      return begin(challenge);
    case State::login_password:
      return say(credentials_.password, State::complete);
    case State::scram_first:
      return scram_proof(challenge);
    case State::scram_final:
      return scram_verify(challenge);
    case State::complete:
      return fail("the server sends a challenge after the end of the mechanism");
    case State::failed:
      break;
  }
  return std::nullopt;
}

/// NUL separates the fields of PLAIN (RFC 4616) and is prohibited in SCRAM (RFC 5802, RFC 4013); to HMAC a password and the
/// same with NULs behind it are one key.
bool SaslClient::presentable() {
  const auto& [username, password] = credentials_;
  if (username.find('\0') == std::string::npos && password.find('\0') == std::string::npos) return true;
  fail("username or password holds a NUL");
  return false;
}

/// The words of LOGIN's challenges, and whatever stands where PLAIN and SCRAM have an empty one, differ from server to
/// server, not always in base64: they are not read.
std::optional<std::string> SaslClient::begin(std::string_view challenge) {
  if (!presentable()) return std::nullopt;
  switch (mechanism_) {
    case Mechanism::login:
      return say(credentials_.username, State::login_password);
    case Mechanism::cram_md5:
      return cram_md5(challenge);
    case Mechanism::plain:
    case Mechanism::scram_sha_256:
      break;
  }
  return first_message();
}

std::optional<std::string> SaslClient::cram_md5(std::string_view challenge) {
  const auto text = base64_decode(challenge);
  if (!text || text->empty()) return fail("the server's CRAM-MD5 challenge is malformed");
  const std::string digest = hmac_md5_hex(credentials_.password, *text);
  if (digest.empty()) return fail("this system does not allow MD5, which CRAM-MD5 is made of");
  return say(credentials_.username + ' ' + digest, State::complete);
}

std::optional<std::string> SaslClient::first_message() {
  const auto& [username, password] = credentials_;
  if (mechanism_ == Mechanism::plain) return say('\0' + username + '\0' + password, State::complete);
  client_first_bare_ = "n=" + encode_saslname(username) + ",r=" + nonce_;
  return say(std::string(no_channel_binding) + client_first_bare_, State::scram_first);
}

// server-first-message: "r=nonce,s=salt,i=iterations"
std::optional<std::string> SaslClient::scram_proof(std::string_view challenge) {
  const auto message = base64_decode(challenge);
  if (!message) return fail("the server's SCRAM challenge is not base64");
  std::string_view rest = *message;
  const auto nonce = take_scram_attribute(rest, 'r');
  const auto encoded = take_scram_attribute(rest, 's');
  const auto digits = take_scram_attribute(rest, 'i');
  const auto salt = encoded ? base64_decode(*encoded) : std::nullopt;
  const auto iterations = digits ? parse_number(*digits) : std::nullopt;
  if (!nonce || !valid_scram_nonce(*nonce) || !salt || salt->empty() || !iterations)
    return fail("the server's SCRAM challenge is malformed");
  if (!nonce->starts_with(nonce_) || nonce->size() == nonce_.size()) return fail("the server did not extend our SCRAM nonce");
  if (*iterations < min_iterations)
    return fail("the server asks for " + std::to_string(*iterations) + " SCRAM iterations, refused as too weak: below " +
                std::to_string(min_iterations));
  if (*iterations > max_iterations)
    return fail("the server asks for " + std::to_string(*iterations) + " SCRAM iterations, refused as too many: above " +
                std::to_string(max_iterations));

  const std::string salted = scram_salted_password(credentials_.password, *salt, *iterations);
  const std::string without_proof = "c=" + base64_encode(no_channel_binding) + ",r=" + std::string(*nonce);
  const std::string auth_message = client_first_bare_ + ',' + *message + ',' + without_proof;
  server_signature_ = scram_server_signature(scram_server_key(salted), auth_message);
  return say(without_proof + ",p=" + base64_encode(scram_client_proof(salted, auth_message)), State::scram_final);
}

// server-final-message: "v=signature" or "e=error"
std::optional<std::string> SaslClient::scram_verify(std::string_view challenge) {
  const auto message = base64_decode(challenge);
  if (!message) return fail("the server's SCRAM signature is not base64");
  std::string_view rest = *message;
  if (const auto error = take_scram_attribute(rest, 'e')) return fail("the server refuses: " + printable(cut_text(*error, 100)));
  const auto encoded = take_scram_attribute(rest, 'v');
  const auto signature = encoded ? base64_decode(*encoded) : std::nullopt;
  if (!signature || !equal_in_constant_time(*signature, server_signature_))
    return fail("the server's SCRAM signature is wrong: it does not know the password");
  return say({}, State::complete);
}

std::optional<std::string> SaslClient::say(std::string_view text, State next) {
  state_ = next;
  return base64_encode(text);
}

std::optional<std::string> SaslClient::fail(std::string_view why) {
  state_ = State::failed;
  error_ = why;
  return std::nullopt;
}

}  // namespace egret::smtp
