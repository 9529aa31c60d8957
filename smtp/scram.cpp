#include "smtp/scram.hpp"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <charconv>
#include <new>

#include "smtp/text.hpp"

namespace egret::smtp {
namespace {

constexpr std::string_view secret_prefix = "SCRAM-SHA-256$";
constexpr std::size_t key_size = 32;
constexpr std::size_t max_nonce = 512;

/// Never null, which libcrypto would take for a missing argument.
const unsigned char* octets(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.empty() ? "" : text.data());
}

unsigned char* octets(std::string& text) {
  return reinterpret_cast<unsigned char*>(text.data());
}

/// Nothing else can fail in these calls, and a digest that was never computed must not be compared with anything.
void check(bool done) {
  if (!done) throw std::bad_alloc();
}

std::string exclusive_or(std::string_view a, std::string_view b) {
  std::string out(a);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<char>(out[i] ^ b[i]);
  return out;
}

/// The part of `text` before `mark`, which is taken away with it; everything if there is none.
std::string_view take_until(std::string_view& text, char mark) {
  const std::string_view part = text.substr(0, text.find(mark));
  text.remove_prefix(std::min(text.size(), part.size() + 1));
  return part;
}

}  // namespace

std::string sha256(std::string_view text) {
  std::string out(key_size, '\0');
  check(EVP_Digest(octets(text), text.size(), octets(out), nullptr, EVP_sha256(), nullptr) == 1);
  return out;
}

std::string hmac_sha256(std::string_view key, std::string_view text) {
  std::string out(key_size, '\0');
  check(HMAC(EVP_sha256(), octets(key), static_cast<int>(key.size()), octets(text), text.size(), octets(out), nullptr) !=
        nullptr);
  return out;
}

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string scram_salted_password(std::string_view password, std::string_view salt, int iterations) {
  std::string out(key_size, '\0');
  const auto length = [](std::string_view text) { return static_cast<int>(text.size()); };
  check(PKCS5_PBKDF2_HMAC(reinterpret_cast<const char*>(octets(password)), length(password), octets(salt), length(salt),
                          iterations, EVP_sha256(), length(out), octets(out)) == 1);
  return out;
}

std::string scram_client_proof(std::string_view salted_password, std::string_view auth_message) {
  const std::string client_key = hmac_sha256(salted_password, "Client Key");
  return exclusive_or(client_key, hmac_sha256(sha256(client_key), auth_message));
}

bool scram_proof_matches(const ScramSecret& secret, std::string_view proof, std::string_view auth_message) {
  if (proof.size() != key_size) return false;
  const std::string client_key = exclusive_or(proof, hmac_sha256(secret.stored_key, auth_message));
  return equal_in_constant_time(sha256(client_key), secret.stored_key);
}

std::string scram_server_key(std::string_view salted_password) {
  return hmac_sha256(salted_password, "Server Key");
}

std::string scram_server_signature(std::string_view server_key, std::string_view auth_message) {
  return hmac_sha256(server_key, auth_message);
}

std::string to_string(const ScramSecret& secret) {
  return std::string(secret_prefix) + std::to_string(secret.iterations) + ':' + base64_encode(secret.salt) + '$' +
         base64_encode(secret.stored_key) + ':' + base64_encode(secret.server_key);
}

std::optional<ScramSecret> parse_scram_secret(std::string_view text) {
  if (!text.starts_with(secret_prefix)) return std::nullopt;
  std::string_view rest = text.substr(secret_prefix.size());
  const std::string_view digits = take_until(rest, ':');
  ScramSecret out;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out.iterations);
  if (error != std::errc{} || out.iterations < scram_min_iterations || out.iterations > scram_max_iterations) return std::nullopt;
  const auto salt = base64_decode(take_until(rest, '$'));
  const auto stored_key = base64_decode(take_until(rest, ':'));
  const auto server_key = base64_decode(rest);
  if (!salt || salt->size() < 8 || salt->size() > 64) return std::nullopt;
  if (!stored_key || stored_key->size() != key_size || !server_key || server_key->size() != key_size) return std::nullopt;
  out.salt = *salt;
  out.stored_key = *stored_key;
  out.server_key = *server_key;
  // Leading zeros, missing separators and stray bits at the end of base64 all show here.
  if (to_string(out) != text) return std::nullopt;
  return out;
}

ScramSecret make_scram_secret(std::string_view password, std::string_view salt, int iterations) {
  const std::string salted = scram_salted_password(password, salt, iterations);
  return {iterations, std::string(salt), sha256(hmac_sha256(salted, "Client Key")), scram_server_key(salted)};
}

bool verify_password(const ScramSecret& secret, std::string_view password) {
  // The server key would do as well, but the stored key is what a SCRAM login is judged by.
  return equal_in_constant_time(make_scram_secret(password, secret.salt, secret.iterations).stored_key, secret.stored_key);
}

ScramSecret fake_scram_secret(std::string_view key, std::string_view username, int iterations) {
  const auto derive = [&](std::string_view use) { return hmac_sha256(key, std::string(use) + std::string(username)); };
  return {iterations, derive("salt:").substr(0, 16), derive("stored:"), derive("server:")};
}

std::string encode_saslname(std::string_view name) {
  std::string out;
  out.reserve(name.size());
  for (const char c : name) {
    if (c == ',')
      out += "=2C";
    else if (c == '=')
      out += "=3D";
    else
      out += c;
  }
  return out;
}

std::optional<std::string> decode_saslname(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ',') return std::nullopt;
    if (text[i] != '=') {
      out += text[i];
      continue;
    }
    const std::string_view escape = text.substr(i, 3);
    if (escape != "=2C" && escape != "=3D") return std::nullopt;
    out += escape == "=2C" ? ',' : '=';
    i += 2;
  }
  return out;
}

std::optional<std::string_view> take_scram_attribute(std::string_view& message, char name) {
  if (message.size() < 2 || message[0] != name || message[1] != '=') return std::nullopt;
  return take_until(message, ',').substr(2);
}

bool valid_scram_nonce(std::string_view nonce) {
  const auto valid = [](char c) { return c > 0x20 && c < 0x7F && c != ','; };
  return !nonce.empty() && nonce.size() <= max_nonce && std::ranges::all_of(nonce, valid);
}

}  // namespace egret::smtp
