// What reads and rewrites whole messages: the domain of From, DKIM signatures and conversion to 7 bits.
#include <optional>

#include "smtp/address.hpp"
#include "smtp/dkim.hpp"
#include "smtp/mime_convert.hpp"
#include "smtp/mime_encode.hpp"
#include "smtp/scram.hpp"
#include "smtp/text.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace egret::fuzz {
namespace {

using namespace smtp;

/// RFC 8463 appendix A.2: its signatures depend on nothing but what is signed.
const DkimKey& key() {
  static const auto loaded = [] {
    std::string error;
    return DkimKey::load(
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE "
        "KEY-----\n",
        error);
  }();
  return *loaded;
}

void check_from(std::string_view header) {
  const auto domain = from_domain(header);
  require(!domain || (valid_domain(*domain, true) && *domain == lower(*domain)), "the domain of From is a host name");
}

std::string signature(std::string_view header) {
  return dkim_field(key(), {"example.com", "s1", {"list-id"}, 1'700'000'000}, header, std::string(32, 'h'));
}

/// The header, which is lines, with all its field names in upper case, which relaxed canonicalisation does not see.
std::string with_upper_names(std::string_view header) {
  std::string out;
  while (!header.empty()) {
    std::string line(next_line(header));
    const bool folded = line.starts_with(' ') || line.starts_with('\t') || line.starts_with(". ") || line.starts_with(".\t");
    const std::size_t name = folded ? 0 : std::min(line.find(':'), line.size());
    for (std::size_t i = 0; i < name; ++i)
      if (line[i] >= 'a' && line[i] <= 'z') line[i] = static_cast<char>(line[i] - 32);
    out += line + '\n';
  }
  return out;
}

void check_signature(std::string_view header) {
  const std::string field = signature(header);
  if (field.empty()) return;
  require(field.starts_with("DKIM-Signature: v=1; a=ed25519-sha256;") && crlf_lines(field), "a signature is a header field");
  require(field.find("list-id") == std::string::npos, "what the next hop rewrites is not signed");
  std::string_view rest = field;
  for (bool first = true; !rest.empty(); first = false) {
    const std::string_view line = next_line(rest);
    require(line.size() <= 79 && (first || (line.starts_with('\t') && line.size() > 2)), "a signature is folded");
  }
  if (crlf_lines(header)) require(signature(with_upper_names(header)) == field, "the case of field names is not signed");
}

/// RFC 6376 section 3.4.4, with all of the body at hand.
std::string relaxed_body(std::string_view wire) {
  std::string out, empty_lines;
  while (!wire.empty()) {
    const std::size_t end = wire.find("\r\n");
    std::string_view line = wire.substr(0, end);
    wire.remove_prefix(end == std::string_view::npos ? wire.size() : end + 2);
    if (line.starts_with('.')) line.remove_prefix(1);
    std::string relaxed;
    for (const char c : line) {
      const bool blank = c == ' ' || c == '\t';
      if (!blank || !relaxed.ends_with(' ')) relaxed += blank ? ' ' : c;
    }
    if (relaxed.ends_with(' ')) relaxed.pop_back();
    empty_lines += "\r\n";
    if (relaxed.empty()) continue;
    empty_lines.resize(empty_lines.size() - 2);
    out += empty_lines + relaxed + "\r\n";
    empty_lines.clear();
  }
  return out;
}

void check_body_hash(std::string_view wire, std::uint32_t seed) {
  DkimBodyHash hash;
  Pieces(seed).each(wire, [&](std::string_view piece) { hash.update(piece); });
  require(hash.finish() == sha256(relaxed_body(wire)), "the body hash is that of RFC 6376");
}

std::size_t longest_line(std::string_view text) {
  std::size_t longest = 0;
  while (!text.empty()) longest = std::max(longest, next_line(text).size());
  return longest;
}

bool seven_bit(std::string_view text) {
  return std::ranges::all_of(text, [](unsigned char c) { return c < 0x80; });
}

void check_conversion(std::string_view message) {
  std::string why;
  const auto converted = to_seven_bit(message, why);
  require(converted || (!why.empty() && one_line(why)), "a refusal has a reason");
  if (!converted) return;
  require(seven_bit(*converted), "the result is 7-bit");
  require(converted->size() <= message.size() * max_mime_growth + mime_growth_allowance, "the result is bounded");
  require(!seven_bit(message) || *converted == message, "what is 7-bit is not touched");
  require(to_seven_bit(*converted, why) == converted, "converting twice changes nothing");
  if (crlf_lines(message)) {
    require(crlf_lines(*converted), "lines stay lines");
    require(longest_line(*converted) <= std::max<std::size_t>(longest_line(message), 100), "no line gets too long");
  }
}

/// Every bare CR and LF as CRLF, and a CRLF at the end.
std::string as_lines(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\0') continue;
    if (text[i] != '\r' && text[i] != '\n') {
      out += text[i];
      continue;
    }
    out += "\r\n";
    i += text.substr(i, 2) == "\r\n";
  }
  if (!out.ends_with("\r\n")) out += "\r\n";
  return out;
}

std::string quoted_printable_decode(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '=') {
      out += text[i];
    } else if (text.substr(i, 3) == "=\r\n") {
      i += 2;
    } else {
      out += static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
      i += 2;
    }
  }
  return out;
}

void check_encodings(std::string_view octets) {
  std::string quoted, lines;
  append_quoted_printable(octets, quoted);
  require(quoted_printable_decode(quoted) == octets, "quoted-printable brings back every octet");
  for (std::string_view rest = quoted; !rest.empty();) {
    const std::string_view line = next_line(rest);
    require(line.size() <= 77 && !line.starts_with('.') && !line.starts_with("From ") && !line.starts_with("--"),
            "quoted-printable lines survive what mail meets");
    require(!line.ends_with(" \r") && !line.ends_with("\t\r"), "no blank stands at the end of a line");
  }
  append_base64_lines(octets, lines);
  require(longest_line(lines) <= 77, "base64 lines are short");
  std::erase_if(lines, [](char c) { return c == '\r' || c == '\n'; });
  require(base64_decode(lines) == octets, "base64 brings back every octet");
}

}  // namespace
}  // namespace egret::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace egret::fuzz;
  Input input(data, size);
  const std::uint32_t seed = input.octet();
  const std::string_view message = input.rest();
  const std::size_t end = std::min(message.find("\r\n\r\n"), message.size());
  const std::string_view header = message.substr(0, end == message.size() ? end : end + 2);
  check_from(header);
  check_signature(header);
  check_body_hash(message, seed);
  check_conversion(message);
  check_conversion(as_lines(message));
  check_encodings(message);
  return 0;
}
