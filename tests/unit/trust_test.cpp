#include "relay/net/trust.hpp"

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace egret::relay {
namespace {

class Trust : public testing::Test {
 protected:
  Trust() { write("one"); }
  ~Trust() override { std::filesystem::remove(path_); }

  /// A certificate of that name, signed by itself.
  void write(const std::string& name) const {
    EVP_PKEY* const key = EVP_EC_gen("P-256");
    X509* const certificate = X509_new();
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
    X509_sign(certificate, key, EVP_sha256());
    FILE* const out = std::fopen(path_.c_str(), "w");
    PEM_write_X509(out, certificate);
    std::fclose(out);
    X509_free(certificate);
    EVP_PKEY_free(key);
  }

  std::string path_ = testing::TempDir() + "egret_trust_test_" + std::to_string(::getpid()) + ".pem";
};

TEST_F(Trust, IsReadOnceForAllThatUseIt) {
  const auto one = trusted(path_);
  EXPECT_EQ(trusted(path_), one);
  EXPECT_NE(trusted(""), one);
}

TEST_F(Trust, IsReadAgainWhenTheFileIsAnother) {
  const auto before = trusted(path_);
  write("a longer name");
  const auto after = trusted(path_);
  EXPECT_NE(after, before);
  EXPECT_EQ(trusted(path_), after);
}

TEST_F(Trust, OfAFileThatIsNotThereSaysSo) {
  try {
    trusted("/nowhere/ca.pem");
    FAIL() << "taken";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "cannot load certificates from /nowhere/ca.pem: No such file or directory");
  }
}

TEST_F(Trust, OfAFileWithoutCertificatesSaysSo) {
  std::ofstream(path_) << "no certificate\n";
  EXPECT_THROW(trusted(path_), std::runtime_error);
}

}  // namespace
}  // namespace egret::relay
