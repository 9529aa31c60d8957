#include "smtp/scram.hpp"

#include <gtest/gtest.h>

#include "smtp/text.hpp"

namespace egret::smtp {
namespace {

// RFC 7677 section 3: user "user", password "pencil".
const std::string example_salt = base64_decode("W22ZaJ0SNY7soEsUEjb6gQ==").value();
const std::string example_nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const std::string example_auth_message =
    "n=user,r=rOprNGfwEbeRWgbNEkqO,r=" + example_nonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=" + example_nonce;
const std::string example_proof = base64_decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").value();
const std::string example_secret =
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

std::string hex(std::string_view bytes) {
  std::string out;
  for (const unsigned char c : bytes) {
    out += "0123456789abcdef"[c >> 4];
    out += "0123456789abcdef"[c & 15];
  }
  return out;
}

TEST(Scram, HashesAsPublished) {
  EXPECT_EQ(hex(sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");  // FIPS 180-4
  EXPECT_EQ(hex(hmac_sha256("Jefe", "what do ya want for nothing?")),                                 // RFC 4231 case 2
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(hex(hmac_sha256({}, {})), "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

TEST(Scram, ComputesTheExampleOfRfc7677) {
  const std::string salted = scram_salted_password("pencil", example_salt, 4096);
  EXPECT_EQ(scram_client_proof(salted, example_auth_message), example_proof);
  EXPECT_EQ(base64_encode(scram_server_signature(scram_server_key(salted), example_auth_message)),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

TEST(Scram, AcceptsOnlyTheProofOfThePassword) {
  const ScramSecret secret = make_scram_secret("pencil", example_salt, 4096);
  EXPECT_TRUE(scram_proof_matches(secret, example_proof, example_auth_message));
  EXPECT_FALSE(scram_proof_matches(secret, example_proof, example_auth_message + "x"));
  EXPECT_FALSE(scram_proof_matches(secret, example_proof.substr(1), example_auth_message));
  EXPECT_FALSE(scram_proof_matches(secret, {}, example_auth_message));
  for (std::size_t i = 0; i < example_proof.size(); ++i) {
    std::string wrong = example_proof;
    wrong[i] = static_cast<char>(wrong[i] ^ 1);
    EXPECT_FALSE(scram_proof_matches(secret, wrong, example_auth_message)) << i;
  }
}

TEST(ScramSecret, IsWrittenAndReadInPostgresForm) {
  const ScramSecret secret = make_scram_secret("pencil", example_salt, 4096);
  EXPECT_EQ(to_string(secret), example_secret);
  EXPECT_EQ(parse_scram_secret(example_secret), secret);
}

TEST(ScramSecret, VerifiesAPassword) {
  const ScramSecret secret = parse_scram_secret(example_secret).value();
  EXPECT_TRUE(verify_password(secret, "pencil"));
  for (const char* wrong : {"", "penci", "pencil ", "Pencil"}) EXPECT_FALSE(verify_password(secret, wrong)) << wrong;
}

TEST(ScramSecret, IsRefusedWhenCutAnywhere) {
  for (std::size_t n = 0; n < example_secret.size(); ++n) EXPECT_FALSE(parse_scram_secret(example_secret.substr(0, n))) << n;
  EXPECT_FALSE(parse_scram_secret(example_secret + "="));
  EXPECT_FALSE(parse_scram_secret(example_secret + ":class=bulk"));
}

TEST(ScramSecret, HasBoundedIterations) {
  const auto with = [](std::string_view iterations) {
    return parse_scram_secret("SCRAM-SHA-256$" + std::string(iterations) + example_secret.substr(18)).has_value();
  };
  EXPECT_TRUE(with("4096"));
  EXPECT_TRUE(with("1000000"));
  for (const char* refused :
       {"", "0", "1", "4095", "1000001", "-4096", "+4096", "04096", "4096x", " 4096", "99999999999999999999"})
    EXPECT_FALSE(with(refused)) << refused;
}

TEST(ScramSecret, HasAnAdequateSaltAndWholeKeys) {
  const ScramSecret good = parse_scram_secret(example_secret).value();
  const auto taken = [&](std::size_t salt, std::size_t stored, std::size_t server) {
    return parse_scram_secret(to_string({4096, std::string(salt, 's'), std::string(stored, 'k'), std::string(server, 'k')}))
        .has_value();
  };
  EXPECT_TRUE(taken(8, 32, 32));
  EXPECT_TRUE(taken(64, 32, 32));
  EXPECT_FALSE(taken(0, 32, 32));
  EXPECT_FALSE(taken(7, 32, 32));
  EXPECT_FALSE(taken(65, 32, 32));
  EXPECT_FALSE(taken(16, 31, 32));
  EXPECT_FALSE(taken(16, 32, 33));
  EXPECT_FALSE(taken(16, 0, 0));
  // The last digit of a padded group has bits that say nothing; one spelling only.
  std::string stray = example_secret;
  stray[stray.size() - 2] = 'V';
  EXPECT_FALSE(parse_scram_secret(stray));
}

TEST(ScramSecret, OfAnotherMechanismIsRefused) {
  EXPECT_FALSE(parse_scram_secret("scram-sha-256" + example_secret.substr(13)));
  EXPECT_FALSE(parse_scram_secret("SCRAM-SHA-1" + example_secret.substr(13)));
  EXPECT_FALSE(parse_scram_secret("$y$j9T$x$y"));
}

TEST(FakeScramSecret, IsTheSameForTheSameUserAndLooksReal) {
  const ScramSecret fake = fake_scram_secret("key", "nobody", 5000);
  EXPECT_EQ(fake, fake_scram_secret("key", "nobody", 5000));
  EXPECT_NE(fake.salt, fake_scram_secret("key", "somebody", 5000).salt);
  EXPECT_NE(fake.salt, fake_scram_secret("another key", "nobody", 5000).salt);
  EXPECT_EQ(parse_scram_secret(to_string(fake)), fake);
  EXPECT_EQ(fake.salt.size(), 16u);
}

TEST(Saslname, EscapesCommaAndEqualsSign) {
  EXPECT_EQ(encode_saslname("a,b=c"), "a=2Cb=3Dc");
  EXPECT_EQ(decode_saslname("a=2Cb=3Dc"), "a,b=c");
  EXPECT_EQ(decode_saslname("=3D2C"), "=2C");
  EXPECT_EQ(decode_saslname(""), "");
  for (const char* bad : {"=", "=2", "=2c", "=3d", "=41", "a=", "a,b", "==2C", "=2C="}) EXPECT_FALSE(decode_saslname(bad)) << bad;
}

TEST(ScramAttribute, IsTakenFromTheFrontOnly) {
  std::string_view message = "r=ab=c,s=x,i=";
  EXPECT_EQ(take_scram_attribute(message, 's'), std::nullopt);
  EXPECT_EQ(take_scram_attribute(message, 'r'), "ab=c");
  EXPECT_EQ(take_scram_attribute(message, 's'), "x");
  EXPECT_EQ(take_scram_attribute(message, 'i'), "");
  EXPECT_EQ(take_scram_attribute(message, 'i'), std::nullopt);
  message = "r";
  EXPECT_EQ(take_scram_attribute(message, 'r'), std::nullopt);
}

TEST(ScramNonce, IsPrintableWithoutComma) {
  EXPECT_TRUE(valid_scram_nonce("!~x"));
  EXPECT_TRUE(valid_scram_nonce(std::string(512, 'x')));
  EXPECT_FALSE(valid_scram_nonce(std::string(513, 'x')));
  for (const char* bad : {"", "a,b", "a b", "a\tb", "\x7f", "\xC3\xA4"}) EXPECT_FALSE(valid_scram_nonce(bad)) << bad;
}

TEST(EqualInConstantTime, ComparesOctets) {
  EXPECT_TRUE(equal_in_constant_time("", ""));
  EXPECT_TRUE(equal_in_constant_time({"a\0b", 3}, {"a\0b", 3}));
  EXPECT_FALSE(equal_in_constant_time({"a\0b", 3}, {"a\0c", 3}));
  EXPECT_FALSE(equal_in_constant_time("a", "ab"));
}

}  // namespace
}  // namespace egret::smtp
