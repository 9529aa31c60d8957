#include "smtp/dkim.hpp"

#include <gtest/gtest.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <random>
#include <thread>

#include "smtp/dkim_canonical.hpp"
#include "smtp/text.hpp"

namespace egret::smtp {
namespace {

/// PEM of a key, which is freed. `password`: encrypted with it.
std::string pem_of(EVP_PKEY* key, bool public_half = false, const char* password = nullptr) {
  BIO* bio = BIO_new(BIO_s_mem());
  if (public_half)
    PEM_write_bio_PUBKEY(bio, key);
  else
    PEM_write_bio_PrivateKey(bio, key, password ? EVP_aes_128_cbc() : nullptr, nullptr, 0, nullptr, const_cast<char*>(password));
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string pem(data, static_cast<std::size_t>(size));
  BIO_free(bio);
  EVP_PKEY_free(key);
  return pem;
}

EVP_PKEY* ed25519_of(std::string_view seed) {
  return EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, reinterpret_cast<const unsigned char*>(seed.data()),
                                      seed.size());
}

std::shared_ptr<const DkimKey> load(const std::string& pem) {
  std::string error;
  auto key = DkimKey::load(pem, error);
  EXPECT_EQ(error, "");
  return key;
}

std::string load_error(const std::string& pem) {
  std::string error;
  EXPECT_EQ(DkimKey::load(pem, error), nullptr);
  return error;
}

/// The key of RFC 8463 appendix A.2.
std::shared_ptr<const DkimKey> brisbane() {
  return load(pem_of(ed25519_of(*base64_decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="))));
}

std::string relaxed_body(std::string_view wire, std::size_t step = std::string_view::npos) {
  std::string out;
  RelaxedBody body([&](std::string_view piece) { out += piece; });
  for (std::size_t at = 0; at < wire.size(); at += std::min(step, wire.size() - at)) body.update(wire.substr(at, step));
  body.finish();
  return out;
}

std::string body_hash(std::string_view wire) {
  DkimBodyHash hash;
  hash.update(wire);
  return hash.finish();
}

/// The same as RelaxedBody, in the words of RFC 6376 section 3.4.4 and without care for time.
std::string naive_relaxed_body(std::string_view wire) {
  std::string out;
  while (!wire.empty()) {
    const std::size_t end = wire.find("\r\n");
    std::string_view line = wire.substr(0, end);
    wire.remove_prefix(end == std::string_view::npos ? wire.size() : end + 2);
    if (line.starts_with('.')) line.remove_prefix(1);
    std::string reduced;
    for (const char c : line) {
      const bool blank = c == ' ' || c == '\t';
      if (!blank || !reduced.ends_with(' ')) reduced += blank ? ' ' : c;
    }
    if (reduced.ends_with(' ')) reduced.pop_back();
    out += reduced + "\r\n";
  }
  while (out.ends_with("\r\n\r\n")) out.resize(out.size() - 2);
  return out == "\r\n" ? "" : out;
}

std::string relaxed_header(std::string_view wire) {
  const std::string content = unstuff(wire);
  const auto fields = split_header(content);
  std::string out;
  if (!fields) return "malformed";
  for (const auto& [name, value] : *fields) out += relaxed_field(name, value);
  return out;
}

/// The value of one tag of a signature field, its folds taken away.
std::string tag(std::string_view field, std::string_view name) {
  std::string text;
  for (const char c : field.substr(field.find(':') + 1))
    if (c != ' ' && c != '\t' && c != '\r' && c != '\n') text += c;
  text = ';' + text + ';';
  const std::size_t at = text.find(';' + std::string(name) + '=');
  if (at == std::string::npos) return "absent";
  const std::size_t start = at + name.size() + 2;
  return text.substr(start, text.find(';', start) - start);
}

std::string signed_field(std::string_view header, DkimOptions options = {"example.com", "s1", {}, 1528637909}) {
  static const auto key = brisbane();
  return dkim_field(*key, options, header, body_hash("x\r\n"));
}

std::string signed_names(std::string_view header, std::vector<std::string> exclude = {}) {
  return tag(signed_field(header, {"example.com", "s1", std::move(exclude), 0}), "h");
}

std::string from(std::string_view value) {
  return from_domain("Subject: x\r\nFrom: " + std::string(value) + "\r\n").value_or("none");
}

// --- Canonical form ---

TEST(RelaxedHeader, FollowsTheExampleOfRfc6376) {
  EXPECT_EQ(relaxed_header("A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n C \r\nD \t E\r\n"), "a:X\r\nb:Y Z\r\n");
}

TEST(RelaxedHeader, UnfoldsAndReducesBlanks) {
  EXPECT_EQ(relaxed_header("Subject:\r\n a\r\n \t\r\n\tb  c\t \r\n"), "subject:a b c\r\n");
  EXPECT_EQ(relaxed_header("SUBJECT \t:x"), "subject:x\r\n");
  EXPECT_EQ(relaxed_header("Subject:\r\nTo: \r\n \r\n"), "subject:\r\nto:\r\n");
  EXPECT_EQ(relaxed_header("Subject: a: b\r\n"), "subject:a: b\r\n");
}

TEST(RelaxedHeader, UndoesDotStuffing) {
  EXPECT_EQ(relaxed_header("..a: 1\r\n.b: 2\r\n.\tc\r\n"), ".a:1\r\nb:2 c\r\n");
}

TEST(SplitHeader, RefusesWhatIsNotAField) {
  for (const auto block :
       {" a: b\r\n", "a: b\r\nno colon\r\n", ": b\r\n", "two words: b\r\n", "\xC3\xA4: b\r\n", "a: b\r\n :c\r\n:d\r\n"})
    EXPECT_FALSE(split_header(block)) << block;
}

TEST(SplitHeader, EndsAtTheEmptyLine) {
  EXPECT_EQ(split_header("a: b\r\n\r\nnot a field\r\n")->size(), 1u);
  EXPECT_EQ(split_header("\r\na: b\r\n")->size(), 0u);
  EXPECT_EQ(split_header("")->size(), 0u);
}

TEST(RelaxedBody, FollowsTheExampleOfRfc6376) {
  EXPECT_EQ(relaxed_body(" C \r\nD \t E\r\n\r\n\r\n"), " C\r\nD E\r\n");
}

TEST(RelaxedBody, IsEmptyWithoutContent) {
  for (const auto body : {"", "\r\n", "\r\n\r\n\r\n", " \t\r\n", " ", ".\r\n"}) EXPECT_EQ(relaxed_body(body), "") << body;
  EXPECT_EQ(base64_encode(body_hash("")), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
}

TEST(RelaxedBody, EndsWithOneCrlf) {
  EXPECT_EQ(relaxed_body("a"), "a\r\n");
  EXPECT_EQ(relaxed_body("a\r\n"), "a\r\n");
  EXPECT_EQ(relaxed_body("a\r\n\r\n \t \r\n\r\n"), "a\r\n");
  EXPECT_EQ(relaxed_body("a \r\n\t"), "a\r\n");
}

TEST(RelaxedBody, KeepsEmptyLinesInside) {
  EXPECT_EQ(relaxed_body("\r\n\r\na\r\n \r\n\r\nb\r\n"), "\r\n\r\na\r\n\r\n\r\nb\r\n");
}

TEST(RelaxedBody, UndoesDotStuffing) {
  EXPECT_EQ(relaxed_body("..\r\n...a\r\n. b\r\nc.\r\n"), ".\r\n..a\r\n b\r\nc.\r\n");
}

TEST(RelaxedBody, TakesStrayLineEndsForContent) {
  EXPECT_EQ(relaxed_body("a \nb\r c \r\r\n.\n"), "a \nb\r c \r\r\n\n\r\n");
}

TEST(RelaxedBody, IsTheSameForEverySplit) {
  const std::string body =
      "\r\n  a  b \r\n\r\n..c\td\r\n\t\r\n. \r\nlong enough for words\r\ne\r \n\r\r\n.\r\n12345678  9\r\n f \r\n\r\n";
  const std::string whole = naive_relaxed_body(body);
  for (std::size_t step = 1; step <= body.size(); ++step) EXPECT_EQ(relaxed_body(body, step), whole) << step;
  for (std::size_t at = 0; at <= body.size(); ++at) {
    DkimBodyHash hash;
    hash.update(std::string_view(body).substr(0, at));
    hash.update(std::string_view(body).substr(at));
    EXPECT_EQ(hash.finish(), body_hash(body)) << at;
  }
}

TEST(RelaxedBody, AgreesWithTheNaiveModel) {
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    std::string body;
    for (auto n = random() % 60; n > 0; --n) {
      static constexpr std::string_view parts[] = {"\r\n", "\r\n", " ", "\t", ".", "a", "bcdefgh", "\r", "\n"};
      body += parts[random() % std::size(parts)];
    }
    ASSERT_EQ(relaxed_body(body, 1 + random() % 40), naive_relaxed_body(body)) << ::testing::PrintToString(body);
  }
}

TEST(RelaxedBody, TakesLinesOfAnyLength) {
  const std::string word(20000, 'a');
  EXPECT_EQ(relaxed_body(word + "  " + word + "\r\n", 7000), word + ' ' + word + "\r\n");
  EXPECT_EQ(relaxed_body(std::string(30000, ' ') + "a\r\n"), " a\r\n");
  const std::string near(8190, 'b');
  EXPECT_EQ(relaxed_body("a\r\n\t" + near + "\r\n\t" + near.substr(3) + "\r\n"),
            "a\r\n " + near + "\r\n " + near.substr(3) + "\r\n");
}

TEST(RelaxedBody, HoldsBackAnyNumberOfEmptyLines) {
  std::string body = "a\r\n";
  for (int i = 0; i < 50000; ++i) body += "\r\n";
  EXPECT_EQ(relaxed_body(body, 1001), "a\r\n");
  EXPECT_EQ(relaxed_body(body + "b\r\n", 1001), body + "b\r\n");
}

TEST(DkimBodyHash, CanBeMovedWhileInUse) {
  DkimBodyHash a;
  a.update("x");
  DkimBodyHash b = std::move(a);
  b.update("\r\n");
  EXPECT_EQ(b.finish(), body_hash("x\r\n"));
}

// --- Keys ---

TEST(DkimKey, PublishesTheEd25519KeyOfRfc8463) {
  const auto key = brisbane();
  EXPECT_EQ(key->algorithm(), "ed25519-sha256");
  EXPECT_FALSE(key->weak());
  EXPECT_EQ(key->dns_record(), "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
}

TEST(DkimKey, TakesRsaAndKnowsWhenItIsWeak) {
  const auto good = load(pem_of(EVP_RSA_gen(2048)));
  EXPECT_EQ(good->algorithm(), "rsa-sha256");
  EXPECT_FALSE(good->weak());
  EXPECT_TRUE(good->dns_record().starts_with("v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA"));
  EXPECT_TRUE(load(pem_of(EVP_RSA_gen(1024)))->weak());
}

TEST(DkimKey, RefusesRsaThatVerifiersMayIgnore) {
  EXPECT_EQ(load_error(pem_of(EVP_RSA_gen(768))), "RSA key of 768 bits: at least 1024 are needed, 2048 recommended");
}

/// An RSA "key" of 4104 bits that nobody searched primes for.
EVP_PKEY* huge_rsa() {
  BIGNUM* n = BN_new();
  BN_set_bit(n, 4103);
  BN_set_bit(n, 0);
  BIGNUM* e = BN_new();
  BN_set_word(e, 65537);
  OSSL_PARAM_BLD* build = OSSL_PARAM_BLD_new();
  OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n);
  for (const char* name : {OSSL_PKEY_PARAM_RSA_E, OSSL_PKEY_PARAM_RSA_D, OSSL_PKEY_PARAM_RSA_FACTOR1, OSSL_PKEY_PARAM_RSA_FACTOR2,
                           OSSL_PKEY_PARAM_RSA_EXPONENT1, OSSL_PKEY_PARAM_RSA_EXPONENT2, OSSL_PKEY_PARAM_RSA_COEFFICIENT1})
    OSSL_PARAM_BLD_push_BN(build, name, e);
  OSSL_PARAM* params = OSSL_PARAM_BLD_to_param(build);
  EVP_PKEY_CTX* context = EVP_PKEY_CTX_new_from_name(nullptr, "RSA", nullptr);
  EVP_PKEY* key = nullptr;
  EVP_PKEY_fromdata_init(context);
  EVP_PKEY_fromdata(context, &key, EVP_PKEY_KEYPAIR, params);
  EVP_PKEY_CTX_free(context);
  OSSL_PARAM_free(params);
  OSSL_PARAM_BLD_free(build);
  BN_free(e);
  BN_free(n);
  return key;
}

TEST(DkimKey, RefusesRsaBeyondWhatVerifiersMustTake) {
  EXPECT_EQ(load_error(pem_of(huge_rsa())), "RSA key of 4104 bits: verifiers need not take more than 4096");
}

TEST(DkimKey, RefusesOtherAlgorithms) {
  EXPECT_TRUE(load_error(pem_of(EVP_EC_gen("P-256"))).starts_with("neither an RSA nor an Ed25519 key"));
  EXPECT_TRUE(load_error(pem_of(EVP_PKEY_Q_keygen(nullptr, nullptr, "X25519"))).starts_with("neither an RSA nor an Ed25519 key"));
}

TEST(DkimKey, NeverAsksForAPassphrase) {
  for (const auto password : {"secret", ""})
    EXPECT_EQ(load_error(pem_of(ed25519_of(std::string(32, 'k')), false, password)),
              "the private key is encrypted: store it without a passphrase");
}

TEST(DkimKey, ExplainsWhatIsNotAPrivateKey) {
  EXPECT_EQ(load_error(pem_of(ed25519_of(std::string(32, 'k')), true)), "this is a public key: the private key is needed");
  EXPECT_EQ(load_error(""), "not a PEM file (no \"-----BEGIN PRIVATE KEY-----\")");
  EXPECT_EQ(load_error(std::string(1000, '\0')), "not a PEM file (no \"-----BEGIN PRIVATE KEY-----\")");
  EXPECT_EQ(load_error("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "no readable private key in the PEM file");
  EXPECT_EQ(load_error("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            "no readable private key in the PEM file");
  EXPECT_EQ(load_error(std::string(100000, 'A')), "too large for a private key in PEM form");
}

TEST(DkimKey, SignsInSeveralThreadsAtOnce) {
  const auto key = load(pem_of(EVP_RSA_gen(1024)));
  const auto expected = key->sign("data");
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int k = 0; k < 50; ++k) EXPECT_EQ(key->sign("data"), expected);
    });
}

// --- RFC 8463 appendix A.3 ---

constexpr std::string_view example_header =
    "From: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\nSubject: Is dinner ready?\r\n"
    "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\nMessage-ID: <20030712040037.46341.5F8J@football.example.com>\r\n";
constexpr std::string_view example_body = "Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";
constexpr std::string_view example_hash = "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=";

TEST(Rfc8463, GivesTheBodyHash) {
  EXPECT_EQ(base64_encode(body_hash(example_body)), example_hash);
}

TEST(Rfc8463, GivesTheSignature) {
  const std::string own = relaxed_field(
      "DKIM-Signature",
      " v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n"
      " q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;\r\n"
      " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b=");
  const auto signature = brisbane()->sign(relaxed_header(example_header) + own.substr(0, own.size() - 2));
  EXPECT_EQ(base64_encode(*signature),
            "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==");
}

// --- The field ---

TEST(DkimField, CarriesItsTags) {
  const std::string field = signed_field(example_header);
  EXPECT_TRUE(field.starts_with("DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.com;"));
  EXPECT_TRUE(field.ends_with("==\r\n"));
  EXPECT_EQ(tag(field, "s"), "s1");
  EXPECT_EQ(tag(field, "t"), "1528637909");
  EXPECT_EQ(tag(field, "bh"), base64_encode(body_hash("x\r\n")));
  EXPECT_EQ(base64_decode(tag(field, "b"))->size(), 64u);
  for (const auto name : {"l", "x", "i", "z"}) EXPECT_EQ(tag(field, name), "absent") << name;
}

TEST(DkimField, LeavesOutATimeBefore1970) {
  EXPECT_EQ(tag(signed_field("From: a@b\r\n", {"example.com", "s1", {}, -1}), "t"), "absent");
}

TEST(DkimField, SignsWhatItSays) {
  const auto key = brisbane();
  const std::string field = signed_field(example_header);
  std::string own = relaxed_field("dkim-signature", std::string_view(field).substr(15, field.rfind("b=") - 13));
  const std::string data = relaxed_header(example_header) + own.substr(0, own.size() - 2);
  EXPECT_EQ(tag(field, "h").substr(0, 20), "from:from:to:to:cc:s");
  EXPECT_EQ(tag(field, "b"), base64_encode(*key->sign(data)));
}

TEST(DkimField, KeepsLinesShort) {
  const auto key = load(pem_of(EVP_RSA_gen(2048)));
  const std::string field = dkim_field(*key, {"example.com", "s1", {}, 0}, example_header, body_hash(""));
  std::string_view rest = field;
  while (!rest.empty()) {
    const std::size_t end = rest.find("\r\n");
    EXPECT_LE(end, 78u) << rest.substr(0, end);
    EXPECT_NE(rest.find_first_not_of(" \t"), end);
    rest.remove_prefix(end + 2);
  }
  EXPECT_EQ(base64_decode(tag(field, "b"))->size(), 256u);
}

TEST(DkimField, NamesProtectedFieldsOnceMoreThanTheyOccur) {
  EXPECT_EQ(signed_names("From: a@b\r\n"),
            "from:from:to:cc:subject:date:message-id:reply-to:mime-version:content-type:list-unsubscribe:list-unsubscribe-post");
  EXPECT_TRUE(
      signed_names("From: a@b\r\nSubject: 1\r\nsubject : 2\r\n").starts_with("from:from:to:cc:subject:subject:subject:date:"));
}

TEST(DkimField, SignsOtherFieldsWhereTheyOccur) {
  const std::string names = signed_names(
      "Sender: a\r\nFrom: a@b\r\nReferences: r\r\nIn-Reply-To: i\r\nList-Id: l\r\nFeedback-ID: f\r\n"
      "Content-Transfer-Encoding: 8bit\r\nContent-Disposition: inline\r\n");
  EXPECT_TRUE(names.ends_with(
      ":list-unsubscribe-post:sender:in-reply-to:references:content-transfer-encoding:content-disposition:list-id:feedback-id"));
}

TEST(DkimField, LeavesTraceAndForeignFieldsAlone) {
  EXPECT_EQ(
      signed_names("Return-Path: <a@b>\r\nReceived: x\r\nDKIM-Signature: v=1\r\nX-Any: y\r\nResent-From: c@d\r\nFrom: a@b\r\n"),
      signed_names("From: a@b\r\n"));
}

TEST(DkimField, NeitherSignsNorOversignsExcludedFields) {
  const std::string names =
      signed_names("From: a@b\r\nDate: x\r\nMessage-ID: y\r\nSender: z\r\n", {"date", "message-id", "sender"});
  EXPECT_EQ(names, "from:from:to:cc:subject:reply-to:mime-version:content-type:list-unsubscribe:list-unsubscribe-post");
}

TEST(DkimField, TakesFieldsOfOneNameFromTheBottomUp) {
  const auto key = brisbane();
  const std::string field =
      signed_field("To: 1\r\nFrom: a@b\r\nTo: 2\r\n", {"example.com",
                                                       "s1",
                                                       {"cc", "subject", "date", "message-id", "reply-to", "mime-version",
                                                        "content-type", "list-unsubscribe", "list-unsubscribe-post"},
                                                       0});
  std::string own = relaxed_field("dkim-signature", std::string_view(field).substr(15, field.rfind("b=") - 13));
  own.resize(own.size() - 2);
  EXPECT_EQ(tag(field, "h"), "from:from:to:to:to");
  EXPECT_EQ(tag(field, "b"), base64_encode(*key->sign("from:a@b\r\nto:2\r\nto:1\r\n" + own)));
}

TEST(DkimField, IsEmptyWhereAMessageCannotBeSigned) {
  EXPECT_EQ(signed_field(""), "");
  EXPECT_EQ(signed_field("Subject: no author\r\n"), "");
  EXPECT_EQ(signed_field("From: a@b\r\nFROM : c@d\r\n"), "");
  EXPECT_EQ(signed_field("From: a@b\r\nnot a field\r\n"), "");
  EXPECT_EQ(signed_field(" Subject: x\r\nFrom: a@b\r\n"), "");
  EXPECT_EQ(signed_field("From: a@b\r\n", {"example.com", "s1", {"from"}, 0}), "");
  EXPECT_EQ(dkim_field(*brisbane(), {"example.com", "s1", {}, 0}, "From: a@b\r\n", ""), "");
}

TEST(DkimField, RefusesNamesThatCouldBreakOutOfTheirTag) {
  for (const auto bad : {"", "a b", "a;l=1", "a\r\nb", "-a", "a..b"}) {
    EXPECT_EQ(signed_field("From: a@b\r\n", {bad, "s1", {}, 0}), "") << bad;
    EXPECT_EQ(signed_field("From: a@b\r\n", {"example.com", bad, {}, 0}), "") << bad;
  }
}

TEST(DkimField, RefusesAFloodOfFields) {
  std::string header = "From: a@b\r\n";
  for (int i = 0; i < 80; ++i) header += "To: x\r\n";
  EXPECT_NE(signed_field(header), "");
  for (int i = 0; i < 50000; ++i) header += "To: x\r\n";
  EXPECT_EQ(signed_field(header), "");
}

// --- From ---

TEST(FromDomain, ReadsTheUsualForms) {
  EXPECT_EQ(from("a@Example.COM"), "example.com");
  EXPECT_EQ(from("<a@example.com>"), "example.com");
  EXPECT_EQ(from("John Q. Public <john@mail.example.com>"), "mail.example.com");
  EXPECT_EQ(from("=?utf-8?q?J=C3=B6rg?= <a@xn--bcher-kva.example>"), "xn--bcher-kva.example");
  EXPECT_EQ(from("\"Public, John <x@evil.example>\" <john@example.com>"), "example.com");
  EXPECT_EQ(from("info@shop.example <info@example.com>"), "example.com");
  EXPECT_EQ(from("\"a@b\\\"@\"@example.com"), "example.com");
}

TEST(FromDomain, SkipsCommentsAndFolds) {
  EXPECT_EQ(from("(x@evil.example (nested \\) ) ) a@example.com (b@evil.example)"), "example.com");
  EXPECT_EQ(from("a (c) @ (d) example.com"), "example.com");
  EXPECT_EQ(from("\r\n \"A\r\n B\"\r\n\t<a@example.com>\r\n "), "example.com");
}

TEST(FromDomain, TakesTheFirstOfSeveral) {
  EXPECT_EQ(from("a@example.com, b@other.example"), "example.com");
  EXPECT_EQ(from("A <a@example.com>, B <b@other.example>"), "example.com");
  EXPECT_EQ(from("The Team: A <a@example.com>, b@other.example;"), "example.com");
  EXPECT_EQ(from("<@relay.example,@other.example:a@example.com>"), "example.com");
}

TEST(FromDomain, IsNoneWhereReadersCouldDisagree) {
  for (const auto value : {"",
                           "nobody",
                           "Public, John <a@example.com>",
                           "undisclosed:;",
                           "group:, a@example.com;",
                           "a: b: c@example.com",
                           "<a@example.com",
                           "a@example.com>",
                           "<<a@example.com>>",
                           "<a@example.com> <b@other.example>",
                           "<a@example.com> x",
                           "\"open <a@example.com>",
                           "(open a@example.com",
                           "x a@example.com",
                           "a@example.com b",
                           "a@b@example.com",
                           "a@example.com.",
                           "a@",
                           "@example.com",
                           "<>",
                           "a@[192.0.2.1]",
                           "a@[IPv6:2001:db8::1]",
                           "a@exa mple.com",
                           "a@-example.com",
                           "a@\xFF.example"})
    EXPECT_EQ(from(value), "none") << value;
}

TEST(FromDomain, WantsExactlyOneFrom) {
  EXPECT_FALSE(from_domain(""));
  EXPECT_FALSE(from_domain("Sender: a@example.com\r\n"));
  EXPECT_FALSE(from_domain("From: a@example.com\r\nfrom: a@example.com\r\n"));
  EXPECT_FALSE(from_domain("From: a@example.com\r\nbroken\r\n"));
  EXPECT_EQ(from_domain(".From: a@example.com\r\n"), "example.com");
  EXPECT_FALSE(from_domain("..From: a@example.com\r\n"));
}

TEST(FromDomain, BearsHostileDepth) {
  EXPECT_EQ(from(std::string(100000, '(') + std::string(100000, ')') + "a@example.com"), "example.com");
  EXPECT_EQ(from(std::string(100000, '(')), "none");
  EXPECT_EQ(from(std::string(100000, 'a') + "@example.com"), "none");
}

}  // namespace
}  // namespace egret::smtp
