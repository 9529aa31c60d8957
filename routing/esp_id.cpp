#include "routing/esp_id.hpp"

#include <algorithm>
#include <cctype>

#include "smtp/text.hpp"

namespace egret::routing {
namespace {

constexpr std::size_t max_id = 200;

/// The first word of `text` without the punctuation around it; empty unless it looks like an id: a digit is in it.
std::string id_at(std::string_view text) {
  text = smtp::trim(text);
  std::string_view word = text.substr(0, text.find_first_of(" \t\r\n"));
  while (!word.empty() && (word.front() == '<' || word.front() == '"')) word.remove_prefix(1);
  while (!word.empty() && std::string_view(">\".,;").find(word.back()) != std::string_view::npos) word.remove_suffix(1);
  const bool good = std::ranges::all_of(word, [](unsigned char c) { return c > ' ' && c < 0x7f; });
  const bool digit = std::ranges::any_of(word, [](unsigned char c) { return std::isdigit(c); });
  return good && digit && word.size() <= max_id ? std::string(word) : std::string();
}

std::string after(std::string_view text, std::string_view mark) {
  const std::size_t at = smtp::lower(text).find(mark);
  return at == std::string::npos ? std::string() : id_at(text.substr(at + mark.size()));
}

/// "<id@host>"
std::string in_brackets(std::string_view text) {
  const std::size_t begin = text.find('<'), end = text.find('>', begin == std::string_view::npos ? 0 : begin);
  return begin == std::string_view::npos || end == std::string_view::npos ? std::string()
                                                                          : id_at(text.substr(begin, end - begin));
}

}  // namespace

std::string esp_message_id(std::string_view preset, const smtp::Reply& reply) {
  const std::string text = reply.text();
  // SES: "Ok 0102018f..."; SparkPost: "OK 7E/54-12345-...".
  if (preset == "ses" || preset.starts_with("sparkpost")) return after(text, "ok ");
  // "Ok: queued as ID", the form of most; Mailgun and Brevo write a Message-ID.
  if (auto id = after(text, "queued as "); !id.empty()) return id;
  return in_brackets(text);
}

}  // namespace egret::routing
