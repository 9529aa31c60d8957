#include "smtp/data_scanner.hpp"

#include <gtest/gtest.h>

#include <random>

namespace egret::smtp {
namespace {

using namespace std::string_literals;

struct Scanned {
  bool ended = false;
  DataProblem problem = DataProblem::none;
  std::string body, rest;
  std::vector<std::pair<std::string, std::string>> headers;
  std::vector<Cut> cuts;
  std::uint64_t header_end = 0;
  bool eight_bit = false;

  bool operator==(const Scanned&) const = default;
};

/// Plays the caller: each chunk arrives behind what the scanner left. Bit i of `cuts` ends a chunk before byte i + 1.
Scanned scan_at(std::string_view bytes, const DataLimits& limits, std::uint64_t cut_bits, std::string_view before = {}) {
  DataScanner scanner(limits);
  Body body;
  body.append(before);
  std::string buffer;
  Scanned out;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    buffer += bytes[i];
    if (i + 1 < bytes.size() && (i >= 63 || !(cut_bits >> i & 1))) continue;
    std::string_view in = buffer;
    out.ended = scanner.scan(in, body);
    buffer = in;
    if (!out.ended) continue;
    buffer += bytes.substr(i + 1);
    break;
  }
  out.problem = scanner.problem();
  out.body = body.flat().substr(before.size());
  out.rest = buffer;
  out.headers = scanner.headers();
  out.cuts = scanner.cuts();
  out.header_end = scanner.header_end();
  out.eight_bit = scanner.eight_bit();
  return out;
}

Scanned scan(std::string_view bytes, const DataLimits& limits = {}) {
  return scan_at(bytes, limits, 0);
}

/// One byte at a time, whatever the length.
Scanned scan_bytewise(std::string_view bytes, const DataLimits& limits) {
  DataScanner scanner(limits);
  Body body;
  std::string buffer;
  Scanned out;
  for (std::size_t i = 0; i < bytes.size() && !out.ended; ++i) {
    buffer += bytes[i];
    std::string_view in = buffer;
    out.ended = scanner.scan(in, body);
    buffer = in;
    if (out.ended) buffer += bytes.substr(i + 1);
  }
  return {out.ended,         scanner.problem(), body.flat(),          buffer,
          scanner.headers(), scanner.cuts(),    scanner.header_end(), scanner.eight_bit()};
}

DataLimits repairing() {
  DataLimits limits;
  limits.repair = true;
  return limits;
}

DataLimits wanting(std::vector<std::string> names) {
  DataLimits limits;
  limits.wanted = std::move(names);
  return limits;
}

DataLimits stripping(std::vector<std::string> globs) {
  DataLimits limits;
  limits.strip = std::move(globs);
  return limits;
}

/// The body as it is sent on: without what is cut.
std::string sent(const Scanned& scanned) {
  std::string out;
  without_cuts(scanned.body, 0, scanned.cuts, [&](std::string_view part) { out += part; });
  return out;
}

// ---- the end of data ---------------------------------------------------------------------------------------------

TEST(DataScanner, EndsAtTheDotLine) {
  const Scanned s = scan("Subject: x\r\n\r\nhello\r\n.\r\nQUIT\r\n");
  EXPECT_TRUE(s.ended);
  EXPECT_EQ(s.body, "Subject: x\r\n\r\nhello\r\n");
  EXPECT_EQ(s.rest, "QUIT\r\n");
  EXPECT_EQ(s.problem, DataProblem::none);
}

TEST(DataScanner, TakesAnEmptyMessage) {
  const Scanned s = scan(".\r\n");
  EXPECT_TRUE(s.ended);
  EXPECT_EQ(s.body, "");
  EXPECT_EQ(s.problem, DataProblem::none);
}

TEST(DataScanner, WaitsForTheWholeDotLine) {
  for (const auto text : {"", "a\r\n", "a\r\n.", "a\r\n.\r", "a\r\n..\r\n", "a."}) EXPECT_FALSE(scan(text).ended) << text;
}

TEST(DataScanner, KeepsDotStuffingAsItIs) {
  EXPECT_EQ(scan("\r\n..\r\n..a\r\n.\r\n").body, "\r\n..\r\n..a\r\n");
}

struct Smuggle {
  const char* name;
  std::string bytes;
  DataProblem problem;
};

std::ostream& operator<<(std::ostream& out, const Smuggle& s) {
  return out << s.name;
}

/// What other servers have taken for the end of data (facts B4; CVE-2023-51764, -51765, -51766 and their kin).
const std::vector<Smuggle> smuggles{
    {"LfDotLf", "\n.\n", DataProblem::bare_line_end},
    {"LfDotCr", "\n.\r", DataProblem::bare_line_end},
    {"CrDotLf", "\r.\n", DataProblem::bare_line_end},
    {"CrDotCr", "\r.\r", DataProblem::bare_line_end},
    {"LfDotCrLf", "\n.\r\n", DataProblem::bare_line_end},
    {"CrDotCrLf", "\r.\r\n", DataProblem::bare_line_end},
    {"CrLfDotLf", "\r\n.\n", DataProblem::bare_line_end},
    {"CrLfDotCr", "\r\n.\r", DataProblem::bare_line_end},
    {"CrLfDotCrCrLf", "\r\n.\r\r\n", DataProblem::bare_line_end},
    {"CrCrLfDotCrCrLf", "\r\r\n.\r\r\n", DataProblem::bare_line_end},
    {"LfCrDotLfCr", "\n\r.\n\r", DataProblem::bare_line_end},
    {"CrLfNulDotCrLf", "\r\n\0.\r\n"s, DataProblem::nul},
    {"CrLfDotNulCrLf", "\r\n.\0\r\n"s, DataProblem::nul},
    {"CrLfDotDotCrLf", "\r\n..\r\n", DataProblem::none},
    {"CrLfDotSpaceCrLf", "\r\n. \r\n", DataProblem::none},
    {"CrLfSpaceDotCrLf", "\r\n .\r\n", DataProblem::none},
};

class Smuggling : public testing::TestWithParam<Smuggle> {
 protected:
  std::string message() const { return "a" + GetParam().bytes + "b\r\n.\r\n"; }

