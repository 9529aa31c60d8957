#include "relay/reputation/unknown_replies.hpp"

#include <algorithm>
#include <cctype>

#include "routing/address.hpp"

namespace egret::relay {
namespace {

/// Remote peers choose the text: no more of it than this is kept.
constexpr std::size_t longest = 512;

bool digit(char c) {
  return std::isdigit(static_cast<unsigned char>(c)) != 0;
}

bool in_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || std::string_view("@.:_+=-").find(c) != std::string_view::npos;
}

/// Letters and digits mixed over some length: a queue id, a session id, a hash.
bool looks_like_id(std::string_view word) {
  const auto digits = std::ranges::count_if(word, digit);
  const auto letters = std::ranges::count_if(word, [](char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; });
  return word.size() >= 8 && digits >= 2 && letters >= 2 && word.find("://") == std::string_view::npos;
}

void append_masked(std::string& out, std::string_view word) {
  std::string_view tail = word;
  while (!tail.empty() && (tail.back() == '.' || tail.back() == ':')) tail.remove_suffix(1);
  const std::string_view punctuation = word.substr(tail.size());
  if (tail.find('@') != std::string_view::npos) {
    out += "ADDRESS";
  } else if (routing::IpAddress::parse(tail)) {
    out += "IP";
  } else if (looks_like_id(tail)) {
    out += "ID";
  } else {
    for (const char c : tail) {
      if (!digit(c))
        out += c;
      else if (out.empty() || out.back() != '#')
        out += '#';
    }
  }
  out += punctuation;
}

/// Reply code and enhanced code say what kind of reply it is: they are kept as they are.
std::size_t length_of_codes(std::string_view reply) {
  if (reply.size() < 4 || !digit(reply[0]) || !digit(reply[1]) || !digit(reply[2])) return 0;
  std::size_t at = 4;
  std::size_t end = at;
  while (end < reply.size() && (digit(reply[end]) || reply[end] == '.')) ++end;
  const std::string_view enhanced = reply.substr(at, end - at);
  const bool is_code = enhanced.size() >= 5 && enhanced.size() <= 9 && std::ranges::count(enhanced, '.') == 2;
  return is_code ? end : at;
}

}  // namespace

std::string normalised_reply(std::string_view reply) {
  reply = reply.substr(0, longest);
  const std::size_t codes = length_of_codes(reply);
  std::string out(reply.substr(0, codes));
  for (std::size_t at = codes; at < reply.size();) {
    std::size_t end = at;
    while (end < reply.size() && in_word(reply[end])) ++end;
    if (end > at) {
      append_masked(out, reply.substr(at, end - at));
    } else {
      const char c = reply[at];
      const bool space = std::isspace(static_cast<unsigned char>(c)) != 0;
      if (!space)
        out += c;
      else if (!out.empty() && out.back() != ' ')
        out += ' ';
      ++end;
    }
    at = end;
  }
  return out;
}

void UnknownReplies::add(std::string_view reply, std::string_view provider, routing::Time now) {
  std::string text = normalised_reply(reply);
  const std::lock_guard lock(mutex_);
  auto it = replies_.find(text);
  if (it == replies_.end()) {
    if (replies_.size() >= kept)
      replies_.erase(std::ranges::min_element(
          replies_, {}, [](const auto& entry) { return std::pair(entry.second.count, entry.second.last_seen); }));
    it = replies_.emplace(text, UnknownReply{}).first;
    it->second.text = std::move(text);
    it->second.first_seen = now;
  }
  UnknownReply& entry = it->second;
  ++entry.count;
  entry.last_seen = now;
  entry.example = reply.substr(0, longest);
  entry.provider = provider.substr(0, longest);
}

std::vector<UnknownReply> UnknownReplies::all() const {
  std::vector<UnknownReply> out;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [text, reply] : replies_) out.push_back(reply);
  }
  std::ranges::stable_sort(out, std::greater{}, &UnknownReply::count);
  return out;
}

}  // namespace egret::relay
