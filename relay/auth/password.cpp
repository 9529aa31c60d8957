#include "relay/auth/password.hpp"

#include <crypt.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <cstdlib>
#include <memory>

#include "smtp/sasl_server.hpp"
#include "smtp/scram.hpp"

namespace egret::relay {
namespace {

/// crypt(3); empty when it fails, which it would otherwise say with "*0" or "*1".
std::string crypt_string(const std::string& password, const std::string& setting) {
  if (password.find('\0') != std::string::npos || setting.find('\0') != std::string::npos) return {};
  const auto data = std::make_unique<crypt_data>();  // 32 KB: too much for a coroutine's stack
  const char* made = crypt_r(password.c_str(), setting.c_str(), data.get());
  std::string out = made && *made != '*' ? made : "";
  OPENSSL_cleanse(data.get(), sizeof(crypt_data));
  return out;
}

/// Prefix, cost and random salt of a new yescrypt string.
std::string new_setting() {
  const std::unique_ptr<char, decltype(&std::free)> setting(crypt_gensalt_ra("$y$", 0, nullptr, 0), &std::free);
  return setting ? setting.get() : "";
}

}  // namespace

bool verify_crypt(const std::string& password, const std::string& hash) {
  const std::string made = crypt_string(password, hash);
  return !made.empty() && smtp::equal_in_constant_time(made, hash);
}

bool verify_nothing(const std::string& password, const std::string& like) {
  if (const auto secret = smtp::parse_scram_secret(like)) {
    smtp::verify_password(*secret, password);
  } else if (like.empty() || crypt_string(password, like).empty()) {
    crypt_string(password, new_setting());
  }
  return false;
}

std::string hash_password(const std::string& password) {
  return password.empty() ? std::string() : crypt_string(password, new_setting());
}

std::string hash_scram(const std::string& password) {
  if (password.empty() || password.size() > smtp::SaslServer::max_password || password.find('\0') != std::string::npos) return {};
  std::string salt(16, '\0');
  if (RAND_bytes(reinterpret_cast<unsigned char*>(salt.data()), static_cast<int>(salt.size())) != 1) return {};
  return smtp::to_string(smtp::make_scram_secret(password, salt, scram_iterations));
}

}  // namespace egret::relay
