#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "relay/spool/spool.hpp"

namespace egret::relay::spool {
namespace {

/// A directory that goes with the test.
struct Directory {
  ~Directory() { std::filesystem::remove_all(path); }
  const std::filesystem::path path =
      std::filesystem::path(testing::TempDir()) / ("egret-spool-start-test-" + std::to_string(::getpid()));
};

/// Starts on it, takes one more message and ends; returns how many waited.
int live(const Directory& directory, std::uint64_t id, const std::function<void()>& alive) {
  Options options;
  options.directory = directory.path;
  options.reserve = 0;
  options.alive = alive;
  int waited = 0;
  Spool spool(options, [&](const Recovered&) { ++waited; });
  auto message = std::make_shared<Message>();
  message->id = smtp::MessageId{id};
  message->class_name = "transactional";
  message->sender = {"app", "sender.test"};
  message->recipients = {{"user", "shop.test"}};
  message->tail = {"Subject: x\r\n\r\ny\r\n"};
  message->body_size = message->tail.front().size();
  spool.accept_internal(message);
  return waited;
}

TEST(SpoolStart, ShowsThatItGoesOnAtEverySegment) {
  const Directory directory;
  for (std::uint64_t id = 1; id <= 5; ++id) live(directory, id, {});
  int signs = 0;
  EXPECT_EQ(live(directory, 6, [&] { ++signs; }), 5);
  EXPECT_GE(signs, 5);
}

}  // namespace
}  // namespace egret::relay::spool
