#include "smtp/dkim_canonical.hpp"

#include <algorithm>
#include <cstring>

#include "smtp/text.hpp"

namespace egret::smtp {
namespace {

bool blank(char c) {
  return c == ' ' || c == '\t';
}

bool name_char(unsigned char c) {
  return c > 32 && c < 127 && c != ':';
}

std::uint64_t eight_octets(const char* at) {
  std::uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

/// The top bit of every octet of `word` that equals `c`, and no other bit.
std::uint64_t equal_octets(std::uint64_t word, char c) {
  constexpr std::uint64_t low = 0x7F7F7F7F7F7F7F7F;
  const std::uint64_t zero = word ^ 0x0101010101010101 * static_cast<unsigned char>(c);
  return ~(((zero & low) + low) | zero | low);
}

/// Whether a tab or two blanks in a row stand in `line`, so that it is not its own canonical form. The octet behind the
/// line must be readable; it is a CR.
bool has_blank_run(std::string_view line) {
  const auto spot = [](const char* at) {
    const std::uint64_t word = eight_octets(at);
    return equal_octets(word, '\t') | (equal_octets(word, ' ') & equal_octets(eight_octets(at + 1), ' '));
  };
  if (line.size() < 8) return line.find('\t') != std::string_view::npos || line.find("  ") != std::string_view::npos;
  const char* const last = line.data() + line.size() - 8;
  for (const char* at = line.data(); at < last; at += 8)
    if (spot(at)) return true;
  return spot(last) != 0;
}

/// Whether a line, with neither dot-stuffing nor CRLF, is in canonical form as it stands.
bool canonical(std::string_view line) {
  return line.front() != '.' && !blank(line.back()) && !has_blank_run(line);
}

/// Copies `line` to `out` with one blank for each run of them; returns the length. Without branches, as text that is indented
/// or aligned would make them all unpredictable.
std::size_t reduce_blanks(std::string_view line, char* out) {
  std::size_t length = 0;
  bool after_blank = false;
  for (const char c : line) {
    const bool is_blank = blank(c);
    out[length] = is_blank ? ' ' : c;
    length += !(is_blank && after_blank);
    after_blank = is_blank;
  }
  return length;
}

/// Splits the first line off `text`, without its CRLF.
std::string_view take_line(std::string_view& text) {
  const std::size_t end = text.find("\r\n");
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 2);
  return line;
}

}  // namespace

std::string unstuff(std::string_view wire) {
  std::string out;
  out.reserve(wire.size());
  while (!wire.empty()) {
    if (wire.front() == '.') wire.remove_prefix(1);
    const std::size_t end = wire.find("\r\n");
    const std::size_t length = end == std::string_view::npos ? wire.size() : end + 2;
    out += wire.substr(0, length);
    wire.remove_prefix(length);
  }
  return out;
}

std::optional<std::vector<HeaderField>> split_header(std::string_view content) {
  std::vector<HeaderField> fields;
  while (!content.empty()) {
    const std::string_view line = take_line(content);
    if (line.empty()) break;
    if (blank(line.front())) {
      if (fields.empty()) return std::nullopt;
      std::string_view& value = fields.back().value;
      value = {value.data(), static_cast<std::size_t>(line.data() + line.size() - value.data())};
      continue;
    }
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0) return std::nullopt;
    const std::string_view name = line.substr(0, line.find_last_not_of(" \t", colon - 1) + 1);
    if (!std::ranges::all_of(name, name_char)) return std::nullopt;
    fields.push_back({name, line.substr(colon + 1)});
  }
  return fields;
}

std::string relaxed_field(std::string_view name, std::string_view value) {
  std::string out = lower(name) + ':';
  const std::size_t start = out.size();
  while (!value.empty()) {
    const std::string_view line = take_line(value);
    for (std::size_t i = 0; i < line.size();) {
      const std::size_t word = std::min(line.find_first_not_of(" \t", i), line.size());
      const std::size_t end = std::min(line.find_first_of(" \t", word), line.size());
      if (word > i && word < line.size() && out.size() > start) out += ' ';
      out += line.substr(word, end - word);
      i = end;
    }
  }
  return out += "\r\n";
}

