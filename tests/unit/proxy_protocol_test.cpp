#include "smtp/proxy_protocol.hpp"

#include <gtest/gtest.h>

#include <random>

namespace egret::smtp {
namespace {

using namespace std::string_literals;
using namespace std::string_view_literals;

constexpr std::string_view signature = "\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A"sv;
constexpr std::string_view tcp4_block =
    "\xC0\x00\x02\x01\xC6\x33\x64\x02\xDC\x04\x00\x19"sv;  // 192.0.2.1:56324 to 198.51.100.2:25

ProxyParse parse(std::string_view in) {
  std::size_t used = 0;
  ProxyHeader out;
  return parse_proxy_header(in, used, out);
}

/// The header in `in`, which must end where `in` does.
ProxyHeader header(std::string_view in) {
  std::size_t used = 0;
  ProxyHeader out;
  EXPECT_EQ(parse_proxy_header(in, used, out), ProxyParse::complete) << in;
  EXPECT_EQ(used, in.size());
  return out;
}

/// A version 2 header with `length` as its length field and `rest` behind it.
std::string v2(std::uint8_t command, std::uint8_t family, std::size_t length, std::string_view rest) {
  std::string out(signature);
  for (const std::size_t octet : {std::size_t{command}, std::size_t{family}, length >> 8, length & 255})
    out += static_cast<char>(octet);
  return out.append(rest);
}

const std::string v1_tcp4 = "PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\r\n";
const std::string v1_tcp6 = "PROXY TCP6 2001:DB8:0::1 2001:db8::ffff 56324 65535\r\n";
const std::string v2_tcp4 = v2(0x21, 0x11, 12, tcp4_block);
const std::string v2_tlv = v2(0x21, 0x11, 17, std::string(tcp4_block) + "\x02\x00\x02hi"s);

TEST(ProxyV1, GivesAddressesInCanonicalForm) {
  EXPECT_EQ(header(v1_tcp4), (ProxyHeader{false, "192.0.2.1", "198.51.100.2", 56324, 25}));
  EXPECT_EQ(header(v1_tcp6), (ProxyHeader{false, "2001:db8::1", "2001:db8::ffff", 56324, 65535}));
  EXPECT_EQ(header("PROXY TCP6 ::ffff:192.0.2.1 :: 0 1\r\n").source, "::ffff:192.0.2.1");
}

TEST(ProxyV1, TakesUnknownWithAnythingBehindIt) {
  const ProxyHeader local{.local = true, .source = "", .destination = ""};
  EXPECT_EQ(header("PROXY UNKNOWN\r\n"), local);
  EXPECT_EQ(header("PROXY UNKNOWN ffff::1 nonsense 0 99999 x\r\n"), local);
  EXPECT_EQ(header("PROXY UNKNOWN " + std::string(91, 'f') + "\r\n"), local);
}

TEST(ProxyV1, IsAtMost107Octets) {
  EXPECT_EQ(parse("PROXY UNKNOWN " + std::string(92, 'f') + "\r\n"), ProxyParse::malformed);
  EXPECT_EQ(parse("PROXY UNKNOWN " + std::string(91, 'f')), ProxyParse::incomplete);
  EXPECT_EQ(parse("PROXY UNKNOWN " + std::string(92, 'f')), ProxyParse::malformed);
}

TEST(ProxyV1, LeavesWhatFollows) {
  std::size_t used = 0;
  ProxyHeader out;
  EXPECT_EQ(parse_proxy_header(v1_tcp4 + "EHLO x\r\n", used, out), ProxyParse::complete);
  EXPECT_EQ(used, v1_tcp4.size());
}

TEST(ProxyV1, RefusesMalformedLines) {
  for (const auto text : std::initializer_list<std::string_view>{"PROXY TCP4\r",
                                                                 "PROXY TCP4 1.2.3.4 1.2.3.4 1\r",
                                                                 "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r",
                                                                 "PROXY TCP4 1.2.3.4 1.2.3.4 1 \r",
                                                                 "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r",
                                                                 "PROXY TCP4 ::1 ::1 1 2\r",
                                                                 "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r",
                                                                 "PROXY TCP5 ",
                                                                 "PROXY tcp4 ",
                                                                 "PROXY UDP4 ",
                                                                 "PROXY UNKNOWNS",
                                                                 "proxy ",
                                                                 "PROXY\t",
                                                                 "PROXY TCP4 1.2.3.4\t",
                                                                 "PROXY UNKNOWN\n",
                                                                 "PROXY UNKNOWN\rx",
                                                                 "PROXY UNKNOWN x\ny\r\n",
                                                                 "PROXY UNKNOWN \0"sv,
                                                                 "PROXY TCP4 1.2.3.4\0 "sv,
                                                                 " PROXY TCP4",
                                                                 "\r\nPROXY"})
    EXPECT_EQ(parse(text), ProxyParse::malformed) << text;
}

TEST(ProxyV1, WaitsForWhatCanBecomeAHeader) {
  for (const auto text : {"PRO", "PROXY ", "PROXY U", "PROXY TCP", "PROXY TCP4 2", "PROXY TCP4 25", "PROXY TCP4 1.2.3.4 0",
                          "PROXY TCP6 :", "PROXY TCP6 2001:db8:", "PROXY TCP6 1:2:3:4:5:6:7:8",
                          "PROXY TCP6 1:2:3:4:5:6:7:", "PROXY TCP6 1:2:3:4:5:6:255", "PROXY TCP6 ::ffff:1.2.3.",
                          "PROXY TCP6 1::2:", "PROXY TCP4 1.2.3.4 1.2.3.4 6553", "PROXY TCP4 1.2.3.4 1.2.3.4 0"})
    EXPECT_EQ(parse(text), ProxyParse::incomplete) << text;
}

TEST(ProxyV1, RefusesAtTheFirstImpossibleOctet) {
  for (const auto text : {"E",
                          "PROXY X",
                          "PROXY TCP4 256",
                          "PROXY TCP4 01",
                          "PROXY TCP4 .",
                          "PROXY TCP4 1..",
                          "PROXY TCP4 1.2.3.4.",
                          "PROXY TCP4 a",
                          "PROXY TCP4  ",
                          "PROXY TCP4 1.2.3 ",
                          "PROXY TCP6 1:2:3:4:5:6:7:8:",
                          "PROXY TCP6 12345",
                          "PROXY TCP6 :::",
                          "PROXY TCP6 1::2::",
                          "PROXY TCP6 g",
                          "PROXY TCP6 1.",
                          "PROXY TCP6 ::1%",
                          "PROXY TCP6 :1",
                          "PROXY TCP6 ::300.",
                          "PROXY TCP4 1.2.3.4 1.2.3.4 65536",
                          "PROXY TCP4 1.2.3.4 1.2.3.4 00",
                          "PROXY TCP4 1.2.3.4 1.2.3.4 -",
                          "PROXY TCP4 1.2.3.4 1.2.3.4 +1",
                          "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 "})
    EXPECT_EQ(parse(text), ProxyParse::malformed) << text;
}

TEST(ProxyV1, WaitsForEveryBeginningOfAnAddress) {
  std::mt19937 random(4);
  for (int round = 0; round < 300; ++round) {
    std::string bytes;
    while (bytes.size() < 36) bytes += random() % 2 ? '\0' : static_cast<char>(random());
    const ProxyHeader sound = header(v2(0x21, 0x21, 36, bytes));
    const std::string text = "PROXY TCP6 " + sound.source + " " + sound.destination + " 1 2\r\n";
    for (std::size_t size = 0; size < text.size(); ++size)
      EXPECT_EQ(parse(text.substr(0, size)), ProxyParse::incomplete) << text.substr(0, size);
    EXPECT_EQ(header(text).destination, sound.destination);
  }
}

TEST(ProxyV2, GivesAddressesInCanonicalForm) {
  EXPECT_EQ(header(v2_tcp4), (ProxyHeader{false, "192.0.2.1", "198.51.100.2", 56324, 25}));
  const std::string block = "\x20\x01\x0d\xb8" + std::string(11, '\0') + "\x01" + std::string(15, '\0') + "\x01\x00\x01\xff\xff"s;
  EXPECT_EQ(header(v2(0x21, 0x21, 36, block)), (ProxyHeader{false, "2001:db8::1", "::1", 1, 65535}));
}

TEST(ProxyV2, SkipsExtensions) {
  EXPECT_EQ(header(v2_tlv), header(v2_tcp4));
  EXPECT_EQ(header(v2(0x21, 0x11, 4096, std::string(tcp4_block) + std::string(4084, '\xff'))), header(v2_tcp4));
}

TEST(ProxyV2, UsesTheRealPeerForLocalAndUnspecified) {
  for (const std::string& text : {v2(0x20, 0x00, 0, ""), v2(0x20, 0x11, 12, tcp4_block), v2(0x20, 0xFF, 3, "abc"),
                                  v2(0x21, 0x00, 0, ""), v2(0x21, 0x00, 5, "abcde")}) {
    const ProxyHeader got = header(text);
    EXPECT_TRUE(got.local && got.source.empty() && got.destination.empty());
  }
}

TEST(ProxyV2, RefusesOtherVersionsCommandsAndFamilies) {
  for (const int command : {0x00, 0x01, 0x10, 0x11, 0x22, 0x2F, 0x31, 0xFF})
    EXPECT_EQ(parse(v2(static_cast<std::uint8_t>(command), 0x11, 12, tcp4_block).substr(0, 13)), ProxyParse::malformed)
        << command;
  for (const int family : {0x01, 0x02, 0x10, 0x12, 0x13, 0x20, 0x22, 0x30, 0x31, 0x32, 0x41, 0xFF})
    EXPECT_EQ(parse(v2(0x21, static_cast<std::uint8_t>(family), 0, "").substr(0, 14)), ProxyParse::malformed) << family;
}

TEST(ProxyV2, RefusesLengthsThatAreTooSmallOrTooLarge) {
  EXPECT_EQ(parse(v2(0x21, 0x11, 11, "")), ProxyParse::malformed);
  EXPECT_EQ(parse(v2(0x21, 0x21, 35, "")), ProxyParse::malformed);
  EXPECT_EQ(parse(v2(0x21, 0x11, 4097, "")), ProxyParse::malformed);
  EXPECT_EQ(parse(v2(0x20, 0x00, 4097, "")), ProxyParse::malformed);
  EXPECT_EQ(parse(v2(0x21, 0x11, 0x1100, "").substr(0, 15)), ProxyParse::malformed);
  EXPECT_EQ(parse(v2(0x21, 0x11, 4096, "")), ProxyParse::incomplete);
}

TEST(ProxyV2, RefusesEveryDeviationFromTheSignature) {
  for (std::size_t i = 0; i < signature.size(); ++i) {
    std::string text = v2_tcp4;
    text[i] ^= 1;
    EXPECT_EQ(parse(text.substr(0, i + 1)), ProxyParse::malformed) << i;
  }
}

TEST(ProxyHeaderParser, WaitsForEveryOctetAndWritesNothingMeanwhile) {
  for (const std::string& text : {v1_tcp4, v1_tcp6, "PROXY UNKNOWN\r\n"s, v2_tcp4, v2_tlv, v2(0x20, 0x00, 0, "")}) {
    for (std::size_t size = 0; size < text.size(); ++size) {
      std::size_t used = 77;
      ProxyHeader out{.source = "untouched", .destination = ""};
      EXPECT_EQ(parse_proxy_header(text.substr(0, size), used, out), ProxyParse::incomplete) << text << size;
      EXPECT_EQ(used, 77u);
      EXPECT_EQ(out.source, "untouched");
    }
    header(text);
  }
}

TEST(ProxyHeaderParser, NeverChangesItsMindForDamagedHeaders) {
  std::mt19937 random(1);
  for (const std::string& sound : {v1_tcp4, v1_tcp6, v2_tcp4, v2_tlv}) {
    for (int round = 0; round < 1000; ++round) {
      std::string text = sound;
      text[random() % text.size()] = static_cast<char>(random());
      ProxyParse last = ProxyParse::incomplete;
      for (std::size_t size = 0; size <= text.size(); ++size) {
        const ProxyParse now = parse(text.substr(0, size));
        if (last != ProxyParse::incomplete) EXPECT_EQ(now, last);
        last = now;
      }
    }
  }
}

TEST(ProxyHeaderParser, IsNeverKeptWaitingByNoise) {
  std::mt19937 random(2);
  for (int round = 0; round < 2000; ++round) {
    std::string text(round % 2 ? signature : "PROXY "sv);
    while (text.size() < 16 + 4096) text += static_cast<char>(random());
    EXPECT_NE(parse(text), ProxyParse::incomplete);
  }
}

TEST(ProxyEncoder, WritesWhatTheParserReads) {
  EXPECT_EQ(encode_proxy_v2(header(v1_tcp4)), v2_tcp4);
  for (const std::string& text : {v1_tcp6, v2_tcp4, "PROXY UNKNOWN\r\n"s})
    EXPECT_EQ(header(encode_proxy_v2(header(text))), header(text));
  EXPECT_EQ(encode_proxy_v2({.local = true, .source = "", .destination = ""}), v2(0x20, 0x00, 0, ""));
}

TEST(ProxyEncoder, MapsIpv4BesideIpv6) {
  const ProxyHeader got = header(encode_proxy_v2({false, "192.0.2.1", "2001:db8::1", 1, 25}));
  EXPECT_EQ(got, (ProxyHeader{false, "::ffff:192.0.2.1", "2001:db8::1", 1, 25}));
}

TEST(ProxyEncoder, WritesNothingForWhatIsNoAddress) {
  EXPECT_EQ(encode_proxy_v2({false, "host.example", "192.0.2.1", 1, 25}), "");
  EXPECT_EQ(encode_proxy_v2({false, "192.0.2.1", "", 1, 25}), "");
  EXPECT_EQ(encode_proxy_v2({false, "192.0.2.1", "192.0.2.1\0x"s, 1, 25}), "");
}

}  // namespace
}  // namespace egret::smtp