  void every_chunking(const DataLimits& limits) const {
    const std::string bytes = message();
    const Scanned whole = scan(bytes, limits);
    for (std::uint64_t bits = 0; bits < 1u << (bytes.size() - 1); ++bits) ASSERT_EQ(scan_at(bytes, limits, bits), whole) << bits;
  }
};

TEST_P(Smuggling, DoesNotEndTheMessage) {
  const Scanned s = scan(message() + "MAIL FROM:<>\r\n");
  EXPECT_TRUE(s.ended);
  EXPECT_EQ(s.rest, "MAIL FROM:<>\r\n");
}

TEST_P(Smuggling, IsRefusedUnlessItIsHarmless) {
  EXPECT_EQ(scan(message()).problem, GetParam().problem);
}

TEST_P(Smuggling, IsJudgedTheSameInEveryChunking) {
  every_chunking({});
}

TEST_P(Smuggling, IsRepairedTheSameInEveryChunking) {
  every_chunking(repairing());
}

TEST_P(Smuggling, EndsARepairedMessageOnlyAtItsEndForTheNextServerToo) {
  const Scanned first = scan(message(), repairing());
  if (first.problem != DataProblem::none) return;
  const Scanned next = scan(first.body + ".\r\nX");
  EXPECT_EQ(next.problem, DataProblem::none);
  EXPECT_EQ(next.body, first.body);
  EXPECT_EQ(next.rest, "X");
}

INSTANTIATE_TEST_SUITE_P(Matrix, Smuggling, testing::ValuesIn(smuggles), [](const auto& p) { return std::string(p.param.name); });

TEST(DataRepair, StuffsADotBehindABareLineEnd) {
  EXPECT_EQ(scan("a\n.\r\n.\r\n", repairing()).body, "a\r\n..\r\n");
  EXPECT_EQ(scan("a\r.b\r\n.\r\n", repairing()).body, "a\r\n..b\r\n");
}

TEST(DataRepair, MakesEveryLineEndCrlf) {
  EXPECT_EQ(scan("a\rb\nc\r\r\n.\r\n", repairing()).body, "a\r\nb\r\nc\r\n\r\n");
}

TEST(DataRepair, StillRefusesNul) {
  EXPECT_EQ(scan("a\0\n.\r\n.\r\n"s, repairing()).problem, DataProblem::nul);
}

// ---- against a naive model ---------------------------------------------------------------------------------------

struct Model {
  DataProblem problem = DataProblem::none;
  std::string data;                  ///< as the client sent it, up to the dot line
  std::vector<std::string> content;  ///< lines, unstuffed
  bool lone_dot = false;             ///< CRLF "." and a bare line end: it ends nothing, and no RFC says what it is
};

/// RFC 5321 read literally: the first CRLF "." CRLF ends, the CRLF of the DATA command included.
Model naive(const std::string& bytes, bool repair) {
  Model out;
  out.data = bytes.substr(0, ("\r\n" + bytes).find("\r\n.\r\n"));
  for (std::size_t i = 0, line = 0; i < out.data.size() && out.problem == DataProblem::none; ++i) {
    if (out.data[i] != '\n') continue;
    const std::string text = out.data.substr(line, i - line);
    const bool crlf = !text.empty() && text.back() == '\r';
    if (text.find('\0') != std::string::npos) {
      out.problem = DataProblem::nul;
    } else if (!repair && (!crlf || text.find('\r') != text.size() - 1)) {
      out.problem = DataProblem::bare_line_end;
    }
    line = i + 1;
  }
  std::string text;
  bool after_crlf = true;
  for (std::size_t i = 0; i < out.data.size(); ++i) {
    const char c = out.data[i];
    if (c != '\r' && c != '\n') {
      text += c;
      continue;
    }
    const bool crlf = c == '\r' && i + 1 < out.data.size() && out.data[i + 1] == '\n';
    // Behind a true CRLF the client stuffed its dots; behind a bare line end only a double dot can be meant so.
    out.lone_dot = out.lone_dot || (after_crlf && text == ".");
    if (text.starts_with(after_crlf ? "." : "..")) text.erase(0, 1);
    out.content.push_back(std::move(text));
    text.clear();
    after_crlf = crlf;
    i += crlf;
  }
  return out;
}

std::vector<std::string> unstuffed_lines(std::string_view wire) {
  std::vector<std::string> out;
  while (!wire.empty()) {
    const std::size_t end = wire.find("\r\n");
    std::string_view line = wire.substr(0, end);
    if (line.starts_with('.')) line.remove_prefix(1);
    out.emplace_back(line);
    wire.remove_prefix(end == std::string_view::npos ? wire.size() : end + 2);
  }
  return out;
}

bool has_bare_line_end(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r' && (i + 1 == text.size() || text[i + 1] != '\n')) return true;
    if (text[i] == '\n' && (i == 0 || text[i - 1] != '\r')) return true;
  }
  return false;
}

