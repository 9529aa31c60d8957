#include "smtp/webhook_signature.hpp"

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>
#include <cctype>

#include "smtp/scram.hpp"
#include "smtp/text.hpp"

namespace egret::smtp {
namespace {

template <auto release>
struct Release {
  template <class T>
  void operator()(T* object) const {
    release(object);
  }
};

using Pkey = std::unique_ptr<EVP_PKEY, Release<EVP_PKEY_free>>;
using DigestContext = std::unique_ptr<EVP_MD_CTX, Release<EVP_MD_CTX_free>>;
using MemoryBio = std::unique_ptr<BIO, Release<BIO_free>>;
using Certificate = std::unique_ptr<X509, Release<X509_free>>;

constexpr int min_rsa_bits = 2048;
constexpr int max_rsa_bits = 4096;  // above, a key is a way to keep a processor busy
constexpr std::size_t max_signature = 1024;

const unsigned char* octets(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.empty() ? "" : text.data());
}

Certificate read_certificate(std::string_view pem) {
  const MemoryBio bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  if (!bio) return nullptr;
  Certificate out(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  return out;
}

bool verify(EVP_PKEY* key, const EVP_MD* digest, std::string_view signature, std::string_view text) {
  const DigestContext context(EVP_MD_CTX_new());
  const bool good = context && EVP_DigestVerifyInit(context.get(), nullptr, digest, nullptr, key) == 1 &&
                    EVP_DigestVerify(context.get(), octets(signature), signature.size(), octets(text), text.size()) == 1;
  ERR_clear_error();
  return good;
}

/// Amazon's names of regions: "eu-west-1", "us-gov-east-1", "cn-north-1".
bool region_name(std::string_view region) {
  const auto ok = [](unsigned char c) { return std::islower(c) || std::isdigit(c) || c == '-'; };
  return region.size() >= 5 && region.size() <= 32 && std::ranges::all_of(region, ok) && region.front() != '-' &&
         region.back() != '-';
}

}  // namespace

struct VerifyingKey::Native {
  Pkey key;
};

VerifyingKey::VerifyingKey(std::unique_ptr<Native> native) : native_(std::move(native)) {}
VerifyingKey::~VerifyingKey() = default;

std::shared_ptr<const VerifyingKey> VerifyingKey::p256(std::string_view base64, std::string& error) {
  error = "expected the public key of the account, base64 of an ECDSA key on P-256";
  const auto der = base64_decode(base64);
  if (!der || der->size() > 512) return nullptr;
  const unsigned char* at = octets(*der);
  auto native = std::make_unique<Native>();
  native->key.reset(d2i_PUBKEY(nullptr, &at, static_cast<long>(der->size())));
  ERR_clear_error();
  if (!native->key || at != octets(*der) + der->size()) return nullptr;
  char group[64] = {};
  std::size_t length = 0;
  const bool named =
      EVP_PKEY_is_a(native->key.get(), "EC") == 1 &&
      EVP_PKEY_get_utf8_string_param(native->key.get(), OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof group, &length) == 1;
  ERR_clear_error();
  if (!named || std::string_view(group, length) != "prime256v1") return nullptr;
  error.clear();
  return std::make_shared<const VerifyingKey>(std::move(native));
}

std::shared_ptr<const VerifyingKey> VerifyingKey::certificate(std::string_view pem, std::string& error) {
  error = "expected a certificate (PEM) with an RSA key of 2048 to 4096 bits";
  const Certificate certificate = read_certificate(pem);
  if (!certificate) return nullptr;
  auto native = std::make_unique<Native>();
  native->key.reset(X509_get_pubkey(certificate.get()));
  ERR_clear_error();
  if (!native->key || EVP_PKEY_is_a(native->key.get(), "RSA") != 1) return nullptr;
  const int bits = EVP_PKEY_get_bits(native->key.get());
  if (bits < min_rsa_bits || bits > max_rsa_bits) return nullptr;
  error.clear();
  return std::make_shared<const VerifyingKey>(std::move(native));
}

bool certificate_valid_at(std::string_view pem, long long seconds) {
  const Certificate certificate = read_certificate(pem);
  if (!certificate) return false;
  auto when = static_cast<time_t>(seconds);
  const bool valid = X509_cmp_time(X509_get0_notBefore(certificate.get()), &when) < 0 &&
                     X509_cmp_time(X509_get0_notAfter(certificate.get()), &when) > 0;
  ERR_clear_error();
  return valid;
}

bool sendgrid_signature_fits(const VerifyingKey& key, std::string_view signature, std::string_view timestamp,
                             std::string_view body) {
  if (signature.size() > max_signature) return false;
  const auto der = base64_decode(signature);
  return der && verify(key.native().key.get(), EVP_sha256(), *der, std::string(timestamp) + std::string(body));
}

bool mailgun_signature_fits(std::string_view signing_key, std::string_view timestamp, std::string_view token,
                            std::string_view signature) {
  std::string expected;
  for (const unsigned char c : hmac_sha256(signing_key, std::string(timestamp) + std::string(token))) {
    expected += "0123456789abcdef"[c >> 4];
    expected += "0123456789abcdef"[c & 15];
  }
  return signature.size() == expected.size() && equal_in_constant_time(lower(signature), expected);
}

std::optional<std::string> sns_signed_text(const SnsMessage& m) {
  std::string out;
  const auto add = [&](std::string_view name, std::string_view value) {
    out += name;
    out += '\n';
    out += value;
    out += '\n';
  };
  add("Message", m.message);
  add("MessageId", m.message_id);
  if (m.type == "Notification") {
    if (m.subject) add("Subject", *m.subject);
    add("Timestamp", m.timestamp);
  } else if (m.type == "SubscriptionConfirmation" || m.type == "UnsubscribeConfirmation") {
    add("SubscribeURL", m.subscribe_url);
    add("Timestamp", m.timestamp);
    add("Token", m.token);
  } else {
    return std::nullopt;
  }
  add("TopicArn", m.topic);
  add("Type", m.type);
  return out;
}

bool sns_signature_fits(const VerifyingKey& key, const SnsMessage& message) {
  const EVP_MD* digest = message.signature_version == "1"   ? EVP_sha1()
                         : message.signature_version == "2" ? EVP_sha256()
                                                            : nullptr;
  const auto text = sns_signed_text(message);
  if (!digest || !text || message.signature.size() > max_signature) return false;
  const auto signature = base64_decode(message.signature);
  return signature && verify(key.native().key.get(), digest, *signature, *text);
}

std::string sns_topic_region(std::string_view topic) {
  // arn:PARTITION:sns:REGION:ACCOUNT:NAME
  std::string_view parts[6];
  for (std::size_t i = 0; i < 6; ++i) {
    const std::size_t colon = topic.find(':');
    if ((colon == std::string_view::npos) != (i == 5)) return {};
    parts[i] = topic.substr(0, colon);
    topic.remove_prefix(std::min(topic.size(), parts[i].size() + 1));
  }
  const bool digits = std::ranges::all_of(parts[4], [](unsigned char c) { return std::isdigit(c); });
  const bool good = parts[0] == "arn" && parts[1].starts_with("aws") && parts[2] == "sns" && region_name(parts[3]) &&
                    parts[4].size() == 12 && digits && !parts[5].empty();
  return good ? std::string(parts[3]) : std::string();
}

std::string sns_host(std::string_view region) {
  if (!region_name(region)) return {};
  return "sns." + std::string(region) + (region.starts_with("cn-") ? ".amazonaws.com.cn" : ".amazonaws.com");
}

std::optional<std::string> sns_url_target(std::string_view url, std::string_view region) {
  const std::string start = "https://" + sns_host(region) + "/";
  if (sns_host(region).empty() || url.size() > 2048 || !url.starts_with(start)) return std::nullopt;
  const std::string_view target = url.substr(start.size() - 1);
  const bool plain = std::ranges::all_of(target, [](unsigned char c) {
    return c > ' ' && c < 0x7f && std::string_view("\"#<>\\^`{|}").find(static_cast<char>(c)) == std::string_view::npos;
  });
  return plain ? std::optional(std::string(target)) : std::nullopt;
}

std::optional<std::string> sns_certificate_target(std::string_view url, std::string_view region) {
  constexpr std::string_view start = "/SimpleNotificationService-", end = ".pem";
  auto target = sns_url_target(url, region);
  if (!target || target->size() <= start.size() + end.size() || !target->starts_with(start) || !target->ends_with(end))
    return std::nullopt;
  const std::string_view name = std::string_view(*target).substr(start.size(), target->size() - start.size() - end.size());
  const bool plain = name.size() <= 64 && std::ranges::all_of(name, [](unsigned char c) {
                       return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
                     });
  return plain ? target : std::nullopt;
}

bool same_secret(std::string_view a, std::string_view b) {
  return equal_in_constant_time(sha256(a), sha256(b));
}

}  // namespace egret::smtp
