#include "relay/delivery/pass_through.hpp"

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <thread>

namespace egret::relay {
namespace {

using End = Settled::End;

Settled settled(End end, const char* reply) {
  return {end, smtp::parse_reply(reply), "mx.example.net", {}};
}

TEST(PassThroughAnswer, IsTheReceiversOwnWordsWhenAllAreDelivered) {
  const auto answer = answer_of({settled(End::delivered, "250-2.0.0 ok\n250 2.0.0 queued as 7")}, "ID");
  EXPECT_EQ(answer.code, 250);
  EXPECT_EQ(answer.text, "2.0.0 ok\n2.0.0 queued as 7");
  EXPECT_TRUE(answer.deferred.empty() && answer.failed.empty());
}

TEST(PassThroughAnswer, TakesTheRestOverWhenOneIsDelivered) {
  const auto answer = answer_of({settled(End::failed, "550 5.1.1 unknown"), settled(End::delivered, "250 2.0.0 ok"),
                                 settled(End::deferred, "451 4.3.0 later")},
                                "ID");
  EXPECT_EQ(answer.code, 250);
  EXPECT_EQ(answer.deferred, (std::vector<std::uint32_t>{2}));
  EXPECT_EQ(answer.failed, (std::vector<std::uint32_t>{0}));
  EXPECT_NE(answer.text.find("ID"), std::string::npos);
}

TEST(PassThroughAnswer, IsTemporaryWhenNothingIsDeliveredAndSomethingMayBe) {
  const auto answer = answer_of({settled(End::failed, "550 5.1.1 unknown"), settled(End::deferred, "452 4.2.2 full")}, "ID");
  EXPECT_EQ(answer.code, 452);
  EXPECT_EQ(answer.text, "4.2.2 full");
  EXPECT_TRUE(answer.deferred.empty() && answer.failed.empty());
}

TEST(PassThroughAnswer, IsTheFirstRefusalWhenAllAreRefused) {
  const auto answer = answer_of({settled(End::failed, "550 5.1.1 unknown"), settled(End::failed, "554 5.7.1 no")}, "ID");
  EXPECT_EQ(answer.code, 550);
  EXPECT_EQ(answer.text, "5.1.1 unknown");
}

TEST(PassThroughAnswer, NeverPassesOnThe421OfAnotherSession) {
  EXPECT_EQ(answer_of({settled(End::deferred, "421 4.7.0 closing")}, "ID").code, 451);
}

TEST(PassThroughAnswer, IsTemporaryWhenOnlyTheWaysOutWereRefused) {
  const auto answer = answer_of({settled(End::deferred, "554 5.7.1 your address is listed")}, "ID");
  EXPECT_EQ(answer.code, 451);
  EXPECT_TRUE(answer.text.starts_with("4.7.1 "));
}

TEST(PassThroughAnswer, HasWordsOfItsOwnForAReceiverWithoutAny) {
  EXPECT_EQ(answer_of({settled(End::failed, "550 ")}, "ID").text, "5.0.0 the receiver gave no reason");
  EXPECT_EQ(answer_of({settled(End::deferred, "450 ")}, "ID").text, "4.0.0 the receiver gave no reason");
}

TEST(PassThrough, WaitsForAllRecipientsFromAnyThread) {
  boost::asio::io_context context;
  PassThrough pass(context.get_executor(), 2);
  std::vector<Settled> results;
  boost::asio::co_spawn(
      context, [&]() -> boost::asio::awaitable<void> { results = co_await pass.wait(); }, [](std::exception_ptr) {});
  std::thread other([&] {
    pass.settle({1}, settled(End::delivered, "250 ok"));
    pass.settle({0}, settled(End::failed, "550 no"));
  });
  context.run();
  other.join();
  context.restart();
  context.run();
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0].end, End::failed);
  EXPECT_EQ(results[1].end, End::delivered);
}

TEST(PassThrough, KeepsTheFirstWordOnARecipient) {
  boost::asio::io_context context;
  PassThrough pass(context.get_executor(), 1);
  pass.settle({0}, settled(End::delivered, "250 ok"));
  pass.give_up("451 4.3.2 shutting down");
  std::vector<Settled> results;
  boost::asio::co_spawn(
      context, [&]() -> boost::asio::awaitable<void> { results = co_await pass.wait(); }, [](std::exception_ptr) {});
  context.run();
  EXPECT_EQ(results.at(0).end, End::delivered);
}

}  // namespace
}  // namespace egret::relay
