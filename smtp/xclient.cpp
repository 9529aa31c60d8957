#include "smtp/xclient.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>

#include "smtp/text.hpp"
#include "smtp/xtext.hpp"

namespace egret::smtp {
namespace {

constexpr std::size_t max_value = 255;
constexpr std::size_t max_protocol = 64;

using Check = bool (*)(ForwardCommand, std::string& value);

bool clean(std::string_view value, std::size_t limit) {
  return value.size() <= limit && printable(value) == value;
}

bool take_text(ForwardCommand /*command*/, std::string& value) {
  return clean(value, max_value);
}

bool take_address(ForwardCommand /*command*/, std::string& value) {
  constexpr std::string_view prefix = "IPV6:";
  const bool prefixed = istarts_with(value, prefix);
  // inet_pton reads up to a NUL; none is in there, because xtext_decode() lets none pass.
  const std::string text = value.substr(prefixed ? prefix.size() : 0);
  std::array<unsigned char, 16> bytes{};
  std::array<char, INET6_ADDRSTRLEN> canonical{};
  const bool v4 = !prefixed && inet_pton(AF_INET, text.c_str(), bytes.data()) == 1;
  if (!v4 && inet_pton(AF_INET6, text.c_str(), bytes.data()) != 1) return false;
  inet_ntop(v4 ? AF_INET : AF_INET6, bytes.data(), canonical.data(), canonical.size());
  value = canonical.data();
  return true;
}

bool take_port(ForwardCommand /*command*/, std::string& value) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), port);
  if (error != std::errc{} || end != value.data() + value.size() || port == 0) return false;
  value = std::to_string(port);
  return true;
}

/// Replaces `value` by the one of the upper-case `words` that it is.
template <std::size_t N>
bool take_word(const std::array<std::string_view, N>& words, std::string& value) {
  const auto word = std::ranges::find_if(words, [&](std::string_view w) { return iequals(w, value); });
  if (word == words.end()) return false;
  value = *word;
  return true;
}

bool take_protocol(ForwardCommand command, std::string& value) {
  // What Postfix forwards need not have come by SMTP ("QMQP"); an XCLIENT always plays an SMTP client.
  if (command == ForwardCommand::xforward) return clean(value, max_protocol);
  return take_word(std::array<std::string_view, 2>{"SMTP", "ESMTP"}, value);
}

bool take_source(ForwardCommand /*command*/, std::string& value) {
  return take_word(std::array<std::string_view, 2>{"LOCAL", "REMOTE"}, value);
}

struct Attribute {
  std::string_view name;
  std::optional<std::string> ForwardedAttributes::*member;
  Check take;
};

constexpr std::array<Attribute, 10> attributes{{{"NAME", &ForwardedAttributes::name, take_text},
                                                {"ADDR", &ForwardedAttributes::addr, take_address},
                                                {"PORT", &ForwardedAttributes::port, take_port},
                                                {"PROTO", &ForwardedAttributes::proto, take_protocol},
                                                {"HELO", &ForwardedAttributes::helo, take_text},
                                                {"LOGIN", &ForwardedAttributes::login, take_text},
                                                {"DESTADDR", &ForwardedAttributes::destaddr, take_address},
                                                {"DESTPORT", &ForwardedAttributes::destport, take_port},
                                                {"IDENT", &ForwardedAttributes::ident, take_text},
                                                {"SOURCE", &ForwardedAttributes::source, take_source}}};

std::string_view next_word(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  const std::string_view word = text.substr(0, text.find(' '));
  text.remove_prefix(word.size());
  return word;
}

bool offered(ForwardCommand command, std::string_view name) {
  std::string_view list = command == ForwardCommand::xclient ? xclient_attributes : xforward_attributes;
  for (std::string_view word = next_word(list); !word.empty(); word = next_word(list))
    if (iequals(word, name)) return true;
  return false;
}

/// The value of an attribute, still xtext, as it is kept; nullopt when it is malformed.
std::optional<std::string> value_of(ForwardCommand command, const Attribute& attribute, std::string_view text) {
  auto value = xtext_decode(text);
  if (!value || value->empty()) return std::nullopt;
  if (iequals(*value, "[UNAVAILABLE]") || iequals(*value, "[TEMPUNAVAIL]")) return std::string();
  if (!attribute.take(command, *value)) return std::nullopt;
  return value;
}

}  // namespace

std::optional<std::string> parse_forwarded(ForwardCommand command, std::string_view argument, ForwardedAttributes& out) {
  ForwardedAttributes parsed = out;
  std::string_view word = next_word(argument);
  if (word.empty()) return "5.5.4 at least one attribute is needed";
  for (; !word.empty(); word = next_word(argument)) {
    const std::size_t equals = std::min(word.find('='), word.size());
    const std::string_view name = word.substr(0, equals);
    const auto attribute = std::ranges::find_if(attributes, [&](const Attribute& a) { return iequals(a.name, name); });
    if (attribute == attributes.end() || !offered(command, name))
      return "5.5.4 attribute " + printable(cut_text(name, 40)) + " not recognised";
    auto value = value_of(command, *attribute, word.substr(std::min(equals + 1, word.size())));
    if (!value) return "5.5.4 malformed value of " + std::string(attribute->name);
    parsed.*(attribute->member) = std::move(value);
  }
  out = std::move(parsed);
  return std::nullopt;
}

}  // namespace egret::smtp
