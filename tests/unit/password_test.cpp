#include "relay/auth/password.hpp"

#include <gtest/gtest.h>

#include <chrono>

#include "config/users.hpp"
#include "smtp/scram.hpp"

namespace egret::relay {
namespace {

using namespace std::string_literals;

TEST(VerifyCrypt, KnowsHashesOfEveryMethodThatUsersMayHave) {
  for (const char* hash :
       {"$y$j9T$T67J4rk..EbQTIFHxZuTD/$pSqHKmgfkGPFkNVvOrtiJAu3oi81BvOd.uaT2u7LD45",
        "$gy$j9T$J6RcTVTIWs3XZzDBdi9Pw0$P2c3uw4wegC3yDYCvfeeRF7ZnaENUHNQ810PQVaBCQ.",
        "$6$Ra1P.QVyV2pqdTUb$wfCasSF2RSD0ymFCp6hRk21JwqdAtVf1LyBMmlrgzKGqdllbXj1WXMplEhl9vkPBKnbjKWpuYn278ST4z09JU1",
        "$5$0KccVz2GqfhzTUDs$HgBzEUsNW/6PDRba0h08aRvKnBPWRxf4Jsp23AdbaKC",
        "$2b$05$hgtImJST/g7w.BrCTYrAteqPLEBiwD88V0r3huJWusiRuktOj195O",
        "$2y$05$QCuJkm1XbOjigm0eqDa7Iu926Dr1iqvHAn38N3EeckwXKM0bal5y6",
        "$7$CU..../....dyRdGlVO4L87hJQkQs6GY1$kW6rcd44rzVmBR3C8lQ7sM2DcpWPBqdK/LuzSdCB3JB"}) {
    EXPECT_TRUE(verify_crypt("pencil", hash)) << hash;
    EXPECT_FALSE(verify_crypt("Pencil", hash)) << hash;
    EXPECT_FALSE(verify_crypt("", hash)) << hash;
  }
}

TEST(VerifyCrypt, TakesNothingForABrokenHash) {
  for (const char* hash :
       {"", "*", "*0", "*1", "!", "x", "$", "$y$", "$y$j9T$", "$6$", "pencil", "SCRAM-SHA-256$4096:x$y:z", "$99$x$y"})
    for (const char* password : {"", "pencil", "*0", "*1"}) EXPECT_FALSE(verify_crypt(password, hash)) << hash;
}

TEST(VerifyCrypt, DoesNotStopAtANul) {
  const std::string hash = hash_password("pencil");
  EXPECT_TRUE(verify_crypt("pencil", hash));
  EXPECT_FALSE(verify_crypt("pencil\0x"s, hash));
  EXPECT_FALSE(verify_crypt("pencil", hash + "\0"s));
}

TEST(HashPassword, MakesYescryptThatUsersMayHave) {
  const std::string a = hash_password("p\xC3\xA4ss"), b = hash_password("p\xC3\xA4ss");
  EXPECT_TRUE(a.starts_with("$y$"));
  EXPECT_NE(a, b);
  EXPECT_TRUE(verify_crypt("p\xC3\xA4ss", a));
  config::Problems problems;
  EXPECT_TRUE(config::read_users("u:" + a, "users", {}, problems).find("u"));
  EXPECT_TRUE(problems.empty());
}

TEST(HashPassword, IsEmptyForWhatCouldNeverLogIn) {
  EXPECT_EQ(hash_password(""), "");
  EXPECT_EQ(hash_password("x\0y"s), "");
  EXPECT_EQ(hash_password(std::string(512, 'x')), "");
  const std::string longest = hash_password(std::string(511, 'x'));
  EXPECT_TRUE(verify_crypt(std::string(511, 'x'), longest));
  EXPECT_FALSE(verify_crypt(std::string(512, 'x'), longest));
}

TEST(HashScram, MakesASecretThatUsersMayHave) {
  const std::string text = hash_scram("pencil");
  const auto secret = smtp::parse_scram_secret(text);
  ASSERT_TRUE(secret) << text;
  EXPECT_EQ(secret->iterations, scram_iterations);
  EXPECT_EQ(secret->salt.size(), 16u);
  EXPECT_TRUE(smtp::verify_password(*secret, "pencil"));
  EXPECT_FALSE(smtp::verify_password(*secret, "pencil "));
  EXPECT_NE(hash_scram("pencil"), text);
}

TEST(HashScram, IsEmptyForWhatCouldNeverLogIn) {
  EXPECT_EQ(hash_scram(""), "");
  EXPECT_EQ(hash_scram("x\0y"s), "");
  EXPECT_EQ(hash_scram(std::string(1025, 'x')), "");
}

TEST(VerifyNothing, IsAlwaysFalse) {
  const std::string hash = hash_password("pencil");
  EXPECT_FALSE(verify_nothing("pencil"));
  EXPECT_FALSE(verify_nothing("pencil", hash));
  EXPECT_FALSE(verify_nothing("pencil", hash_scram("pencil")));
  EXPECT_FALSE(verify_nothing("", "*0"));
  EXPECT_FALSE(verify_nothing(std::string(5000, 'x'), "junk"));
}

TEST(VerifyNothing, TakesTheTimeOfAVerification) {
  const std::string yescrypt = hash_password("pencil"), scram = hash_scram("pencil");
  const auto secret = smtp::parse_scram_secret(scram).value();
  // The fastest of some runs: the machine may have other work.
  const auto time = [](auto&& work) {
    auto best = std::chrono::steady_clock::duration::max();
    for (int i = 0; i < 5; ++i) {
      const auto start = std::chrono::steady_clock::now();
      work();
      best = std::min(best, std::chrono::steady_clock::now() - start);
    }
    return std::chrono::duration<double>(best).count();
  };
  const auto alike = [](double a, double b) { return a < 4 * b && b < 4 * a; };
  EXPECT_TRUE(alike(time([&] { verify_crypt("wrong", yescrypt); }), time([] { verify_nothing("wrong"); })));
  EXPECT_TRUE(alike(time([&] { verify_crypt("wrong", yescrypt); }), time([&] { verify_nothing("wrong", yescrypt); })));
  EXPECT_TRUE(alike(time([&] { smtp::verify_password(secret, "wrong"); }), time([&] { verify_nothing("wrong", scram); })));
}

}  // namespace
}  // namespace egret::relay