/// Random bytes from the alphabet that matters, half of them CR LF pairs; always with an end of data somewhere.
class RandomMessages {
 public:
  std::string next() {
    static constexpr std::string_view alphabet("\r\n.a\0:", 6);
    std::string out;
    for (std::size_t n = random_() % 24; n > 0; --n) {
      if (random_() % 3 == 0) {
        out += "\r\n";
      } else {
        const char c = alphabet[random_() % alphabet.size()];
        if (c != '\0' || random_() % 4 == 0) out += c;
      }
    }
    return out + "\r\n.\r\nrest";
  }
  std::uint64_t bits() { return random_(); }

 private:
  std::mt19937_64 random_{20261122};
};

constexpr int rounds = 100'000;

TEST(DataScannerProperty, EndsWhereTheNaiveModelEnds) {
  RandomMessages messages;
  for (int i = 0; i < rounds; ++i) {
    const std::string bytes = messages.next();
    const Scanned s = scan(bytes);
    ASSERT_TRUE(s.ended) << testing::PrintToString(bytes);
    ASSERT_EQ(bytes.size() - s.rest.size(), naive(bytes, false).data.size() + 3) << testing::PrintToString(bytes);
  }
}

TEST(DataScannerProperty, RefusesExactlyWhatTheNaiveModelRefuses) {
  RandomMessages messages;
  for (int i = 0; i < rounds; ++i) {
    const std::string bytes = messages.next();
    ASSERT_EQ(scan(bytes).problem, naive(bytes, false).problem) << testing::PrintToString(bytes);
    ASSERT_EQ(scan(bytes, repairing()).problem, naive(bytes, true).problem) << testing::PrintToString(bytes);
  }
}

