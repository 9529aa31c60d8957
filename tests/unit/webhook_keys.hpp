// Keys and signatures of webhooks, made in the test.
#pragma once

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <string>
#include <string_view>

#include "smtp/text.hpp"

namespace egret {

/// A key pair; freed with the object.
class SigningKey {
 public:
  explicit SigningKey(EVP_PKEY* key) : key_(key) {}
  ~SigningKey() { EVP_PKEY_free(key_); }
  SigningKey(const SigningKey&) = delete;
  SigningKey& operator=(const SigningKey&) = delete;

  static EVP_PKEY* p256() { return EVP_EC_gen("P-256"); }
  static EVP_PKEY* rsa(unsigned bits = 2048) { return EVP_RSA_gen(bits); }

  /// Base64 of the SubjectPublicKeyInfo.
  std::string public_key() const {
    unsigned char* der = nullptr;
    const int size = i2d_PUBKEY(key_, &der);
    std::string out = smtp::base64_encode({reinterpret_cast<char*>(der), static_cast<std::size_t>(size)});
    OPENSSL_free(der);
    return out;
  }

  /// Base64 of the signature.
  std::string sign(std::string_view text, const EVP_MD* digest = EVP_sha256()) const {
    EVP_MD_CTX* context = EVP_MD_CTX_new();
    EVP_DigestSignInit(context, nullptr, digest, nullptr, key_);
    const auto* data = reinterpret_cast<const unsigned char*>(text.data());
    std::size_t size = 0;
    EVP_DigestSign(context, nullptr, &size, data, text.size());
    std::string out(size, '\0');
    EVP_DigestSign(context, reinterpret_cast<unsigned char*>(out.data()), &size, data, text.size());
    out.resize(size);
    EVP_MD_CTX_free(context);
    return smtp::base64_encode(out);
  }

  /// PEM of a certificate signed by the key itself, valid from an hour ago for an hour from now.
  std::string certificate() const {
    X509* x509 = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(x509), 1);
    X509_gmtime_adj(X509_getm_notBefore(x509), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x509), 3600);
    X509_set_pubkey(x509, key_);
    X509_sign(x509, key_, EVP_sha256());
    BIO* bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, x509);
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio, &data);
    std::string out(data, static_cast<std::size_t>(size));
    BIO_free(bio);
    X509_free(x509);
    return out;
  }

 private:
  EVP_PKEY* key_;
};

}  // namespace egret
