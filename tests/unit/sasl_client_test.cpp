#include "smtp/sasl_client.hpp"

#include <gtest/gtest.h>

#include "smtp/sasl_server.hpp"
#include "smtp/scram.hpp"
#include "smtp/text.hpp"

namespace egret::smtp {
namespace {

using namespace std::string_literals;

const std::string client_nonce = "rOprNGfwEbeRWgbNEkqO";
const std::string server_nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

SaslClient client(std::string_view mechanism, const std::string& username = "user", const std::string& password = "pencil") {
  return SaslClient::make(mechanism, {username, password}, client_nonce).value();
}

std::string b64(std::string_view text) {
  return base64_encode(text);
}

/// A client that has sent its first message, asked for `server_first`.
std::optional<std::string> scram_answer(SaslClient& c, std::string_view server_first) {
  EXPECT_TRUE(c.initial());
  return c.step(b64(server_first));
}

std::string server_first(std::string_view iterations) {
  return "r=" + client_nonce + server_nonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=" + std::string(iterations);
}

/// How the exchange of both sides ends; `use_initial` false: the client sends AUTH with the mechanism alone.
struct Ending {
  SaslAction::Kind server;
  bool complete;
  std::string username;
  std::string password;
};

Ending run(std::string_view mechanism, const std::string& username, const std::string& password, bool use_initial,
           const std::optional<ScramSecret>& secret) {
  SaslClient c = client(mechanism, username, password);
  SaslServer s = SaslServer::make(mechanism, {server_nonce, "key", 4096}).value();
  const auto first = use_initial ? c.initial() : std::nullopt;
  SaslAction action = s.step(first.value_or(""));
  for (int turn = 0; turn < 6; ++turn) {
    if (action.kind == SaslAction::Kind::lookup_secret) {
      action = s.with_secret(secret);
    } else if (action.kind == SaslAction::Kind::challenge) {
      const auto answer = c.step(action.text);
      action = s.step(answer.value_or("*"));
    } else {
      break;
    }
  }
  return {action.kind, c.complete(), s.username(), s.take_password()};
}

TEST(ChooseMechanism, TakesTheFirstPreferredThatIsOffered) {
  EXPECT_EQ(choose_mechanism({"LOGIN", "PLAIN"}, {"SCRAM-SHA-256", "PLAIN", "LOGIN"}), "PLAIN");
  EXPECT_EQ(choose_mechanism({"login"}, {"PLAIN", "LOGIN"}), "LOGIN");
  EXPECT_EQ(choose_mechanism({"XOAUTH2"}, {"PLAIN"}), "");
  EXPECT_EQ(choose_mechanism({}, {"PLAIN"}), "");
  EXPECT_EQ(choose_mechanism({"PLAIN"}, {}), "");
}

TEST(SaslClient, PresentsNoNulByAnyMechanism) {
  for (const auto mechanism : SaslClient::mechanisms) {
    SaslClient c = client(mechanism, "user", std::string("pencil\0", 7));
    EXPECT_EQ(c.initial(), std::nullopt) << mechanism;
    EXPECT_EQ(c.step("PDEyMzRAaG9zdD4="), std::nullopt) << mechanism;
    EXPECT_FALSE(c.complete());
    EXPECT_NE(c.error().find("NUL"), std::string::npos) << c.error();
  }
}

TEST(SaslClient, KnowsItsMechanismsInAnyCase) {
  for (const auto name : SaslClient::mechanisms) EXPECT_TRUE(SaslClient::make(name, {}, "n")) << name;
  EXPECT_TRUE(SaslClient::make("cram-md5", {}, "n"));
  for (const char* name : {"", "EXTERNAL", "SCRAM-SHA-1", "SCRAM-SHA-256-PLUS"})
    EXPECT_FALSE(SaslClient::make(name, {}, "n")) << name;
}

TEST(SaslClientPlain, SendsEverythingAtOnce) {
  SaslClient c = client("PLAIN");
  EXPECT_FALSE(c.complete());
  EXPECT_EQ(c.initial(), b64("\0user\0pencil"s));
  EXPECT_TRUE(c.complete());
}

TEST(SaslClientPlain, AnswersAChallengeInstead) {
  SaslClient c = client("PLAIN");
  EXPECT_EQ(c.step(""), b64("\0user\0pencil"s));
  EXPECT_TRUE(c.complete());
}

// "AUTH PLAIN ", 496 octets of base64 and CRLF are 509; the next group does not fit.
TEST(SaslClientPlain, KeepsLongCredentialsOutOfTheCommand) {
  SaslClient fits = client("PLAIN", "user", std::string(366, 'p'));
  EXPECT_EQ(fits.initial().value_or("").size(), 496u);
  SaslClient longer = client("PLAIN", "user", std::string(367, 'p'));
  EXPECT_EQ(longer.initial(), std::nullopt);
  EXPECT_FALSE(longer.complete());
  EXPECT_EQ(longer.step(""), b64("\0user\0"s + std::string(367, 'p')));
  EXPECT_TRUE(longer.complete());
}

TEST(SaslClientPlain, CannotCarryANul) {
  SaslClient c = client("PLAIN", "us\0er"s);
  EXPECT_EQ(c.initial(), std::nullopt);
  EXPECT_EQ(c.step(""), std::nullopt);
  EXPECT_FALSE(c.complete());
  EXPECT_NE(c.error(), "");
}

TEST(SaslClient, FailsWhenAskedAfterTheEnd) {
  SaslClient c = client("PLAIN");
  c.initial();
  EXPECT_EQ(c.step(""), std::nullopt);
  EXPECT_FALSE(c.complete());
  EXPECT_NE(c.error(), "");
}

TEST(SaslClientLogin, AnswersTwoChallengesWhateverTheySay) {
  for (const char* words : {"VXNlcm5hbWU6", "Username:", "VXNlciBOYW1lAA==", ""}) {
    SaslClient c = client("LOGIN");
    EXPECT_EQ(c.initial(), std::nullopt);
    EXPECT_EQ(c.step(words), b64("user"));
    EXPECT_FALSE(c.complete());
    EXPECT_EQ(c.step(words), b64("pencil"));
    EXPECT_TRUE(c.complete());
  }
}

TEST(SaslClientCramMd5, ComputesTheExampleOfRfc2195) {
  SaslClient c = client("CRAM-MD5", "tim", "tanstaaftanstaaf");
  EXPECT_EQ(c.initial(), std::nullopt);
  EXPECT_EQ(c.step("PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+"),
            "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw");
  EXPECT_TRUE(c.complete());
}

TEST(SaslClientCramMd5, RefusesAMalformedChallenge) {
  for (const char* challenge : {"", "<1@x>", "PDE"}) {
    SaslClient c = client("CRAM-MD5");
    EXPECT_EQ(c.step(challenge), std::nullopt) << challenge;
    EXPECT_FALSE(c.complete());
  }
}

TEST(SaslClientScram, GoesThroughTheExampleOfRfc7677) {
  SaslClient c = client("SCRAM-SHA-256");
  EXPECT_EQ(c.initial(), b64("n,,n=user,r=" + client_nonce));
  EXPECT_EQ(c.step(b64(server_first("4096"))),
            b64("c=biws,r=" + client_nonce + server_nonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="));
  EXPECT_FALSE(c.complete());
  EXPECT_EQ(c.step(b64("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")), "");
  EXPECT_TRUE(c.complete());
}

TEST(SaslClientScram, BelievesNoServerThatDoesNotKnowThePassword) {
  for (const auto& message :
       {"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G8="s, "v="s, "v=AAAA"s, ""s, "x"s, "w=6rri"s, "e=other-error"s}) {
    SaslClient c = client("SCRAM-SHA-256");
    ASSERT_TRUE(scram_answer(c, server_first("4096")));
    EXPECT_EQ(c.step(b64(message)), std::nullopt) << message;
    EXPECT_FALSE(c.complete());
    EXPECT_NE(c.error(), "");
  }
}

TEST(SaslClientScram, MakesTheServersErrorFitForLogs) {
  SaslClient c = client("SCRAM-SHA-256");
  ASSERT_TRUE(scram_answer(c, server_first("4096")));
  c.step(b64("e=bad\r\n\x1b[2J" + std::string(5000, 'x')));
  EXPECT_EQ(c.error().find_first_of("\r\n\x1b"), std::string::npos);
  EXPECT_LT(c.error().size(), 200u);
}

TEST(SaslClientScram, BoundsTheIterations) {
  SaslClient weak = client("SCRAM-SHA-256");
  EXPECT_EQ(scram_answer(weak, server_first("4095")), std::nullopt);
  EXPECT_NE(weak.error().find("weak"), std::string::npos);
  SaslClient costly = client("SCRAM-SHA-256");
  EXPECT_EQ(scram_answer(costly, server_first("600001")), std::nullopt);
  EXPECT_NE(costly.error().find("too many"), std::string::npos);
  for (const char* bad : {"", "-1", "4096x", "0x1000", "99999999999999999999"}) {
    SaslClient c = client("SCRAM-SHA-256");
    EXPECT_EQ(scram_answer(c, server_first(bad)), std::nullopt) << bad;
  }
}

TEST(SaslClientScram, RefusesAServerThatDoesNotExtendTheNonce) {
  for (const auto& nonce : {client_nonce, server_nonce, "x" + client_nonce + server_nonce, ""s, client_nonce + " x"}) {
    SaslClient c = client("SCRAM-SHA-256");
    EXPECT_EQ(scram_answer(c, "r=" + nonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"), std::nullopt) << nonce;
  }
}

TEST(SaslClientScram, RefusesAMalformedChallenge) {
  const std::string nonce = client_nonce + server_nonce;
  for (const auto& message :
       {""s, "r=" + nonce, "r=" + nonce + ",s=", "r=" + nonce + ",s=,i=4096", "r=" + nonce + ",s=!!!!,i=4096",
        "m=x,r=" + nonce + ",s=AAAA,i=4096", "r=" + nonce + ",i=4096,s=AAAA", "e=unknown-user"s}) {
    SaslClient c = client("SCRAM-SHA-256");
    EXPECT_EQ(scram_answer(c, message), std::nullopt) << message;
    EXPECT_FALSE(c.complete());
  }
  SaslClient c = client("SCRAM-SHA-256");
  c.initial();
  EXPECT_EQ(c.step("not base64"), std::nullopt);
}

TEST(SaslClient, BoundsTheChallenge) {
  for (const auto name : SaslClient::mechanisms) {
    SaslClient c = client(name);
    EXPECT_EQ(c.step(std::string(12292, 'A')), std::nullopt) << name;
    EXPECT_FALSE(c.complete());
  }
}

TEST(SaslClient, NeverShowsThePasswordInAnError) {
  for (const auto name : SaslClient::mechanisms) {
    SaslClient c = client(name, "user", "hunter2");
    c.initial();
    for (int i = 0; i < 4 && c.error().empty(); ++i) c.step(b64("junk"));
    EXPECT_EQ(c.error().find("hunter2"), std::string::npos) << name;
    EXPECT_NE(c.error(), "") << name;
  }
}

TEST(SaslBothSides, AgreeOnNameAndPassword) {
  for (const char* mechanism : {"PLAIN", "LOGIN"})
    for (const bool use_initial : {true, false})
      for (const auto& password : {"x"s, "p\xC3\xA4ss, w=rd"s, std::string(1024, 'p')}) {
        const Ending ending = run(mechanism, "u=s,er", password, use_initial, std::nullopt);
        EXPECT_EQ(ending.server, SaslAction::Kind::verify_password) << mechanism;
        EXPECT_TRUE(ending.complete);
        EXPECT_EQ(ending.username, "u=s,er");
        EXPECT_EQ(ending.password, password);
      }
}

TEST(SaslBothSides, ProveToEachOtherByScram) {
  const ScramSecret secret = make_scram_secret("p\xC3\xA4ss, w=rd", "salty salt", 4096);
  for (const bool use_initial : {true, false}) {
    const Ending ending = run("SCRAM-SHA-256", "u=s,er", "p\xC3\xA4ss, w=rd", use_initial, secret);
    EXPECT_EQ(ending.server, SaslAction::Kind::authenticated);
    EXPECT_TRUE(ending.complete);
    EXPECT_EQ(ending.username, "u=s,er");
    EXPECT_EQ(ending.password, "");
  }
}

TEST(SaslBothSides, CarryTheLongestNameByScram) {
  const Ending ending = run("SCRAM-SHA-256", std::string(255, ','), "x", true, make_scram_secret("x", "salty salt", 4096));
  EXPECT_EQ(ending.server, SaslAction::Kind::authenticated);
  EXPECT_EQ(ending.username, std::string(255, ','));
}

TEST(SaslBothSides, RefuseAWrongPasswordAndAStranger) {
  const ScramSecret secret = make_scram_secret("right", "salty salt", 4096);
  for (const auto& known : {std::optional(secret), std::optional<ScramSecret>()}) {
    const Ending ending = run("SCRAM-SHA-256", "user", "wrong", true, known);
    EXPECT_EQ(ending.server, SaslAction::Kind::refused);
    EXPECT_FALSE(ending.complete);
  }
}

}  // namespace
}  // namespace egret::smtp
