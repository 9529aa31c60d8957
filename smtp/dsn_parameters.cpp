#include "smtp/dsn_parameters.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>

#include "smtp/text.hpp"
#include "smtp/xtext.hpp"

namespace egret::smtp {
namespace {

constexpr std::size_t max_envid = 100;  // octets of xtext, RFC 3461
constexpr std::size_t max_orcpt = 500;

bool ascii(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

/// An RFC 822 atom without '+' and '=', so that the whole ORCPT value remains xtext.
bool address_type(std::string_view text) {
  constexpr std::string_view specials = "()<>@,;:\\\".[]+=";
  return !text.empty() &&
         std::ranges::all_of(text, [&](char c) { return c > ' ' && c < 0x7F && specials.find(c) == std::string_view::npos; });
}

/// The code point of an EmbeddedUnicodeChar "\x{HEX}" at the front of `text`, which is taken off.
std::optional<std::uint32_t> embedded_char(std::string_view& text) {
  const std::size_t close = text.find('}');
  if (!text.starts_with("\\x{") || close == std::string_view::npos) return std::nullopt;
  const std::string_view digits = text.substr(3, close - 3);
  std::uint32_t code = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
  if (digits.size() < 2 || digits.size() > 6 || error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  text.remove_prefix(close + 1);
  return code;
}

/// An address of the type "utf-8" (RFC 6533 section 3): no escape may name a surrogate, or a control character.
bool utf8_address(std::string_view text) {
  if (printable(text) != text) return false;
  while (true) {
    text.remove_prefix(std::min(text.find('\\'), text.size()));
    if (text.empty()) return true;
    const auto code = embedded_char(text);
    if (!code || *code < 0x20 || (*code >= 0x7F && *code < 0xA0) || (*code >= 0xD800 && *code < 0xE000) || *code > 0x10FFFF)
      return false;
  }
}

/// The 7-bit form of a "utf-8" address: raw characters beyond ASCII as "\x{HEX}". `text` is valid UTF-8.
std::string without_raw_utf8(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<std::uint8_t>(text[i]);
    if (lead < 0x80) {
      out += text[i++];
      continue;
    }
    const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    std::uint32_t code = lead & (0x7Fu >> length);
    for (std::size_t k = 1; k < length; ++k) code = code << 6 | (static_cast<std::uint8_t>(text[i + k]) & 0x3Fu);
    constexpr std::string_view hex = "0123456789ABCDEF";
    out += "\\x{";
    for (int shift = code > 0xFFFFF ? 20 : code > 0xFFFF ? 16 : code > 0xFFF ? 12 : code > 0xFF ? 8 : 4; shift >= 0; shift -= 4)
      out += hex[code >> shift & 15];
    out += '}';
    i += length;
  }
  return out;
}

}  // namespace

bool parse_envid(std::string_view value, DsnMail& out) {
  if (!out.envid.empty() || value.empty() || value.size() > max_envid) return false;
  const auto decoded = xtext_decode(value);
  if (!decoded || !ascii(*decoded)) return false;
  out.envid = value;
  return true;
}

bool parse_ret(std::string_view value, DsnMail& out) {
  if (out.ret != DsnMail::Ret::none) return false;
  if (iequals(value, "FULL")) {
    out.ret = DsnMail::Ret::full;
  } else if (iequals(value, "HDRS")) {
    out.ret = DsnMail::Ret::headers;
  } else {
    return false;
  }
  return true;
}

bool parse_notify(std::string_view value, DsnRcpt& out) {
  if (out.notify_given) return false;
  DsnRcpt parsed = out;
  parsed.notify_given = true;
  if (iequals(value, "NEVER")) {
    parsed.never = true;
    out = parsed;
    return true;
  }
  for (bool more = true; more;) {
    const std::size_t comma = value.find(',');
    const std::string_view word = value.substr(0, comma);
    if (iequals(word, "SUCCESS")) {
      parsed.success = true;
    } else if (iequals(word, "FAILURE")) {
      parsed.failure = true;
    } else if (iequals(word, "DELAY")) {
      parsed.delay = true;
    } else {
      return false;
    }
    more = comma != std::string_view::npos;
    if (more) value.remove_prefix(comma + 1);
  }
  out = parsed;
  return true;
}

bool parse_orcpt(std::string_view value, DsnRcpt& out) {
  const std::size_t semicolon = value.find(';');
  if (!out.orcpt.empty() || value.size() > max_orcpt || semicolon == std::string_view::npos) return false;
  const std::string_view type = value.substr(0, semicolon);
  if (!address_type(type)) return false;
  const bool utf8 = iequals(type, "utf-8");
  if (utf8 && !valid_utf8(value)) return false;
  std::string stored = utf8 ? without_raw_utf8(value) : std::string(value);
  const auto address = xtext_decode(std::string_view(stored).substr(semicolon + 1));
  if (stored.size() > max_orcpt || !address || address->empty()) return false;
  if (utf8 ? !utf8_address(*address) : !ascii(*address)) return false;
  out.orcpt = std::move(stored);
  return true;
}

std::string mail_parameters(const DsnMail& dsn) {
  std::string out;
  switch (dsn.ret) {
    case DsnMail::Ret::none:
      break;
    case DsnMail::Ret::full:
      out += " RET=FULL";
      break;
    case DsnMail::Ret::headers:
      out += " RET=HDRS";
      break;
  }
  if (!dsn.envid.empty()) out += " ENVID=" + dsn.envid;
  return out;
}

std::string rcpt_parameters(const DsnRcpt& dsn) {
  std::string list;
  const auto add = [&](bool wanted, std::string_view word) {
    if (!wanted) return;
    if (!list.empty()) list += ',';
    list += word;
  };
  add(dsn.never, "NEVER");
  add(dsn.success && !dsn.never, "SUCCESS");
  add(dsn.failure && !dsn.never, "FAILURE");
  add(dsn.delay && !dsn.never, "DELAY");
  std::string out;
  if (dsn.notify_given && !list.empty()) out += " NOTIFY=" + list;
  if (!dsn.orcpt.empty()) out += " ORCPT=" + dsn.orcpt;
  return out;
}

}  // namespace egret::smtp
