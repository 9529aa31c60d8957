#include "smtp/data_scanner.hpp"

#include <algorithm>
#include <cstring>

#include "smtp/text.hpp"

namespace egret::smtp {
namespace {

bool contains(std::string_view text, char c) {
  return !text.empty() && std::memchr(text.data(), c, text.size()) != nullptr;
}

/// By words: this looks at every octet of every message.
bool has_eight_bit(std::string_view text) {
  std::uint64_t bits = 0;
  for (; text.size() >= sizeof bits; text.remove_prefix(sizeof bits)) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data(), sizeof word);
    bits |= word;
  }
  for (const char c : text) bits |= static_cast<unsigned char>(c);
  return bits & 0x8080808080808080;
}

/// The limit counts the line without the dot that transparency added (RFC 5321 section 4.5.3.1.6).
std::size_t line_limit(std::string_view text, const DataLimits& limits) {
  return limits.max_line + text.starts_with('.');
}

bool header_name_char(unsigned char c) {
  return c > 32 && c < 127 && c != ':';
}

}  // namespace

std::pair<int, std::string> data_refusal(DataProblem problem) {
  switch (problem) {
    case DataProblem::none:
      break;
    case DataProblem::bare_line_end:
      return {550, "5.6.11 bare CR or LF in the message: line ends must be CR LF"};
    case DataProblem::nul:
      return {550, "5.6.11 NUL in the message"};
    case DataProblem::line_too_long:
      return {550, "5.6.0 line longer than 998 octets"};
    case DataProblem::header_too_large:
      return {552, "5.3.4 header section too large"};
    case DataProblem::too_large:
      return {552, "5.3.4 message too large"};
    case DataProblem::too_many_hops:
      return {554, "5.4.6 too many Received fields: mail loop"};
  }
  return {250, "2.0.0 ok"};
}

bool DataScanner::scan(std::string_view& in, Body& out) {
  if (!started_) {
    started_ = true;
    header_start_ = header_end_ = out.size();
  }
  const char* run = in.data();  // plain lines not stored yet: up to the front of `in`
  const auto store_run = [&] {
    store_plain({run, static_cast<std::size_t>(in.data() - run)}, out);
    run = in.data();
  };
  while (!in.empty()) {
    if (mid_line_) {
      swallow(in);
      run = in.data();
      continue;
    }
    const void* found = std::memchr(in.data(), '\n', in.size());
    if (!found) {
      store_run();
      if (in.size() <= line_limit(in, *limits_) + 1) return false;
      fail(DataProblem::line_too_long);
      mid_line_ = true;
      continue;
    }
    const std::size_t length = static_cast<std::size_t>(static_cast<const char*>(found) - in.data());
    const bool crlf = length > 0 && in[length - 1] == '\r';
    const std::string_view text = in.substr(0, length - crlf);
    const bool end = after_crlf_ && crlf && text == ".";
    if (!end && plain(text, crlf)) {
      received_size_ += length + 1;
      in.remove_prefix(length + 1);
      continue;
    }
    store_run();
    in.remove_prefix(length + 1);
    run = in.data();
    if (end) {
      if (in_header_) header_end_ = out.size();
      return true;
    }
    received_size_ += length + 1;
    line(text, crlf, out);
    after_crlf_ = crlf;
  }
  store_run();
  return false;
}

/// Whether a line is stored as it came, and nothing is learnt from it: nearly every one behind the header section. NUL is
/// looked for in the whole run.
bool DataScanner::plain(std::string_view text, bool crlf) const {
  return crlf && after_crlf_ && !in_header_ && problem_ == DataProblem::none && text.size() <= limits_->max_line &&
         received_size_ + text.size() + 2 <= limits_->max_size && !contains(text, '\r');
}

void DataScanner::store_plain(std::string_view lines, Body& out) {
  const std::size_t nul = lines.find('\0');
  if (nul != std::string_view::npos) lines = lines.substr(0, lines.rfind('\n', nul) + 1);
  eight_bit_ = eight_bit_ || has_eight_bit(lines);
  out.append(lines);
  if (nul != std::string_view::npos) fail(DataProblem::nul);
}

void DataScanner::swallow(std::string_view& in) {
  const std::size_t end = in.find('\n');
  const std::size_t take = end == std::string_view::npos ? in.size() : end + 1;
  if (end != std::string_view::npos) {
    after_crlf_ = end > 0 ? in[end - 1] == '\r' : last_was_cr_;
    mid_line_ = false;
  }
  last_was_cr_ = in[take - 1] == '\r';
  received_size_ += take;
  in.remove_prefix(take);
}