TEST(DataScannerProperty, StoresAcceptedDataOctetForOctet) {
  RandomMessages messages;
  for (int i = 0; i < rounds; ++i) {
    const std::string bytes = messages.next();
    const Scanned s = scan(bytes);
    if (s.problem != DataProblem::none) continue;
    ASSERT_EQ(s.body, naive(bytes, false).data) << testing::PrintToString(bytes);
    ASSERT_FALSE(has_bare_line_end(s.body)) << testing::PrintToString(bytes);
  }
}

TEST(DataScannerProperty, RepairKeepsTheContentOfEveryLine) {
  RandomMessages messages;
  for (int i = 0; i < rounds; ++i) {
    const std::string bytes = messages.next();
    const Scanned s = scan(bytes, repairing());
    const Model model = naive(bytes, true);
    if (s.problem != DataProblem::none || model.lone_dot) continue;
    ASSERT_EQ(unstuffed_lines(s.body), model.content) << testing::PrintToString(bytes);
  }
}

TEST(DataScannerProperty, RepairedDataIsCanonicalForTheNextServer) {
  RandomMessages messages;
  for (int i = 0; i < rounds; ++i) {
    const std::string bytes = messages.next();
    const Scanned s = scan(bytes, repairing());
    if (s.problem != DataProblem::none) continue;
    ASSERT_FALSE(has_bare_line_end(s.body)) << testing::PrintToString(bytes);
    const Scanned again = scan(s.body + ".\r\n");
    ASSERT_TRUE(again.ended && again.rest.empty() && again.problem == DataProblem::none) << testing::PrintToString(bytes);
    ASSERT_EQ(again.body, s.body) << testing::PrintToString(bytes);
  }
}

TEST(DataScannerProperty, ChunkingChangesNothing) {
  RandomMessages messages;
  for (int i = 0; i < rounds; ++i) {
    const std::string bytes = messages.next();
    const std::uint64_t bits = messages.bits();
    for (const DataLimits& limits : {DataLimits{}, repairing()}) {
      const Scanned whole = scan(bytes, limits);
      ASSERT_EQ(scan_at(bytes, limits, bits), whole) << testing::PrintToString(bytes);
      ASSERT_EQ(scan_bytewise(bytes, limits), whole) << testing::PrintToString(bytes);
    }
  }
}

// ---- header fields -----------------------------------------------------------------------------------------------

TEST(DataHeaders, WantedOnesAreKeptInOrderWithLowerCaseNames) {
  const Scanned s =
      scan("Subject:  hi \r\nX: 1\r\nPRECEDENCE: bulk\r\nsubject: again\r\n\r\n.\r\n", wanting({"subject", "precedence"}));
  EXPECT_EQ(s.headers,
            (std::vector<std::pair<std::string, std::string>>{{"subject", "hi"}, {"precedence", "bulk"}, {"subject", "again"}}));
}

TEST(DataHeaders, AreUnfolded) {
  const Scanned s = scan("Subject: one\r\n  two\r\n\tthree\r\nX: 1\r\n four\r\n\r\n.\r\n", wanting({"subject"}));
  ASSERT_EQ(s.headers.size(), 1u);
  EXPECT_EQ(s.headers[0].second, "one two three");
}

TEST(DataHeaders, EndAtTheEmptyLine) {
  const Scanned s = scan("A: 1\r\n\r\nSubject: body\r\n.\r\n", wanting({"subject"}));
  EXPECT_TRUE(s.headers.empty());
  EXPECT_EQ(s.header_end, 6u);
}

TEST(DataHeaders, EndAtALineThatIsNoField) {
  const Scanned s = scan("A: 1\r\nno field\r\nSubject: body\r\n.\r\n", wanting({"subject"}));
  EXPECT_TRUE(s.headers.empty());
  EXPECT_EQ(s.header_end, 6u);
}

TEST(DataHeaders, MayBeTheWholeMessage) {
  EXPECT_EQ(scan("A: 1\r\nB: 2\r\n.\r\n").header_end, 12u);
}

TEST(DataHeaders, EndIsCountedBehindTheTraceHeader) {
  EXPECT_EQ(scan_at("A: 1\r\n\r\nx\r\n.\r\n", {}, 0, "Received: us\r\n").header_end, 14u + 6u);
}

