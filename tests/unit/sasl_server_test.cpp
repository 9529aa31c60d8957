#include "smtp/sasl_server.hpp"

#include <gtest/gtest.h>

#include "smtp/text.hpp"

namespace egret::smtp {
namespace {

using Kind = SaslAction::Kind;
using namespace std::string_literals;

const std::string client_nonce = "rOprNGfwEbeRWgbNEkqO";
const std::string server_nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

SaslServer server(std::string_view mechanism) {
  return SaslServer::make(mechanism, {server_nonce, "installation key", 4096}).value();
}

const ScramSecret& pencil() {
  static const ScramSecret secret = make_scram_secret("pencil", *base64_decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096);
  return secret;
}

std::string b64(std::string_view text) {
  return base64_encode(text);
}

/// The kind of the answer to one initial response.
Kind initial(std::string_view mechanism, std::string_view message) {
  return server(mechanism).step(message.empty() ? "=" : b64(message)).kind;
}

/// A client's last message for the example of RFC 7677, with a proof that fits whatever the message says.
std::string scram_final(const std::string& binding, const std::string& nonce,
                        const std::string& bare = "n=user,r=" + client_nonce) {
  const std::string server_first = "r=" + client_nonce + server_nonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
  const std::string without_proof = "c=" + binding + ",r=" + nonce;
  const std::string salted = scram_salted_password("pencil", pencil().salt, 4096);
  return without_proof + ",p=" + b64(scram_client_proof(salted, bare + "," + server_first + "," + without_proof));
}

/// A server that waits for the client's last message.
SaslServer scram_challenged(const std::string& first = "n,,n=user,r=" + client_nonce) {
  SaslServer out = server("SCRAM-SHA-256");
  EXPECT_EQ(out.step(b64(first)).kind, Kind::lookup_secret);
  EXPECT_EQ(out.with_secret(pencil()).kind, Kind::challenge);
  return out;
}

TEST(SaslServer, KnowsItsMechanismsInAnyCase) {
  for (const auto name : SaslServer::mechanisms) EXPECT_TRUE(SaslServer::make(name, {})) << name;
  EXPECT_TRUE(SaslServer::make("plain", {}));
  for (const char* name : {"", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "PLAIN ", "EXTERNAL", "NTLM"})
    EXPECT_FALSE(SaslServer::make(name, {})) << name;
}

TEST(SaslServerPlain, TakesTheInitialResponse) {
  SaslServer s = server("PLAIN");
  EXPECT_EQ(s.step(b64("\0tim\0tanstaaf"s)).kind, Kind::verify_password);
  EXPECT_EQ(s.username(), "tim");
  EXPECT_EQ(s.take_password(), "tanstaaf");
  EXPECT_EQ(s.take_password(), "");
}

TEST(SaslServerPlain, AsksWithAnEmptyChallenge) {
  SaslServer s = server("PLAIN");
  const SaslAction action = s.step("");
  EXPECT_EQ(action.kind, Kind::challenge);
  EXPECT_EQ(action.code, 334);
  EXPECT_EQ(action.text, "");
  EXPECT_EQ(s.step(b64("\0tim\0tanstaaf"s)).kind, Kind::verify_password);
}

TEST(SaslServerPlain, LetsNobodyActForSomebodyElse) {
  EXPECT_EQ(initial("PLAIN", "tim\0tim\0x"s), Kind::verify_password);
  EXPECT_EQ(initial("PLAIN", "root\0tim\0x"s), Kind::refused);
  EXPECT_EQ(initial("PLAIN", "Tim\0tim\0x"s), Kind::refused);
}

TEST(SaslServerPlain, RefusesWhatIsMalformed) {
  for (const auto& message : {""s, "tim"s, "tim\0x"s, "\0\0x"s, "\0tim\0x\0y"s, "\0t\rim\0x"s, "\0t\nim\0x"s, "\0t\x7Fim\0x"s,
                              "\0t\xC2\x85im\0x"s, "\0t\xFFim\0x"s, "\0tim\0x\0"s})
    EXPECT_EQ(initial("PLAIN", message), Kind::malformed) << printable(message);
}

TEST(SaslServerPlain, RefusesAnEmptyPassword) {
  EXPECT_EQ(initial("PLAIN", "\0tim\0"s), Kind::refused);
}

TEST(SaslServerPlain, BoundsNameAndPassword) {
  EXPECT_EQ(initial("PLAIN", "\0"s + std::string(255, 'u') + "\0x"s), Kind::verify_password);
  EXPECT_EQ(initial("PLAIN", "\0"s + std::string(256, 'u') + "\0x"s), Kind::malformed);
  EXPECT_EQ(initial("PLAIN", "\0tim\0"s + std::string(1024, 'p')), Kind::verify_password);
  EXPECT_EQ(initial("PLAIN", "\0tim\0"s + std::string(1025, 'p')), Kind::malformed);
}

TEST(SaslServerPlain, TakesUtf8) {
  EXPECT_EQ(initial("PLAIN", "\0J\xC3\xB6rg\0p\xC3\xA4ss"s), Kind::verify_password);
}

TEST(SaslServerLogin, AsksForNameAndPassword) {
  SaslServer s = server("LOGIN");
  EXPECT_EQ(s.step("").text, "VXNlcm5hbWU6");
  EXPECT_EQ(s.step(b64("tim")).text, "UGFzc3dvcmQ6");
  EXPECT_EQ(s.step(b64("tanstaaf")).kind, Kind::verify_password);
  EXPECT_EQ(s.username(), "tim");
  EXPECT_EQ(s.take_password(), "tanstaaf");
}

TEST(SaslServerLogin, TakesTheInitialResponseAsName) {
  SaslServer s = server("LOGIN");
  EXPECT_EQ(s.step(b64("tim")).text, "UGFzc3dvcmQ6");
  EXPECT_EQ(s.step(b64("x")).kind, Kind::verify_password);
}

TEST(SaslServerLogin, RefusesBadNamesAndPasswords) {
  EXPECT_EQ(initial("LOGIN", "t\0im"s), Kind::malformed);
  EXPECT_EQ(initial("LOGIN", std::string(256, 'u')), Kind::malformed);
  EXPECT_EQ(server("LOGIN").step("=").kind, Kind::malformed);
  const auto password = [](std::string_view text) {
    SaslServer s = server("LOGIN");
    s.step(b64("tim"));
    return s.step(b64(text)).kind;
  };
  EXPECT_EQ(password("x\0y"s), Kind::malformed);
  EXPECT_EQ(password(std::string(1025, 'p')), Kind::malformed);
  EXPECT_EQ(password(""), Kind::refused);
}

TEST(SaslServer, IsCancelledByAStar) {
  for (const auto name : SaslServer::mechanisms) {
    SaslServer s = server(name);
    s.step("");
    const SaslAction action = s.step("*");
    EXPECT_EQ(action.kind, Kind::cancelled);
    EXPECT_EQ(action.code, 501);
    EXPECT_EQ(s.step(b64("\0tim\0x"s)).kind, Kind::malformed);
  }
}

TEST(SaslServer, IsStrictAboutBase64) {
  for (const char* line :
       {"A", "AHRpbQB", "AHRpbQB4=", "AHRp bQB4", " AHRpbQB4", "AHRpbQB4\r", "=AAA", "AHRp=bQB", "AA==AHRp", "!!!!"}) {
    EXPECT_EQ(server("PLAIN").step(line).kind, Kind::malformed) << line;
    SaslServer s = server("PLAIN");
    s.step("");
    const SaslAction action = s.step(line);
    EXPECT_EQ(action.kind, Kind::malformed) << line;
    EXPECT_EQ(action.code, 501);
  }
}

TEST(SaslServer, KnowsTheEqualsSignInTheCommandOnly) {
  EXPECT_EQ(server("PLAIN").step("=").kind, Kind::malformed);  // an empty PLAIN message
  SaslServer s = scram_challenged();
  EXPECT_EQ(s.step(b64(scram_final("biws", client_nonce + server_nonce))).kind, Kind::challenge);
  EXPECT_EQ(s.step("=").kind, Kind::malformed);
}

TEST(SaslServer, BoundsTheLine) {
  SaslServer s = server("PLAIN");
  s.step("");
  EXPECT_EQ(s.step(std::string(12288, 'A')).code, 501);
  s = server("PLAIN");
  s.step("");
  const SaslAction action = s.step(std::string(12289, 'A'));
  EXPECT_EQ(action.kind, Kind::malformed);
  EXPECT_EQ(action.code, 500);
  EXPECT_TRUE(action.text.starts_with("5.5.6 "));
  EXPECT_EQ(server("PLAIN").step(std::string(12292, 'A')).code, 500);
}

TEST(SaslServer, StaysOverWhenItIsOver) {
  SaslServer s = server("PLAIN");
  EXPECT_EQ(s.step(b64("\0tim\0x"s)).kind, Kind::verify_password);
  EXPECT_EQ(s.step(b64("\0root\0x"s)).kind, Kind::malformed);
  EXPECT_EQ(s.with_secret(pencil()).kind, Kind::malformed);
  EXPECT_EQ(s.username(), "tim");
}

TEST(SaslServerScram, GoesThroughTheExampleOfRfc7677) {
  SaslServer s = server("SCRAM-SHA-256");
  EXPECT_EQ(s.step("").text, "");
  EXPECT_EQ(s.step(b64("n,,n=user,r=" + client_nonce)).kind, Kind::lookup_secret);
  EXPECT_EQ(s.username(), "user");
  EXPECT_EQ(base64_decode(s.with_secret(pencil()).text),
            "r=" + client_nonce + server_nonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
  const SaslAction last =
      s.step(b64("c=biws,r=" + client_nonce + server_nonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="));
  EXPECT_EQ(last.kind, Kind::challenge);
  EXPECT_EQ(base64_decode(last.text), "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
  EXPECT_EQ(s.step("").kind, Kind::authenticated);
  EXPECT_EQ(s.step("").kind, Kind::malformed);
}

TEST(SaslServerScram, WantsAnEmptyLastResponse) {
  SaslServer s = scram_challenged();
  EXPECT_EQ(s.step(b64(scram_final("biws", client_nonce + server_nonce))).kind, Kind::challenge);
  EXPECT_EQ(s.step(b64("x")).kind, Kind::malformed);
  s = scram_challenged();
  s.step(b64(scram_final("biws", client_nonce + server_nonce)));
  EXPECT_EQ(s.step("*").kind, Kind::cancelled);
}

TEST(SaslServerScram, TakesAClientThatWouldBindTheChannel) {
  SaslServer s = scram_challenged("y,,n=user,r=" + client_nonce);
  EXPECT_EQ(s.step(b64(scram_final("eSws", client_nonce + server_nonce))).kind, Kind::challenge);
  EXPECT_EQ(s.step("").kind, Kind::authenticated);
}

TEST(SaslServerScram, NoticesAChangedChannelBindingFlag) {
  SaslServer s = scram_challenged("n,,n=user,r=" + client_nonce);
  EXPECT_EQ(s.step(b64(scram_final("eSws", client_nonce + server_nonce))).kind, Kind::refused);
}

TEST(SaslServerScram, RefusesChannelBinding) {
  EXPECT_EQ(initial("SCRAM-SHA-256", "p=tls-exporter,,n=user,r=abc"), Kind::refused);
}

TEST(SaslServerScram, TakesTheOwnNameAsAuthorizationIdentity) {
  EXPECT_EQ(initial("SCRAM-SHA-256", "n,a=us=2Cer,n=us=2Cer,r=abc"), Kind::lookup_secret);
  EXPECT_EQ(initial("SCRAM-SHA-256", "n,a=root,n=user,r=abc"), Kind::refused);
}

TEST(SaslServerScram, DecodesTheName) {
  SaslServer s = server("SCRAM-SHA-256");
  EXPECT_EQ(s.step(b64("n,,n=a=2Cb=3Dc,r=abc")).kind, Kind::lookup_secret);
  EXPECT_EQ(s.username(), "a,b=c");
}

TEST(SaslServerScram, RefusesAMalformedFirstMessage) {
  for (const auto& message : {""s,
                              "n"s,
                              "n,"s,
                              "n,,"s,
                              "n,,n=user"s,
                              "n,,n=user,"s,
                              "n,,n=user,r="s,
                              "n,,n=,r=abc"s,
                              "n,,r=abc,n=user"s,
                              "x,,n=user,r=abc"s,
                              "n,user,n=user,r=abc"s,
                              "n,a=,n=user,r=abc"s,
                              "n,a==,n=user,r=abc"s,
                              "n,,m=x,n=user,r=abc"s,
                              "n,,n=us=er,r=abc"s,
                              "n,,n=us\0er,r=abc"s,
                              "n,,n=us\ner,r=abc"s,
                              "n,,n=user,r=a b"s,
                              "n,,n=user,r=a\x01"s,
                              "n,,n="s + std::string(256, 'u') + ",r=abc",
                              "n,,n=user,r="s + std::string(513, 'r')})
    EXPECT_EQ(initial("SCRAM-SHA-256", message), Kind::malformed) << printable(message);
}

TEST(SaslServerScram, SurvivesEveryCutOfEitherMessage) {
  const std::string first = "n,a=user,n=user,r=" + client_nonce;
  for (std::size_t n = 0; n < first.size() - client_nonce.size() + 1; ++n)
    EXPECT_NE(initial("SCRAM-SHA-256", first.substr(0, n)), Kind::lookup_secret) << n;
  const std::string last = scram_final("biws", client_nonce + server_nonce);
  for (std::size_t n = 0; n < last.size(); ++n) {
    SaslServer s = scram_challenged();
    const Kind kind = s.step(b64(last.substr(0, n))).kind;
    EXPECT_TRUE(kind == Kind::malformed || kind == Kind::refused) << n;
  }
}

TEST(SaslServerScram, WantsItsNonceBack) {
  for (const auto& nonce : {client_nonce, server_nonce, client_nonce + server_nonce + "x", ""s}) {
    SaslServer s = scram_challenged();
    EXPECT_EQ(s.step(b64(scram_final("biws", nonce))).kind, Kind::refused) << nonce;
  }
}

TEST(SaslServerScram, IgnoresOptionalExtensions) {
  const std::string bare = "n=user,r=" + client_nonce + ",z=future";
  SaslServer s = scram_challenged("n,," + bare);
  EXPECT_EQ(s.step(b64(scram_final("biws", client_nonce + server_nonce + ",z=more", bare))).kind, Kind::challenge);
}

TEST(SaslServerScram, RefusesAWrongProof) {
  SaslServer s = scram_challenged();
  const SaslAction action = s.step(b64("c=biws,r=" + client_nonce + server_nonce + ",p=" + b64(std::string(32, 'x'))));
  EXPECT_EQ(action.kind, Kind::refused);
  EXPECT_EQ(action.code, 535);
  EXPECT_EQ(s.step("").kind, Kind::malformed);
}

TEST(SaslServerScram, ShowsStrangersAChallengeThatDoesNotChange) {
  const auto challenge = [](const std::string& name) {
    SaslServer s = server("SCRAM-SHA-256");
    s.step(b64("n,,n=" + name + ",r=" + client_nonce));
    return s.with_secret(std::nullopt).text;
  };
  EXPECT_EQ(challenge("nobody"), challenge("nobody"));
  EXPECT_NE(challenge("nobody"), challenge("somebody"));
  const std::string text = base64_decode(challenge("nobody")).value();
  EXPECT_EQ(text.size(), ("r=" + client_nonce + server_nonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096").size());
  EXPECT_TRUE(text.ends_with(",i=4096"));
}

TEST(SaslServerScram, RefusesStrangersAsItRefusesUsers) {
  const std::string last = "c=biws,r=" + client_nonce + server_nonce + ",p=" + b64(std::string(32, 'x'));
  SaslServer known = scram_challenged(), stranger = server("SCRAM-SHA-256");
  stranger.step(b64("n,,n=user,r=" + client_nonce));
  stranger.with_secret(std::nullopt);
  const SaslAction a = known.step(b64(last)), b = stranger.step(b64(last));
  EXPECT_EQ(a.kind, b.kind);
  EXPECT_EQ(a.code, b.code);
  EXPECT_EQ(a.text, b.text);
}

TEST(SaslServerScram, TakesNoLineWhileASecretIsAwaited) {
  SaslServer s = server("SCRAM-SHA-256");
  s.step(b64("n,,n=user,r=" + client_nonce));
  EXPECT_EQ(s.step(b64(scram_final("biws", client_nonce + server_nonce))).kind, Kind::malformed);
  EXPECT_EQ(s.with_secret(pencil()).kind, Kind::malformed);
}

// One connection's attempts, each by another mechanism and ended in another way: nothing of one reaches the next.
TEST(SaslServer, FailsAThousandTimesAlternatingMechanisms) {
  for (int i = 0; i < 1000; ++i) {
    SaslServer s = server(SaslServer::mechanisms[static_cast<std::size_t>(i % 3)]);
    SaslAction action = i % 2 ? s.step("") : s.step(b64("n,,n=user,r=" + client_nonce));
    for (int turn = 0; turn < 4 && (action.kind == Kind::challenge || action.kind == Kind::lookup_secret); ++turn) {
      if (action.kind == Kind::lookup_secret)
        action = s.with_secret(i % 5 ? std::optional(pencil()) : std::nullopt);
      else if (i % 7 == turn)
        action = s.step("*");
      else if (i % 11 == turn)
        action = s.step(std::string(static_cast<std::size_t>(i), '\xFF'));
      else
        action = s.step(b64("c=biws,r=" + client_nonce + server_nonce + ",p=" + b64(std::string(32, static_cast<char>(i)))));
    }
    EXPECT_NE(action.kind, Kind::authenticated);
    EXPECT_NE(action.kind, Kind::challenge);
    EXPECT_EQ(s.step(b64("\0user\0pencil"s)).kind, Kind::malformed);
  }
}

}  // namespace
}  // namespace egret::smtp
