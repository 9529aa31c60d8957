#include "relay/delivery/closed.hpp"

#include <gtest/gtest.h>

namespace egret::relay {
namespace {

using namespace std::chrono_literals;

AttemptResult met(const std::string& text) {
  AttemptResult out;
  out.text = text;
  return out;
}

TEST(Closed, TellsWhatWasMetUntilTheTimeIsOver) {
  Closed<int> closed;
  const Deadline start{1h};
  closed.note(7, met("put off"), start, start + 1s);
  ASSERT_NE(closed.find(7, start + 999ms), nullptr);
  EXPECT_EQ(closed.find(7, start + 999ms)->text, "put off");
  EXPECT_EQ(closed.find(8, start), nullptr);
  EXPECT_EQ(closed.find(7, start + 1s), nullptr);
  EXPECT_EQ(closed.size(), 0u);
}

TEST(Closed, StaysBounded) {
  Closed<int> closed;
  const Deadline start{1h};
  for (int i = 0; i < 25'000; ++i) closed.note(i, met(""), start, start + 1s);
  EXPECT_LE(closed.size(), Closed<int>::most);
  EXPECT_NE(closed.find(24'999, start), nullptr);
}

}  // namespace
}  // namespace egret::relay