TEST(DataHeaders, OfTheTraceHeaderAreNotCounted) {
  DataLimits limits;
  limits.max_hops = 0;
  EXPECT_EQ(scan_at("A: 1\r\n\r\n.\r\n", limits, 0, "Received: us\r\n").problem, DataProblem::none);
}

TEST(DataHeaders, UnwantedOnesAreCutWithTheirContinuations) {
  const Scanned s =
      scan("A: 1\r\nX-SES-Tag: a\r\n b\r\n\tc\r\nB: 2\r\nx-ses-other:d\r\n\r\nX-SES-Tag: body\r\n.\r\n", stripping({"X-SES-*"}));
  EXPECT_EQ(sent(s), "A: 1\r\nB: 2\r\n\r\nX-SES-Tag: body\r\n");
}

TEST(DataHeaders, AreCutWhereTheBodySaysWithATraceHeaderInFront) {
  const Scanned s = scan_at("X-Egret-Class: a\r\nB: 2\r\n\r\n.\r\n", stripping({"X-Egret-Class"}), 0, "Received: us\r\n");
  EXPECT_EQ(s.cuts, (std::vector<Cut>{{14, 18}}));
}

TEST(DataHeaders, CanBeWantedAndCut) {
  DataLimits limits = stripping({"X-Egret-Class"});
  limits.wanted = {"x-egret-class"};
  const Scanned s = scan("X-Egret-Class: bulk\r\nB: 2\r\n\r\n.\r\n", limits);
  EXPECT_EQ(s.headers, (std::vector<std::pair<std::string, std::string>>{{"x-egret-class", "bulk"}}));
  EXPECT_EQ(sent(s), "B: 2\r\n\r\n");
}

TEST(DataHeaders, AreCutBehindRepairedLineEndsToo) {
  DataLimits limits = stripping({"X-*"});
  limits.repair = true;
  EXPECT_EQ(sent(scan("A: 1\nX-B: 2\n c\rX-D: 3\nE: 4\n\nx\r\n.\r\n", limits)), "A: 1\r\nE: 4\r\n\r\nx\r\n");
}

TEST(DataHeaders, WithABlankBeforeTheColonAreTheSameField) {
  EXPECT_EQ(sent(scan("X-SES-Tag : a\r\nB: 2\r\n\r\n.\r\n", stripping({"X-SES-*"}))), "B: 2\r\n\r\n");
}

TEST(DataHeaders, AreFoundTheSameInEveryChunking) {
  DataLimits limits = stripping({"X-*"});
  limits.wanted = {"a"};
  const std::string bytes = "A: 1\r\n 2\r\nX: 3\r\n\r\n4\r\n.\r\n";
  const Scanned whole = scan(bytes, limits);
  for (std::size_t cut = 0; cut + 1 < bytes.size(); ++cut) EXPECT_EQ(scan_at(bytes, limits, 1ull << cut), whole) << cut;
  EXPECT_EQ(scan_bytewise(bytes, limits), whole);
}

TEST(DataHeaders, EightBitIsNoticed) {
  EXPECT_FALSE(scan("a: b\r\n\r\nc\r\n.\r\n").eight_bit);
  EXPECT_TRUE(scan("a: b\r\n\r\n\xC3\xA9\r\n.\r\n").eight_bit);
  EXPECT_TRUE(scan("a: \xC3\xA9\r\n\r\nc\r\n.\r\n").eight_bit);
}

// ---- limits ------------------------------------------------------------------------------------------------------

TEST(DataLimit, FiftyReceivedFieldsPassAndOneMoreIsALoop) {
  std::string bytes;
  for (int i = 0; i < 50; ++i) bytes += i % 2 ? "Received: x\r\n" : "RECEIVED : x\r\n\tfolded\r\n";
  EXPECT_EQ(scan(bytes + "\r\n.\r\n").problem, DataProblem::none);
  EXPECT_EQ(scan(bytes + "Received: x\r\n\r\n.\r\n").problem, DataProblem::too_many_hops);
}

TEST(DataLimit, ReceivedInTheBodyDoesNotCount) {
  std::string bytes = "A: 1\r\n\r\n";
  for (int i = 0; i < 60; ++i) bytes += "Received: x\r\n";
  EXPECT_EQ(scan(bytes + ".\r\n").problem, DataProblem::none);
}

