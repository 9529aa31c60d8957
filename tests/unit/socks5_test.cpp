#include "smtp/socks5.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace egret::smtp {
namespace {

using namespace std::string_literals;
using Action = Socks5Client::Action;

const std::string method_none = "\x05\x00"s;
const std::string method_login = "\x05\x02"s;
const std::string login_ok = "\x01\x00"s;
const std::string reply_v4 = "\x05\x00\x00\x01\x0A\x00\x00\x01\x12\x34"s;
const std::string reply_v6 = "\x05\x00\x00\x04"s + std::string(16, '\x01') + "\x12\x34";
const std::string reply_name = "\x05\x00\x00\x03\x05proxy\x12\x34"s;
const Socks5Login login{"user", "secret"};

Socks5Client plain() {
  return Socks5Client("192.0.2.1", 25);
}

/// Feeds `octets` and gives how many of them were left.
std::size_t feed(Socks5Client& client, std::string_view octets) {
  client.on_bytes(octets);
  return octets.size();
}

/// A client that has sent its request and gets REP `code`.
Socks5Client refused(int code) {
  Socks5Client client = plain();
  feed(client, method_none + "\x05" + static_cast<char>(code));
  return client;
}

TEST(Socks5, AsksForAnIpv4Address) {
  Socks5Client client = plain();
  EXPECT_EQ(client.output(), "\x05\x01\x00"s);
  client.output().clear();
  feed(client, method_none);
  EXPECT_EQ(client.action(), Action::read);
  EXPECT_EQ(client.output(), "\x05\x01\x00\x01\xC0\x00\x02\x01\x00\x19"s);
}

TEST(Socks5, AsksForAnIpv6Address) {
  Socks5Client client("2001:db8::1", 587);
  client.output().clear();
  feed(client, method_none);
  EXPECT_EQ(client.output(), "\x05\x01\x00\x04\x20\x01\x0d\xb8"s + std::string(11, '\0') + "\x01\x02\x4B"s);
}

TEST(Socks5, LogsInWhenItHasALogin) {
  Socks5Client client("192.0.2.1", 25, login);
  EXPECT_EQ(client.output(), "\x05\x01\x02"s);
  client.output().clear();
  feed(client, method_login);
  EXPECT_EQ(client.output(), "\x01\x04user\x06secret"s);
  client.output().clear();
  feed(client, login_ok);
  EXPECT_EQ(client.output(), "\x05\x01\x00\x01\xC0\x00\x02\x01\x00\x19"s);
}

TEST(Socks5, ConnectsAndLeavesWhatFollowsTheReply) {
  for (const std::string& reply : {reply_v4, reply_v6, reply_name, "\x05\x00\x00\x03\x00\x12\x34"s}) {
    Socks5Client client = plain();
    EXPECT_EQ(feed(client, method_none + reply + "220 mx\r\n"), 8u);
    EXPECT_EQ(client.action(), Action::connected);
    EXPECT_EQ(client.failure(), "");
    EXPECT_EQ(feed(client, "220 again\r\n"), 11u);
  }
}

TEST(Socks5, ConnectsWhateverTheChunks) {
  for (const std::string& reply : {reply_v4, reply_v6, reply_name}) {
    const std::string all = method_login + login_ok + reply + "220 mx";
    const std::size_t end = all.size() - 6;
    for (std::size_t first = 0; first <= all.size(); ++first) {
      for (std::size_t second = first; second <= all.size(); ++second) {
        Socks5Client client("::1", 25, login);
        std::string left;
        for (const auto& [from, to] : {std::pair{std::size_t{0}, first}, {first, second}, {second, all.size()}}) {
          std::string_view in = std::string_view(all).substr(from, to - from);
          EXPECT_EQ(client.on_bytes(in), to >= end ? Action::connected : Action::read);
          left += in;
        }
        ASSERT_EQ(left, "220 mx") << first << ' ' << second;
      }
    }
  }
}

TEST(Socks5, BlamesTheDestinationForWhatLiesBehindTheProxy) {
  EXPECT_EQ(refused(4).failure(), "proxy refused the connection: host unreachable (4)");
  EXPECT_EQ(refused(5).failure(), "proxy refused the connection: connection refused (5)");
  for (const int code : {3, 4, 5, 6}) {
    EXPECT_EQ(refused(code).action(), Action::failed) << code;
    EXPECT_FALSE(refused(code).proxy_fault()) << code;
  }
}

TEST(Socks5, BlamesTheProxyForAllOtherRefusals) {
  EXPECT_EQ(refused(1).failure(), "proxy refused the connection: general failure (1)");
  EXPECT_EQ(refused(9).failure(), "proxy refused the connection: unknown reason (9)");
  for (int code = 1; code < 256; ++code) {
    EXPECT_EQ(refused(code).action(), Action::failed) << code;
    EXPECT_EQ(refused(code).proxy_fault(), code < 3 || code > 6) << code;
  }
}

TEST(Socks5, BlamesTheProxyForRefusedLogins) {
  Socks5Client wants = plain(), refuses("::1", 25, login), wrong("::1", 25, login);
  feed(wants, "\x05\xFF");
  feed(refuses, "\x05\xFF");
  feed(wrong, method_login + "\x01\x01");
  EXPECT_EQ(wants.failure(), "proxy wants a login and none is configured");
  EXPECT_EQ(refuses.failure(), "proxy does not take a user name and password");
  EXPECT_EQ(wrong.failure(), "proxy refused the user name or password (1)");
  EXPECT_TRUE(wants.proxy_fault() && refuses.proxy_fault() && wrong.proxy_fault());
}

TEST(Socks5, InsistsOnItsLogin) {
  Socks5Client with("::1", 25, login), without = plain();
  with.output().clear();
  feed(with, method_none);
  feed(without, method_login);
  EXPECT_EQ(with.failure(), "proxy chose a login method that was not offered (0)");
  EXPECT_EQ(without.failure(), "proxy chose a login method that was not offered (2)");
  EXPECT_EQ(with.output(), "");
}

TEST(Socks5, BlamesTheProxyForNonsense) {
  for (const std::string& answer :
       {"HTTP/1.1 400\r\n"s, "\x04\x00"s, "\x05\x01"s, method_none + "\x04\x00"s, method_none + "\x05\x00\x00\x02"s,
        method_none + "\x05\x00\x00\x00"s, "220 mx.example ESMTP\r\n"s}) {
    Socks5Client client = plain();
    feed(client, answer);
    EXPECT_EQ(client.action(), Action::failed);
    EXPECT_TRUE(client.proxy_fault());
  }
}

TEST(Socks5, ToleratesAWrongVersionInTheLoginAnswer) {
  Socks5Client client("::1", 25, login);
  feed(client, method_login + "\x05\x00"s + reply_v4);
  EXPECT_EQ(client.action(), Action::connected);
}

TEST(Socks5, StaysFailed) {
  Socks5Client client = refused(1);
  EXPECT_EQ(feed(client, method_none), 2u);
  EXPECT_EQ(client.action(), Action::failed);
}

TEST(Socks5, FailsAtOnceWithoutAnAddress) {
  for (const auto& address : {"mx.example"s, ""s, "1.2.3"s, "[::1]"s, "192.0.2.1\0x"s, std::string(300, '1')}) {
    Socks5Client client(address, 25);
    EXPECT_EQ(client.action(), Action::failed);
    EXPECT_EQ(client.output(), "");
    EXPECT_FALSE(client.proxy_fault());
  }
}

TEST(Socks5, BoundsUserAndPassword) {
  EXPECT_EQ(Socks5Client("::1", 25, Socks5Login{"", "x"}).action(), Action::failed);
  EXPECT_EQ(Socks5Client("::1", 25, Socks5Login{std::string(256, 'u'), "x"}).action(), Action::failed);
  EXPECT_TRUE(Socks5Client("::1", 25, Socks5Login{"u", std::string(256, 'p')}).proxy_fault());
  Socks5Client longest("::1", 25, Socks5Login{std::string(255, 'u'), std::string(255, 'p')});
  longest.output().clear();
  feed(longest, method_login);
  EXPECT_EQ(longest.output(), "\x01\xFF" + std::string(255, 'u') + "\xFF" + std::string(255, 'p'));
}

TEST(Socks5, ReadsABoundedDialogFromNoise) {
  std::mt19937 random(3);
  for (int round = 0; round < 5000; ++round) {
    std::string noise = method_login + login_ok + "\x05\x00\x00"s;
    while (noise.size() < 400) noise += static_cast<char>(random() % (round % 2 ? 256 : 5));
    Socks5Client client("::1", 25, login);
    feed(client, std::string_view(noise).substr(round % 8));
    EXPECT_NE(client.action(), Action::read);
    EXPECT_EQ(client.action() == Action::failed, !client.failure().empty());
  }
}

}  // namespace
}  // namespace egret::smtp
