#include "smtp/mime_encode.hpp"

#include <cstddef>
#include <cstdint>

#include "smtp/text.hpp"

namespace egret::smtp {
namespace {

constexpr std::size_t max_encoded_line = 76;        // RFC 2045 sections 6.7 (5) and 6.8
constexpr std::size_t base64_octets_per_line = 57;  // 76 / 4 * 3

/// Whether `rest`, of one line and never empty, may begin with its own first octet.
bool stands_for_itself(std::string_view rest, bool line_start) {
  const char c = rest.front();
  if (c == ' ' || c == '\t') return rest.size() > 1;  // at the end of a line it would get lost
  if (c < '!' || c > '~' || c == '=') return false;
  return !line_start || !(c == '.' || rest.starts_with("From ") || rest.starts_with("--"));
}

void append_octet(char c, std::string& out) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  const auto octet = static_cast<std::uint8_t>(c);
  out += '=';
  out += digits[octet >> 4];
  out += digits[octet & 15];
}

void append_line(std::string_view line, std::string& out) {
  std::size_t column = 0;
  for (; !line.empty(); line.remove_prefix(1)) {
    bool literal = stands_for_itself(line, column == 0);
    // All lines but the last end with "=", the soft line break.
    const std::size_t room = line.size() == 1 ? max_encoded_line : max_encoded_line - 1;
    if (column + (literal ? 1 : 3) > room) {
      out += "=\r\n";
      column = 0;
      literal = stands_for_itself(line, true);
    }
    if (literal)
      out += line.front();
    else
      append_octet(line.front(), out);
    column += literal ? 1 : 3;
  }
}

}  // namespace

void append_quoted_printable(std::string_view text, std::string& out) {
  for (;;) {
    const std::size_t end = text.find("\r\n");
    append_line(text.substr(0, end), out);
    if (end == std::string_view::npos) return;
    out += "\r\n";
    text.remove_prefix(end + 2);
  }
}

void append_base64_lines(std::string_view bytes, std::string& out) {
  for (std::size_t at = 0; at < bytes.size(); at += base64_octets_per_line) {
    if (at > 0) out += "\r\n";
    out += base64_encode(bytes.substr(at, base64_octets_per_line));
  }
}

}  // namespace egret::smtp
