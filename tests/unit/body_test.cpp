#include "smtp/body.hpp"

#include <gtest/gtest.h>

#include <random>

namespace egret::smtp {
namespace {

std::string outside_cuts(const Body& body, const std::vector<Cut>& cuts) {
  std::string out;
  std::uint64_t offset = 0;
  for (const std::string& chunk : body.chunks()) {
    without_cuts(chunk, offset, cuts, [&](std::string_view part) { out += part; });
    offset += chunk.size();
  }
  return out;
}

std::string outside_cuts(std::string_view piece, std::uint64_t offset, const std::vector<Cut>& cuts) {
  std::string out;
  without_cuts(piece, offset, cuts, [&](std::string_view part) { out += part; });
  return out;
}

std::string naive(const std::string& text, const std::vector<Cut>& cuts) {
  std::string out;
  for (std::uint64_t i = 0; i < text.size(); ++i) {
    bool cut = false;
    for (const Cut& c : cuts) cut = cut || (i >= c.offset && i < c.offset + c.length);
    if (!cut) out += text[i];
  }
  return out;
}

TEST(Body, IsEmptyAtFirst) {
  const Body body;
  EXPECT_TRUE(body.empty());
  EXPECT_EQ(body.size(), 0u);
  EXPECT_TRUE(body.chunks().empty());
}

TEST(Body, KeepsWhatIsAppended) {
  Body body;
  body.append("hello ");
  body.append("");
  body.append("world");
  EXPECT_EQ(body.flat(), "hello world");
  EXPECT_EQ(body.size(), 11u);
}

TEST(Body, OfASmallMessageIsOneChunk) {
  Body body;
  body.reserve(3000);
  for (int i = 0; i < 3000; ++i) body.append("x");
  EXPECT_EQ(body.chunks().size(), 1u);
}

TEST(Body, OfALargeMessageNeverMoves) {
  Body body;
  body.append("first");
  const char* before = body.chunks().front().data();
  for (int i = 0; i < 1000; ++i) body.append(std::string(1000, 'x'));
  EXPECT_EQ(body.chunks().front().data(), before);
  EXPECT_EQ(body.size(), 1'000'005u);
}

TEST(Body, ChunksAreBounded) {
  Body body;
  body.reserve(1u << 30);
  body.append(std::string(1'000'000, 'x'));
  for (const std::string& chunk : body.chunks()) EXPECT_LE(chunk.size(), Body::max_chunk);
}

TEST(Body, CountsOnAfterItsChunksAreHandedOut) {
  Body body;
  body.append("abc");
  EXPECT_EQ(body.release_chunks(), std::vector<std::string>{"abc"});
  body.append("de");
  EXPECT_EQ(body.size(), 5u);
  EXPECT_EQ(body.flat(), "de");
}

TEST(Cuts, LeaveOutTheirRange) {
  EXPECT_EQ(outside_cuts("0123456789", 0, {{2, 3}, {7, 1}}),
            "0156"
            "89");
}

TEST(Cuts, AreCountedFromTheStartOfTheBody) {
  EXPECT_EQ(outside_cuts("0123456789", 100, {{0, 5}, {102, 3}, {109, 50}, {300, 1}}), "015678");
}

TEST(Cuts, MayBeginBeforeAndEndBehindAPiece) {
  EXPECT_EQ(outside_cuts("0123", 10, {{5, 7}}), "23");
  EXPECT_EQ(outside_cuts("0123", 10, {{12, 9}}), "01");
  EXPECT_EQ(outside_cuts("0123", 10, {{0, 50}}), "");
}

TEST(Cuts, ThatTouchAreOne) {
  EXPECT_EQ(outside_cuts("0123456789", 0, {{2, 2}, {4, 2}}), "016789");
}

TEST(Cuts, NeverEmitAnEmptyPart) {
  for (const auto& cuts : {std::vector<Cut>{{0, 4}}, {{0, 2}}, {{2, 2}}, {}})
    without_cuts("0123", 0, cuts, [](std::string_view part) { EXPECT_FALSE(part.empty()); });
  without_cuts("", 7, {}, [](std::string_view) { ADD_FAILURE(); });
}

TEST(CutsProperty, AgreeWithTheNaiveModelOverChunkBorders) {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    Body body;
    std::string text;
    while (text.size() < 200'000) {
      const std::string piece(1 + random() % 30'000, static_cast<char>('a' + random() % 26));
      body.append(piece);
      text += piece;
    }
    std::vector<Cut> cuts;
    for (std::uint64_t at = random() % 3000; at < text.size(); at += random() % 60'000) {
      cuts.push_back({at, static_cast<std::uint32_t>(random() % 70'000 + 1)});
      at += cuts.back().length;
    }
    ASSERT_EQ(body.flat(), text);
    ASSERT_EQ(outside_cuts(body, cuts), naive(text, cuts)) << round;
  }
}

TEST(CutsProperty, AgreeWithTheNaiveModelOnTinyPieces) {
  std::mt19937 random(5);
  const std::string text = "abcdefghijklmnopqrstuvwxyz";
  for (int round = 0; round < 20'000; ++round) {
    std::vector<Cut> cuts;
    for (std::uint64_t at = random() % 6; at < 30; at += 1 + random() % 6) {
      cuts.push_back({at, static_cast<std::uint32_t>(random() % 5)});
      at += cuts.back().length;
    }
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t n = 1 + random() % 5;
      out += outside_cuts(std::string_view(text).substr(at, n), at, cuts);
      at += n;
    }
    ASSERT_EQ(out, naive(text, cuts)) << round;
  }
}

TEST(AsSent, PutsWhatIsAddedOnceAtTheEndOfTheHeaderInEveryChunking) {
  const std::string stored = "A: 1\r\nB: 2\r\n\r\nbody\r\n";
  const std::vector<Cut> cuts{{0, 6}};
  for (std::size_t step = 1; step <= stored.size(); ++step) {
    std::string sent;
    for (std::size_t at = 0; at < stored.size(); at += step)
      as_sent(std::string_view(stored).substr(at, step), at, cuts, 12, "C: 3\r\n", [&](std::string_view part) { sent += part; });
    EXPECT_EQ(sent, "B: 2\r\nC: 3\r\n\r\nbody\r\n") << step;
  }
}

TEST(AsSent, AddsToAMessageThatIsAllHeaderOrHasNone) {
  for (const std::uint64_t header_end : {std::uint64_t{0}, std::uint64_t{6}}) {
    std::string sent;
    as_sent("A: 1\r\n", 0, {}, header_end, "C: 3\r\n", [&](std::string_view part) { sent += part; });
    EXPECT_EQ(sent, header_end ? "A: 1\r\nC: 3\r\n" : "C: 3\r\nA: 1\r\n");
  }
}

}  // namespace
}  // namespace egret::smtp