void DataScanner::line(std::string_view text, bool crlf, Body& out) {
  // Length first: that is what is known first when the line comes in pieces.
  if (text.size() > line_limit(text, *limits_)) fail(DataProblem::line_too_long);
  if (contains(text, '\0')) fail(DataProblem::nul);
  const bool bare = !crlf || contains(text, '\r');
  if (bare && !limits_->repair) fail(DataProblem::bare_line_end);
  if (received_size_ > limits_->max_size) fail(DataProblem::too_large);
  if (problem_ != DataProblem::none) return;
  if (!bare) {
    store(text, after_crlf_, out);
    return;
  }
  // Repair: every bare CR ends a line too; the pieces after the first do not start behind a CRLF of the client's.
  bool at_crlf = after_crlf_;
  while (true) {
    const std::size_t cr = text.find('\r');
    store(text.substr(0, cr), at_crlf, out);
    at_crlf = false;
    if (cr == std::string_view::npos) break;
    text.remove_prefix(cr + 1);
  }
}

/// Appends one line. `crlf` says that the client's own CRLF precedes it, so that its dots are stuffed already;
/// behind a repaired line end a single leading dot is content that the client did not stuff. A lone dot that did not
/// end the data (its own line end was repaired) must never become a dot line for the next server.
void DataScanner::store(std::string_view text, bool crlf, Body& out) {
  const bool stuff = text == "." || (!crlf && text.starts_with('.') && !text.starts_with(".."));
  const bool eight_bit = has_eight_bit(text);
  eight_bit_ = eight_bit_ || eight_bit;
  const std::size_t stored = text.size() + 2 + stuff;
  if (in_header_) header_line(text.starts_with('.') && !stuff ? text.substr(1) : text, out, stored);
  eight_bit_header_ = eight_bit_header_ || (in_header_ && eight_bit);
  if (problem_ != DataProblem::none) return;
  if (stuff) out.append(".");
  // A complete CRLF line is contiguous in the input, its line end included, so one copy is enough.
  if (!stuff && crlf && text.data()[text.size()] == '\r' && text.data()[text.size() + 1] == '\n') {
    out.append({text.data(), text.size() + 2});
  } else {
    out.append(text);
    out.append("\r\n");
  }
}

/// `text` is the content, its stuffing undone: what every later reader of the header sees.
void DataScanner::header_line(std::string_view text, const Body& out, std::size_t stored) {
  const std::uint64_t offset = out.size();
  const bool continuation = !text.empty() && (text.front() == ' ' || text.front() == '\t');
  if (continuation && offset > header_start_) {
    if (keeping_ && headers_.back().second.size() < 8192) {
      headers_.back().second += ' ';
      headers_.back().second += trim(text);
    }
    if (cutting_) cuts_.back().length += static_cast<std::uint32_t>(stored);
  } else {
    const std::size_t colon = text.find(':');
    std::string_view name = trim(text.substr(0, colon == std::string_view::npos ? 0 : colon));
    needs_separator_ = continuation;
    if (continuation || name.empty() || !std::ranges::all_of(name, header_name_char)) {
      ends_in_text_ = !text.empty();
      in_header_ = false;  // the empty line, or a line that cannot be a field: the body starts here
      header_end_ = offset;
      return;
    }
    if (iequals(name, "received") && ++hops_ > limits_->max_hops) return fail(DataProblem::too_many_hops);
    has_date_ = has_date_ || iequals(name, "date");
    has_message_id_ = has_message_id_ || iequals(name, "message-id");
    const auto wanted = [&](const std::string& w) { return iequals(w, name); };
    keeping_ = headers_.size() < 100 && std::ranges::any_of(limits_->wanted, wanted);
    if (keeping_) headers_.emplace_back(lower(name), std::string(trim(text.substr(colon + 1))));
    cutting_ = std::ranges::any_of(limits_->strip, [&](const std::string& glob) { return glob_match(glob, name); });
    if (cutting_) cuts_.push_back({offset, static_cast<std::uint32_t>(stored)});
  }
  header_end_ = offset + stored;
  if (header_end_ - header_start_ > limits_->max_header) fail(DataProblem::header_too_large);
}

}  // namespace egret::smtp
