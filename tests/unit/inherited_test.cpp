#include "relay/net/inherited.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <memory>
#include <set>
#include <stdexcept>

namespace egret::relay {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

const routing::IpAddress loopback = routing::IpAddress::v4(127, 0, 0, 1);

/// Listening sockets of one SO_REUSEPORT group.
struct Group {
  explicit Group(int count) {
    for (int i = 0; i < count; ++i) {
      tcp::acceptor acceptor(context, tcp::v4());
      const int on = 1;
      setsockopt(acceptor.native_handle(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
      acceptor.bind({asio::ip::address_v4::loopback(), port});
      acceptor.listen();
      port = acceptor.local_endpoint().port();
      descriptors.push_back(acceptor.release());
    }
  }
  asio::io_context context;
  std::uint16_t port = 0;
  std::vector<int> descriptors;
};

std::uint64_t cookie(int descriptor) {
  std::uint64_t out = 0;
  socklen_t size = sizeof out;
  getsockopt(descriptor, SOL_SOCKET, SO_COOKIE, &out, &size);
  return out;
}

/// By user, which sockets of the group it accepts from.
std::vector<std::set<std::uint64_t>> dealt(Group& group, std::size_t users) {
  InheritedSockets inherited(group.descriptors);
  std::vector<std::set<std::uint64_t>> out;
  for (std::size_t user = 0; user < users; ++user) {
    auto& mine = out.emplace_back();
    for (auto& acceptor : inherited.share(group.context.get_executor(), loopback, group.port, user, users))
      mine.insert(cookie(acceptor.native_handle()));
  }
  return out;
}

TEST(InheritedSockets, AreAllAcceptedFromByFewerUsers) {
  Group group(5);
  const auto got = dealt(group, 2);
  EXPECT_EQ(got[0].size(), 3u);
  EXPECT_EQ(got[1].size(), 2u);
  for (const auto one : got[0]) EXPECT_FALSE(got[1].contains(one));
}

TEST(InheritedSockets, AreSharedByMoreUsers) {
  Group group(2);
  const auto got = dealt(group, 3);
  for (const auto& mine : got) EXPECT_EQ(mine.size(), 1u);
  EXPECT_NE(got[0], got[1]);
  EXPECT_EQ(got[0], got[2]);
}

TEST(InheritedSockets, CountOnceWithSeveralDescriptors) {
  Group group(1);
  group.descriptors.push_back(dup(group.descriptors.front()));
  InheritedSockets inherited(group.descriptors);
  EXPECT_EQ(inherited.take(group.context.get_executor(), loopback, group.port).size(), 1u);
}

TEST(InheritedSockets, AreFoundByAddressAndPortOnly) {
  Group group(1);
  InheritedSockets inherited(group.descriptors);
  const auto executor = group.context.get_executor();
  EXPECT_FALSE(inherited.take(executor, loopback, group.port).empty());
  EXPECT_TRUE(inherited.take(executor, routing::IpAddress::v4(0, 0, 0, 0), group.port).empty());
  EXPECT_TRUE(inherited.take(executor, loopback, static_cast<std::uint16_t>(group.port + 1)).empty());
  EXPECT_TRUE(inherited.has_port(group.port));
  EXPECT_FALSE(inherited.has_port(static_cast<std::uint16_t>(group.port + 1)));
}

TEST(InheritedSockets, ThatNobodyWantsMakeRoomForOthersOnTheirPort) {
  Group unwanted(2), wanted(1);
  InheritedSockets inherited({unwanted.descriptors[0], wanted.descriptors[0], unwanted.descriptors[1]});
  const auto everywhere = [&] { tcp::acceptor(unwanted.context, {asio::ip::address_v4::any(), unwanted.port}); };
  EXPECT_THROW(everywhere(), boost::system::system_error);
  EXPECT_EQ(inherited.keep({{loopback, wanted.port}, {routing::IpAddress::v4(0, 0, 0, 0), unwanted.port}}),
            std::vector<std::string>{"127.0.0.1:" + std::to_string(unwanted.port)});
  EXPECT_NO_THROW(everywhere());
  EXPECT_FALSE(inherited.has_port(unwanted.port));
  EXPECT_FALSE(inherited.take(wanted.context.get_executor(), loopback, wanted.port).empty());
}

TEST(InheritedSockets, ThatDoNotListenAreRefused) {
  asio::io_context context;
  tcp::acceptor acceptor(context, {asio::ip::address_v4::loopback(), 0});
  tcp::socket connected(context);
  connected.connect(acceptor.local_endpoint());
  EXPECT_THROW(InheritedSockets({connected.release()}), std::runtime_error);
}

}  // namespace
}  // namespace egret::relay
