#include "smtp/xtext.hpp"

#include <cstdint>

namespace egret::smtp {
namespace {

constexpr std::string_view hex_digits = "0123456789ABCDEF";

bool stands_for_itself(char c) {
  return c >= '!' && c <= '~' && c != '+' && c != '=';
}

}  // namespace

std::string xtext_encode(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (const char c : bytes) {
    if (stands_for_itself(c)) {
      out += c;
    } else {
      const auto octet = static_cast<std::uint8_t>(c);
      out += '+';
      out += hex_digits[octet >> 4];
      out += hex_digits[octet & 15];
    }
  }
  return out;
}

std::optional<std::string> xtext_decode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (stands_for_itself(text[i])) {
      out += text[i];
      continue;
    }
    if (text[i] != '+' || text.size() - i < 3) return std::nullopt;
    const std::size_t high = hex_digits.find(text[i + 1]);
    const std::size_t low = hex_digits.find(text[i + 2]);
    if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
    const std::size_t octet = high << 4 | low;
    if (octet < 0x20 || octet == 0x7F) return std::nullopt;
    out += static_cast<char>(octet);
    i += 2;
  }
  return out;
}

}  // namespace egret::smtp
