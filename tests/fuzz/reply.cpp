// Replies of remote servers: bounded and clean whatever arrives, the same in every chunking, and unchanged by being written
// down and read again.
#include "smtp/reply.hpp"

#include <vector>

#include "smtp/text.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace egret::fuzz {
namespace {

using namespace smtp;

struct Parsed {
  std::vector<Reply> replies;
  bool malformed = false;
  std::string error;
};

Parsed parse(std::string_view stream, std::uint32_t seed) {
  Parsed out;
  ReplyParser parser;
  Reader reader;
  Pieces(seed).each(stream, [&](std::string_view piece) {
    reader.offer(piece, [&](std::string_view& in) {
      while (!in.empty() && !out.malformed) {
        const auto status = parser.feed(in);
        if (status == ReplyParser::Status::complete) out.replies.push_back(parser.take());
        out.malformed = status == ReplyParser::Status::malformed;
      }
      in = {};
    });
  });
  out.error = parser.error();
  return out;
}

void check_text(const ReplyText& text) {
  require(text.text.size() <= 2048, "the text of a reply is bounded");
  require(text.text.find("  ") == std::string::npos && text.text.find_first_of("\t\r\n") == std::string::npos,
          "white space is collapsed");
  require(!text.enhanced || (text.enhanced->subject <= 999 && text.enhanced->detail <= 999), "enhanced codes have three digits");
  if (text.enhanced) require(parse_enhanced_code(text.enhanced->to_string()) == text.enhanced, "enhanced codes are read back");
}

void check(const Reply& reply) {
  require(reply.code >= 200 && reply.code <= 599, "a code is 200 to 599");
  require(!reply.lines.empty() && reply.lines.size() <= ReplyParser::max_lines, "a reply has a bounded number of lines");
  require(reply.positive() + reply.transient() + reply.permanent() == 1, "a reply is of one kind");
  std::size_t longest = 0;
  for (const std::string& line : reply.lines) {
    require(one_line(line) && valid_utf8(line), "reply lines are clean");
    longest = std::max(longest, line.size() + 4);
  }
  const std::string text = reply.to_string();
  require(longest <= ReplyParser::max_line && text.size() <= ReplyParser::max_bytes + ReplyParser::max_lines,
          "a reply has a bounded size");
  const Reply again = parse_reply(text);
  require(again.code == reply.code && again.lines == reply.lines, "a reply is read as it was written");
  const ReplyText seen = reply_text(text);
  check_text(seen);
  require(seen.code == reply.code, "the rules see the code");
  require(seen.text.size() >= 1900 || seen.enhanced == reply.enhanced(), "the rules see the enhanced code");
  require(seen.text == reply.text(), "the rules see the text");
}

}  // namespace
}  // namespace egret::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace egret::fuzz;
  Input input(data, size);
  // Repeated, so that small inputs reach the limits.
  const std::uint8_t options = input.octet();
  const std::string_view octets = input.rest();
  std::string stream(octets);
  for (int i = 0; i < options >> 4; ++i) stream += octets;

  const Parsed whole = parse(stream, 0), pieces = parse(stream, options);
  require(whole.malformed == pieces.malformed && whole.error == pieces.error, "malformed in every chunking or in none");
  require(whole.replies.size() == pieces.replies.size(), "the same number of replies in every chunking");
  for (std::size_t i = 0; i < whole.replies.size(); ++i) {
    require(whole.replies[i].to_string() == pieces.replies[i].to_string(), "the same replies in every chunking");
    check(whole.replies[i]);
  }
  require(one_line(whole.error) && whole.error.size() < 400, "what is said about a malformed reply is clean");

  check_text(egret::smtp::reply_text(stream));
  const auto any = egret::smtp::parse_reply(stream);
  require(any.code >= 200 && any.code <= 599 && !any.lines.empty(), "every text is some reply");
  for (const auto& line : any.lines) require(one_line(line), "and a clean one");
  return 0;
}
