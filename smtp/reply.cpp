#include "smtp/reply.hpp"

#include <algorithm>

#include "smtp/text.hpp"

namespace egret::smtp {
namespace {

bool digit(char c) {
  return c >= '0' && c <= '9';
}

/// Reads 1 to 3 digits from the front of `text`.
std::optional<std::uint16_t> number(std::string_view& text) {
  std::uint16_t value = 0;
  std::size_t n = 0;
  while (n < text.size() && n < 3 && digit(text[n])) value = static_cast<std::uint16_t>(value * 10 + (text[n++] - '0'));
  if (n == 0) return std::nullopt;
  text.remove_prefix(n);
  return value;
}

bool eat_dot(std::string_view& text) {
  if (text.empty() || text.front() != '.') return false;
  text.remove_prefix(1);
  return true;
}

/// The code at the start of a reply line, or 0; `line` is left at what follows the separator.
int line_code(std::string_view& line) {
  if (line.size() < 3 || !digit(line[0]) || !digit(line[1]) || !digit(line[2])) return 0;
  if (line.size() > 3 && line[3] != ' ' && line[3] != '-') return 0;
  const int code = (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
  line.remove_prefix(std::min<std::size_t>(4, line.size()));
  return code;
}

void append_collapsed(std::string& out, std::string_view text) {
  bool space = !out.empty();
  for (const char c : text) {
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
      space = !out.empty();
    } else {
      if (space) out += ' ';
      space = false;
      out += c;
    }
  }
}

}  // namespace

std::string EnhancedCode::to_string() const {
  return std::to_string(klass) + '.' + std::to_string(subject) + '.' + std::to_string(detail);
}

std::optional<EnhancedCode> parse_enhanced_code(std::string_view text, std::string_view* rest) {
  if (text.size() < 5 || (text[0] != '2' && text[0] != '4' && text[0] != '5') || text[1] != '.') return std::nullopt;
  EnhancedCode code;
  code.klass = static_cast<std::uint16_t>(text[0] - '0');
  text.remove_prefix(2);
  const auto subject = number(text);
  if (!subject || !eat_dot(text)) return std::nullopt;
  const auto detail = number(text);
  if (!detail || (!text.empty() && text.front() != ' ' && text.front() != '\t')) return std::nullopt;
  code.subject = *subject;
  code.detail = *detail;
  if (rest) *rest = text.empty() ? text : text.substr(1);
  return code;
}

std::optional<EnhancedCode> Reply::enhanced() const {
  for (const auto& line : lines)
    if (auto found = parse_enhanced_code(line)) return found;
  return std::nullopt;
}

std::string Reply::text() const {
  return reply_text(to_string()).text;
}

std::string Reply::to_string() const {
  std::string out;
  const std::string digits = std::to_string(code);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i) out += '\n';
    out += digits;
    out += i + 1 < lines.size() ? '-' : ' ';
    out += lines[i];
  }
  if (lines.empty()) out = digits;
  return out;
}

Reply make_reply(int code, std::string text) {
  Reply reply;
  reply.code = code;
  reply.lines.push_back(std::move(text));
  return reply;
}

Reply parse_reply(std::string_view text) {
  std::string wire = std::string(text) + '\n';
  // A reply that was cut in the middle ends with its last line all the same.
  const std::size_t last = text.rfind('\n') + 1;
  if (text.size() > last + 3 && text[last + 3] == '-') wire[last + 3] = ' ';
  ReplyParser parser;
  std::string_view in = wire;
  if (parser.feed(in) == ReplyParser::Status::complete && in.empty()) return parser.take();
  return make_reply(451, printable(text));
}

ReplyText reply_text(std::string_view reply) {
  ReplyText out;
  while (!reply.empty()) {
    const std::size_t end = reply.find('\n');
    std::string_view line = reply.substr(0, end);
    reply.remove_prefix(end == std::string_view::npos ? reply.size() : end + 1);
    if (const int code = line_code(line); code && !out.code) out.code = code;
    std::string_view rest;
    if (const auto enhanced = parse_enhanced_code(line, &rest)) {
      if (!out.enhanced) out.enhanced = enhanced;
      line = rest;
    }
    append_collapsed(out.text, line);
    if (out.text.size() > 2048) break;
  }
  out.text.resize(cut_text(out.text, 2048).size());
  return out;
}

ReplyParser::Status ReplyParser::feed(std::string_view& in) {
  if (!error_.empty()) return Status::malformed;
  while (!in.empty()) {
    const std::size_t end = in.find('\n');
    const std::size_t take = end == std::string_view::npos ? in.size() : end + 1;
    bytes_ += take;
    if (line_.size() + take > max_line) return fail("reply line too long");
    if (bytes_ > max_bytes) return fail("reply too large");
    line_.append(in.substr(0, take));
    in.remove_prefix(take);
    if (end == std::string_view::npos) break;
    const Status status = line_done();
    if (status != Status::need_more) return status;
  }
  return Status::need_more;
}

ReplyParser::Status ReplyParser::line_done() {
  // A bare LF ends a reply line too: several devices send it, and nothing is decided by it.
  line_.pop_back();
  if (!line_.empty() && line_.back() == '\r') line_.pop_back();
  std::string_view view = line_;
  const bool last = view.size() <= 3 || view[3] == ' ';
  const int code = line_code(view);
  if (code < 200 || code > 599) return fail("not an SMTP reply: " + printable(line_.substr(0, 80)));
  if (reply_.code && reply_.code != code) return fail("reply lines with different codes");
  if (line_.find('\0') != std::string::npos) return fail("NUL in a reply");
  reply_.code = code;
  if (reply_.lines.size() >= max_lines) return fail("reply with too many lines");
  reply_.lines.push_back(printable(view));
  line_.clear();
  return last ? Status::complete : Status::need_more;
}

ReplyParser::Status ReplyParser::fail(std::string what) {
  error_ = std::move(what);
  return Status::malformed;
}

Reply ReplyParser::take() {
  Reply out = std::move(reply_);
  reply_ = {};
  bytes_ = 0;
  return out;
}

}  // namespace egret::smtp
