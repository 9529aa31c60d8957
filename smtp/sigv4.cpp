#include "smtp/sigv4.hpp"

#include <openssl/evp.h>

#include <cstdio>
#include <new>

#include "smtp/scram.hpp"
#include "smtp/text.hpp"

namespace egret::smtp {
namespace {

constexpr std::string_view algorithm = "AWS4-HMAC-SHA256";

/// RFC 3986: everything but unreserved characters and '/'. The path is encoded already, and signed as encoded once more.
std::string encode_path(std::string_view path) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  std::string out;
  for (const char c : path) {
    const auto octet = static_cast<unsigned char>(c);
    const bool plain = (octet >= 'a' && octet <= 'z') || (octet >= 'A' && octet <= 'Z') || (octet >= '0' && octet <= '9') ||
                       std::string_view("-._~/").find(c) != std::string_view::npos;
    if (plain)
      out += c;
    else
      ((out += '%') += digits[octet >> 4]) += digits[octet & 15];
  }
  return out;
}

/// Without blanks at its ends, and with one for any run of them.
std::string canonical_value(std::string_view value) {
  std::string out;
  for (const char c : trim(value))
    if (c != ' ' || !out.ends_with(' ')) out += c;
  return out;
}

std::string signed_names(const SigV4Request& request) {
  std::string out;
  for (const auto& [name, value] : request.headers) out += (out.empty() ? "" : ";") + name;
  return out;
}

}  // namespace

struct Sha256::Impl {
  Impl() {
    if (!context || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1) throw std::bad_alloc();
  }

  struct Free {
    void operator()(EVP_MD_CTX* it) const { EVP_MD_CTX_free(it); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context{EVP_MD_CTX_new()};
};

Sha256::Sha256() : impl_(std::make_unique<Impl>()) {}
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;
Sha256::~Sha256() = default;

void Sha256::update(std::string_view piece) {
  if (EVP_DigestUpdate(impl_->context.get(), piece.data(), piece.size()) != 1) throw std::bad_alloc();
}

std::string Sha256::finish() {
  std::string out(32, '\0');
  if (EVP_DigestFinal_ex(impl_->context.get(), reinterpret_cast<unsigned char*>(out.data()), nullptr) != 1)
    throw std::bad_alloc();
  return out;
}

std::string hex(std::string_view octets) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out;
  out.reserve(2 * octets.size());
  for (const char c : octets) {
    const auto octet = static_cast<unsigned char>(c);
    (out += digits[octet >> 4]) += digits[octet & 15];
  }
  return out;
}

std::string sigv4_date(std::chrono::sys_seconds time) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(time - day);
  char out[32];
  std::snprintf(out, sizeof out, "%04d%02u%02uT%02d%02d%02dZ", static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                static_cast<unsigned>(date.day()), static_cast<int>(clock.hours().count()),
                static_cast<int>(clock.minutes().count()), static_cast<int>(clock.seconds().count()));
  return out;
}

std::string sigv4_canonical_request(const SigV4Request& request) {
  std::string out = request.method + '\n' + encode_path(request.path) + '\n' + request.query + '\n';
  for (const auto& [name, value] : request.headers) out += name + ':' + canonical_value(value) + '\n';
  return out + '\n' + signed_names(request) + '\n' + request.payload_sha256;
}

std::string sigv4_authorization(const SigV4Request& request, const SigV4Scope& scope) {
  const std::string day = request.date.substr(0, 8);
  const std::string credential = day + '/' + scope.region + '/' + scope.service + "/aws4_request";
  const std::string text =
      std::string(algorithm) + '\n' + request.date + '\n' + credential + '\n' + hex(sha256(sigv4_canonical_request(request)));
  std::string key = "AWS4" + scope.secret_key;
  for (const std::string_view step : {std::string_view(day), std::string_view(scope.region), std::string_view(scope.service),
                                      std::string_view("aws4_request"), std::string_view(text)})
    key = hmac_sha256(key, step);
  return std::string(algorithm) + " Credential=" + scope.access_key + '/' + credential +
         ", SignedHeaders=" + signed_names(request) + ", Signature=" + hex(key);
}

}  // namespace egret::smtp