void RelaxedBody::update(std::string_view wire) {
  while (!wire.empty()) {
    if (line_start_) wire.remove_prefix(canonical_lines(wire));
    const std::size_t lf = wire.find('\n');
    const std::string_view line = wire.substr(0, lf == std::string_view::npos ? wire.size() : lf + 1);
    if (line_start_ && line.ends_with("\r\n") && line.size() <= buffer_.size())
      whole_line(line.substr(0, line.size() - 2));
    else
      part_of_line(line);
    wire.remove_prefix(line.size());
  }
}

void RelaxedBody::finish() {
  if (cr_) content("\r");
  if (has_content_) put("\r\n");
  flush();
}

/// Passes on the lines at the front of `wire` that are complete and in canonical form already, which most are, in one
/// piece. Returns their length.
std::size_t RelaxedBody::canonical_lines(std::string_view wire) {
  std::size_t read = 0;
  std::size_t wanted = 0;  // end of the last line that is not empty
  std::uint64_t empty = 0;
  while (read < wire.size()) {
    const void* found = std::memchr(wire.data() + read, '\n', wire.size() - read);
    if (!found) break;
    const std::size_t end = static_cast<std::size_t>(static_cast<const char*>(found) - wire.data());
    if (end == read || wire[end - 1] != '\r') break;
    const std::string_view line = wire.substr(read, end - 1 - read);
    if (line.empty()) {
      ++empty;
    } else if (canonical(line)) {
      empty = 0;
      wanted = end + 1;
    } else {
      break;
    }
    read = end + 1;
  }
  if (wanted > 0) {
    empty_lines();
    put(wire.substr(0, wanted));
  }
  empty_lines_ += empty;
  return read;
}

/// A complete line that fits into the buffer, without its CRLF.
void RelaxedBody::whole_line(std::string_view line) {
  if (line.starts_with('.')) line.remove_prefix(1);
  line = line.substr(0, line.find_last_not_of(" \t") + 1);
  if (line.empty()) {
    ++empty_lines_;
    return;
  }
  empty_lines();
  if (line.size() > buffer_.size() - buffered_) flush();
  buffered_ += reduce_blanks(line, buffer_.data() + buffered_);
  put("\r\n");
}

/// What whole_line() does, for any octets of one line: at most the last of them is LF.
void RelaxedBody::part_of_line(std::string_view wire) {
  for (std::size_t i = 0; i < wire.size();) {
    const char c = wire[i];
    if (cr_ && c == '\n') {
      end_line();
      ++i;
      continue;
    }
    if (cr_) content("\r");
    cr_ = c == '\r';
    const bool stuffing = line_start_ && c == '.';
    line_start_ = false;
    if (blank(c)) blank_ = true;
    if (cr_ || stuffing || blank(c)) {
      ++i;
      continue;
    }
    std::size_t end = i + 1;
    while (end < wire.size() && !blank(wire[end]) && wire[end] != '\r') ++end;
    content(wire.substr(i, end - i));
    i = end;
  }
}

void RelaxedBody::content(std::string_view run) {
  if (!has_content_) empty_lines();
  if (blank_) put(" ");
  put(run);
  has_content_ = true;
  blank_ = false;
}

void RelaxedBody::end_line() {
  if (has_content_)
    put("\r\n");
  else
    ++empty_lines_;
  line_start_ = true;
  has_content_ = blank_ = cr_ = false;
}

void RelaxedBody::empty_lines() {
  for (; empty_lines_ > 0; --empty_lines_) put("\r\n");
}

void RelaxedBody::put(std::string_view bytes) {
  if (bytes.size() > buffer_.size() - buffered_) flush();
  if (bytes.size() > buffer_.size()) return sink_(bytes);
  std::memcpy(buffer_.data() + buffered_, bytes.data(), bytes.size());
  buffered_ += bytes.size();
}

void RelaxedBody::flush() {
  if (buffered_ > 0) sink_({buffer_.data(), buffered_});
  buffered_ = 0;
}

}  // namespace egret::smtp
