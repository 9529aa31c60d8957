#include "config/users.hpp"

#include <gtest/gtest.h>

#include <array>

namespace egret::config {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;

const std::string yescrypt = "$y$j9T$T67J4rk..EbQTIFHxZuTD/$pSqHKmgfkGPFkNVvOrtiJAu3oi81BvOd.uaT2u7LD45";
const std::string scram =
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
// One of each method that is taken.
const std::array<std::string, 7> good_hashes{
    yescrypt,
    "$gy$j9T$J6RcTVTIWs3XZzDBdi9Pw0$P2c3uw4wegC3yDYCvfeeRF7ZnaENUHNQ810PQVaBCQ.",
    "$6$Ra1P.QVyV2pqdTUb$wfCasSF2RSD0ymFCp6hRk21JwqdAtVf1LyBMmlrgzKGqdllbXj1WXMplEhl9vkPBKnbjKWpuYn278ST4z09JU1",
    "$5$rounds=6000$0KccVz2GqfhzTUDs$HgBzEUsNW/6PDRba0h08aRvKnBPWRxf4Jsp23AdbaKC",
    "$2b$05$hgtImJST/g7w.BrCTYrAteqPLEBiwD88V0r3huJWusiRuktOj195O",
    "$2y$05$QCuJkm1XbOjigm0eqDa7Iu926Dr1iqvHAn38N3EeckwXKM0bal5y6",
    "$7$CU..../....dyRdGlVO4L87hJQkQs6GY1$kW6rcd44rzVmBR3C8lQ7sM2DcpWPBqdK/LuzSdCB3JB"};

/// A file without problems.
Users good(std::string_view text) {
  Problems problems;
  Users users = read_users(text, "users", {"bulk", "transactional"}, problems);
  for (const Problem& problem : problems) ADD_FAILURE() << problem.to_string();
  return users;
}

/// All problems of a file, one a line.
std::string bad(std::string_view text) {
  Problems problems;
  read_users(text, "users", {"bulk", "transactional"}, problems);
  std::string out;
  for (const Problem& problem : problems) out += problem.to_string() + "\n";
  return out;
}

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

TEST(Users, HaveNameAndHash) {
  const Users users = good("alice:" + yescrypt + "\n");
  ASSERT_TRUE(users.find("alice"));
  EXPECT_EQ(users.find("alice")->name, "alice");
  EXPECT_EQ(users.find("alice")->crypt_hash, yescrypt);
  EXPECT_FALSE(users.find("alice")->scram);
  EXPECT_EQ(users.find("alice")->class_name, "");
  EXPECT_FALSE(users.find("alice")->rate);
}

TEST(Users, AreFoundByTheExactName) {
  const Users users = good("alice:" + yescrypt + "\nAlice@b.example:" + yescrypt);
  EXPECT_EQ(users.size(), 2u);
  for (const char* name : {"", "Alice", "alic", "alice ", "alice@b.example"}) EXPECT_FALSE(users.find(name)) << name;
  EXPECT_TRUE(users.find("Alice@b.example"));
}

TEST(Users, HaveClassAndRateInAnyOrder) {
  const Users users = good("a:" + yescrypt + ":class=bulk:rate=500/h\nb:" + scram + ":rate=9/s:class=transactional");
  EXPECT_EQ(users.find("a")->class_name, "bulk");
  EXPECT_EQ(users.find("a")->rate->recipients, 500u);
  EXPECT_EQ(users.find("a")->rate->per, routing::Duration(1h));
  EXPECT_EQ(users.find("b")->class_name, "transactional");
  EXPECT_EQ(users.find("b")->rate->recipients, 9u);
}

TEST(Users, HaveScramSecretsWithTheirColons) {
  const Users users = good("a:" + scram + "\nb:" + scram + ":class=bulk\n");
  for (const char* name : {"a", "b"}) {
    ASSERT_TRUE(users.find(name)->scram);
    EXPECT_EQ(smtp::to_string(*users.find(name)->scram), scram);
    EXPECT_EQ(users.find(name)->crypt_hash, "");
  }
  EXPECT_EQ(users.find("b")->class_name, "bulk");
}

TEST(Users, HaveHashesOfEveryStrongMethod) {
  for (const auto& hash : good_hashes) EXPECT_EQ(good("a:" + hash).size(), 1u);
}

TEST(Users, MayHaveCommentsBlankLinesAndWindowsLineEnds) {
  const Users users = good("\xEF\xBB\xBF# users\r\n\r\n  \t\r\n  # more\r\n  alice:" + yescrypt + "  \r\n#bob:x");
  EXPECT_EQ(users.size(), 1u);
  EXPECT_EQ(users.find("alice")->crypt_hash, yescrypt);
  EXPECT_EQ(good("").size(), 0u);
}

TEST(Users, AreReportedWithLineAndColumn) {
  EXPECT_EQ(bad("# x\n alice:" + yescrypt + ":class=none\n"), "users:2:82: alice: no class has this name\n");
  EXPECT_EQ(bad("\nalice\n"), "users:2:1: expected name:HASH[:class=NAME][:rate=500/h]\n");
}

TEST(Users, AreAllReported) {
  const std::string problems = bad("a\nb:x\n:" + yescrypt + "\nc:" + yescrypt + ":x=y\nd:" + yescrypt + "\nd:" + yescrypt + "\n");
  for (const char* place : {"users:1:1: ", "users:2:3: ", "users:3:1: ", "users:4:", "users:6:1: d: there is a user"})
    EXPECT_TRUE(has(problems, place)) << place << "\n" << problems;
  EXPECT_EQ(std::count(problems.begin(), problems.end(), '\n'), 5);
}

TEST(Users, HaveOnlyKnownAttributesOnceEach) {
  for (const char* attribute : {"", "x", "class", "Class=bulk", "class=", "class=Bulk", "rate=", "rate=500", "rate=0/h",
                                "rate=500/w", "class=bulk:class=bulk", "rate=1/h:rate=1/h", "class=bulk:", " class=bulk"})
    EXPECT_TRUE(has(bad("a:" + yescrypt + ":" + attribute), ": a: ")) << attribute;
}

TEST(Users, HaveNamesThatCanLogIn) {
  for (const auto& name : {""s, std::string(256, 'n'), "a "s, "a\tb"s, "a\0b"s, "a\x7F"s, "a\xFF"s})
    EXPECT_TRUE(has(bad("x:" + yescrypt + "\n" + name + ":" + yescrypt), "users:2:1: a name has")) << name;
  EXPECT_EQ(good(std::string(255, 'n') + ":" + yescrypt).size(), 1u);
  EXPECT_TRUE(good("J\xC3\xB6rg M:" + yescrypt).find("J\xC3\xB6rg M"));
}

TEST(Users, HaveNoWeakHashes) {
  EXPECT_TRUE(has(bad("a:hunter2"), "plain text and DES are refused"));
  EXPECT_TRUE(has(bad("a:{PLAIN}hunter2"), "plain text"));
  EXPECT_TRUE(has(bad("a:rl0uE0wM8VMdA"), "DES"));
  EXPECT_TRUE(has(bad("a:_J9..rasmBYk8r9AiWNc"), "DES"));
  EXPECT_TRUE(has(bad("a:$1$abcdefgh$irWbblnpmw.5z7wgBnprh0"), "MD5"));
  EXPECT_TRUE(has(bad("a:$apr1$abcdefgh$irWbblnpmw.5z7wgBnprh0"), "MD5"));
  EXPECT_TRUE(has(bad("a:$2a$05$hgtImJST/g7w.BrCTYrAteqPLEBiwD88V0r3huJWusiRuktOj195O"), "this kind of hash"));
  EXPECT_TRUE(has(bad("a:$argon2id$v=19$m=65536$x$y"), "this kind of hash"));
  EXPECT_TRUE(has(bad("a:!" + yescrypt), "locked"));
  EXPECT_TRUE(has(bad("a:*"), "locked"));
  EXPECT_TRUE(has(bad("a:"), "missing"));
  EXPECT_TRUE(has(bad("a::class=bulk"), "missing"));
  EXPECT_TRUE(has(bad("a: " + yescrypt), "not a hash"));
}

TEST(Users, HaveWholeHashes) {
  for (const auto& hash : good_hashes) {
    for (std::size_t n = 1; n < hash.size(); ++n) EXPECT_NE(bad("a:" + hash.substr(0, n)), "") << hash.substr(0, n);
    EXPECT_TRUE(has(bad("a:" + hash + "x"), "damaged")) << hash;
    EXPECT_TRUE(has(bad("a:" + hash.substr(0, 10) + " " + hash.substr(11)), "damaged")) << hash;
  }
  for (const char* hash :
       {"$6$$wfCasSF2RSD0ymFCp6hRk21JwqdAtVf1LyBMmlrgzKGqdllbXj1WXMplEhl9vkPBKnbjKWpuYn278ST4z09JU1",
        "$y$j9T$$pSqHKmgfkGPFkNVvOrtiJAu3oi81BvOd.uaT2u7LD45", "$y$j9T$pSqHKmgfkGPFkNVvOrtiJAu3oi81BvOd.uaT2u7LD45",
        "$2b$5$hgtImJST/g7w.BrCTYrAteqPLEBiwD88V0r3huJWusiRuktOj195O"})
    EXPECT_TRUE(has(bad("a:"s + hash), "damaged")) << hash;
  for (std::size_t n = 14; n < scram.size(); ++n) EXPECT_TRUE(has(bad("a:" + scram.substr(0, n)), "expected SCRAM")) << n;
}

TEST(Users, AreNeverShownWithTheirHashes) {
  for (const std::string& hash :
       {"hunter2"s, "$1$hunter2$x"s, "$y$hunter2"s, "SCRAM-SHA-256$1:hunter2$x:y"s, "!hunter2"s, "$9$hunter2"s})
    for (const std::string& line :
         {"a:" + hash, hash + ":a", hash, "a:" + hash + ":class=bulk", "a:" + yescrypt + ":" + hash,
          "a:" + yescrypt + ":class=" + hash, "a:" + yescrypt + ":rate=" + hash, hash + "\t:" + yescrypt}) {
      const std::string problems = bad(line);
      EXPECT_NE(problems, "") << line;
      EXPECT_FALSE(has(problems, "hunter2")) << problems;
      EXPECT_FALSE(has(problems, "T67J4rk")) << problems;
    }
}

TEST(Users, AreAtMostAHundredThousand) {
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += std::to_string(i) + ":" + yescrypt + "\n";
  EXPECT_EQ(good(text).size(), 100'000u);
  EXPECT_EQ(bad(text + "# the end\n"), "");
  EXPECT_EQ(bad(text + "x:" + yescrypt + "\ny:" + yescrypt), "users:100001:1: more than 100000 users\n");
}

TEST(Users, FitIntoSixteenMegabytes) {
  EXPECT_EQ(bad(std::string(16 << 20, '\n')), "");
  EXPECT_EQ(bad(std::string((16 << 20) + 1, '\n')), "users: the file is larger than 16 MB\n");
}

TEST(Users, AreReportedAHundredTimesAtMost) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "x\n";
  const std::string problems = bad(text);
  EXPECT_EQ(std::count(problems.begin(), problems.end(), '\n'), 101);
  EXPECT_TRUE(problems.ends_with("users:101:1: more problems are not shown\n"));
}

TEST(Users, TellWhatStrangersShouldLookLike) {
  EXPECT_EQ(good("").scram_iterations(), 0);
  EXPECT_EQ(good("a:" + yescrypt).scram_iterations(), 0);
  std::string more = scram;
  more.replace(14, 4, "9000");
  EXPECT_EQ(good("a:" + scram + "\nb:" + more + "\nc:" + more).scram_iterations(), 9000);
  EXPECT_EQ(good("").model_hash(), "");
  EXPECT_EQ(good("a:" + scram).model_hash(), scram);
  EXPECT_EQ(good("a:" + yescrypt).model_hash(), yescrypt);
}

}  // namespace
}  // namespace egret::config