TEST(DataLimit, ALineHas998Octets) {
  EXPECT_EQ(scan("\r\n" + std::string(998, 'a') + "\r\n.\r\n").problem, DataProblem::none);
  EXPECT_EQ(scan("\r\n" + std::string(999, 'a') + "\r\n.\r\n").problem, DataProblem::line_too_long);
}

TEST(DataLimit, AnOverlongLineIsRefusedTheSameInEveryChunking) {
  for (const std::size_t size : {998u, 999u, 1000u, 1001u, 5000u}) {
    const std::string bytes = "\r\n" + std::string(size, 'a') + "\r\n.\r\nrest";
    EXPECT_EQ(scan_bytewise(bytes, {}), scan(bytes)) << size;
  }
}

TEST(DataLimit, AnOverlongLineIsNotBuffered) {
  DataLimits limits;
  DataScanner scanner(limits);
  Body body;
  std::string buffer;
  for (int i = 0; i < 1000; ++i) {
    buffer += std::string(1000, 'a');
    std::string_view in = buffer;
    EXPECT_FALSE(scanner.scan(in, body));
    buffer = in;
    ASSERT_LE(buffer.size(), 1000u);
  }
  EXPECT_TRUE(body.empty());
}

TEST(DataLimit, TheEndIsFoundBehindAnOverlongLine) {
  const std::string long_line(3000, 'a');
  EXPECT_EQ(scan_bytewise(long_line + "\r\n.\r\nrest", {}).rest, "rest");
  EXPECT_FALSE(scan_bytewise(long_line + "\n.\r\n", {}).ended);
  EXPECT_FALSE(scan_bytewise(long_line + "\r\n.\n", {}).ended);
}

TEST(DataLimit, SizeIsCountedInOctets) {
  DataLimits limits;
  limits.max_size = 10;
  EXPECT_EQ(scan("12345678\r\n.\r\n", limits).problem, DataProblem::none);
  EXPECT_EQ(scan("123456789\r\n.\r\n", limits).problem, DataProblem::too_large);
}

TEST(DataLimit, ATooLargeMessageIsReadToItsEndButNotStored) {
  DataLimits limits;
  limits.max_size = 100;
  std::string bytes;
  for (int i = 0; i < 1000; ++i) bytes += "0123456789\r\n";
  const Scanned s = scan(bytes + ".\r\nrest", limits);
  EXPECT_TRUE(s.ended);
  EXPECT_EQ(s.rest, "rest");
  EXPECT_LE(s.body.size(), 100u);
}

TEST(DataLimit, TheHeaderSectionIsBounded) {
  DataLimits limits;
  limits.max_header = 20;
  EXPECT_EQ(scan("A: 12345\r\nB: 12345\r\n\r\nlong enough body\r\n.\r\n", limits).problem, DataProblem::none);
  EXPECT_EQ(scan("A: 12345\r\nB: 123456\r\n\r\n.\r\n", limits).problem, DataProblem::header_too_large);
}

TEST(DataLimit, AKeptHeaderIsBounded) {
  std::string bytes = "Subject: x\r\n";
  for (int i = 0; i < 200; ++i) bytes += " " + std::string(900, 'a') + "\r\n";
  const Scanned s = scan(bytes + "\r\n.\r\n", wanting({"subject"}));
  ASSERT_EQ(s.headers.size(), 1u);
  EXPECT_LT(s.headers[0].second.size(), 10'000u);
}

TEST(DataRefusal, HasTheCodeOfTheContract) {
  const auto refusal = [](DataProblem problem) {
    const auto [code, text] = data_refusal(problem);
    return std::to_string(code) + " " + text.substr(0, text.find(' '));
  };
  EXPECT_EQ(refusal(DataProblem::bare_line_end), "550 5.6.11");
  EXPECT_EQ(refusal(DataProblem::nul), "550 5.6.11");
  EXPECT_EQ(refusal(DataProblem::too_large), "552 5.3.4");
  EXPECT_EQ(refusal(DataProblem::too_many_hops), "554 5.4.6");
  EXPECT_EQ(refusal(DataProblem::line_too_long).front(), '5');
  EXPECT_EQ(refusal(DataProblem::header_too_large).front(), '5');
}

}  // namespace
}  // namespace egret::smtp
