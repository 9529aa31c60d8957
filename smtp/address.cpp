#include "smtp/address.hpp"

#include <algorithm>

#include "smtp/text.hpp"

namespace egret::smtp {
namespace {

bool atext(unsigned char c, bool utf8) {
  if (c >= 0x80) return utf8;
  if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return true;
  return c != 0 && std::string_view("!#$%&'*+-/=?^_`{|}~").find(static_cast<char>(c)) != std::string_view::npos;
}

/// End of the local part that starts at 0 (the position of '@'), or npos.
std::size_t local_part_end(std::string_view text, bool utf8) {
  if (text.empty()) return std::string_view::npos;
  if (text.front() == '"') {
    for (std::size_t i = 1; i < text.size(); ++i) {
      const auto c = static_cast<unsigned char>(text[i]);
      if (c == '\\') {
        if (++i >= text.size()) return std::string_view::npos;
        const auto quoted = static_cast<unsigned char>(text[i]);
        if (quoted < 0x20 || quoted == 0x7F || (quoted >= 0x80 && !utf8)) return std::string_view::npos;
      } else if (c == '"') {
        return i + 1;
      } else if (c < 0x20 || c == 0x7F || (c >= 0x80 && !utf8)) {
        return std::string_view::npos;
      }
    }
    return std::string_view::npos;
  }
  // RFC 5321 wants atoms between the dots, but mailboxes such as "a..b@" and "a.@" exist (Japanese carriers gave them
  // out), and who has one wants his mail.
  std::size_t i = 0;
  while (i < text.size() && text[i] != '@' && (text[i] == '.' || atext(static_cast<unsigned char>(text[i]), utf8))) ++i;
  return i == 0 || (i < text.size() && text[i] != '@') ? std::string_view::npos : i;
}

}  // namespace

bool Address::ascii() const {
  const auto plain = [](unsigned char c) { return c < 0x80; };
  return std::ranges::all_of(local, plain) && std::ranges::all_of(domain, plain);
}

std::string Address::to_string() const {
  return null() ? std::string() : local + '@' + domain;
}

bool valid_domain(std::string_view text, bool utf8) {
  if (text.empty() || text.size() > 253 || !valid_utf8(text)) return false;
  std::size_t label = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '.') {
      if (label == 0 || text[i - 1] == '-') return false;
      label = 0;
      continue;
    }
    const bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    if (!alnum && !(c == '-' && label > 0) && !(c >= 0x80 && utf8)) return false;
    if (++label > 63) return false;
  }
  return label > 0 && text.back() != '-';
}

bool valid_address_literal(std::string_view text) {
  if (text.size() < 3 || text.front() != '[' || text.back() != ']' || text.size() > 64) return false;
  text = text.substr(1, text.size() - 2);
  const bool v6 = istarts_with(text, "IPv6:");
  if (v6) text.remove_prefix(5);
  const std::string_view allowed = v6 ? "0123456789abcdefABCDEF:." : "0123456789.";
  return !text.empty() && text.find_first_not_of(allowed) == std::string_view::npos;
}

std::optional<Address> parse_mailbox(std::string_view text, bool utf8) {
  if (text.size() > 1000 || (utf8 && !valid_utf8(text))) return std::nullopt;
  if (!text.empty() && text.front() == '@') {
    const std::size_t colon = text.find(':');
    if (colon == std::string_view::npos) return std::nullopt;
    text.remove_prefix(colon + 1);
  }
  const std::size_t end = local_part_end(text, utf8);
  if (end == std::string_view::npos || end == 0 || end > 64) return std::nullopt;
  if (end >= text.size() || text[end] != '@') return std::nullopt;
  const std::string_view domain = text.substr(end + 1);
  if (domain.size() > 253) return std::nullopt;
  if (!valid_domain(domain, utf8) && !valid_address_literal(domain)) return std::nullopt;
  if (text.size() > 254) return std::nullopt;
  return Address{std::string(text.substr(0, end)), std::string(domain)};
}

std::optional<Address> parse_path(std::string_view& text, bool utf8) {
  const std::size_t start = text.find_first_not_of(' ');
  if (start == std::string_view::npos || text[start] != '<') return std::nullopt;
  // The closing bracket is the first one outside a quoted local part.
  bool quoted = false;
  std::size_t end = start + 1;
  for (; end < text.size(); ++end) {
    if (text[end] == '\\' && quoted) {
      ++end;
    } else if (text[end] == '"') {
      quoted = !quoted;
    } else if (text[end] == '>' && !quoted) {
      break;
    }
  }
  if (end >= text.size()) return std::nullopt;
  const std::string_view inside = text.substr(start + 1, end - start - 1);
  std::optional<Address> address = inside.empty() ? Address{} : parse_mailbox(inside, utf8);
  if (address) text.remove_prefix(end + 1);
  return address;
}

}  // namespace egret::smtp
