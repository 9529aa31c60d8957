#include "smtp/mime_convert.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <map>
#include <utility>

#include "smtp/mime_encode.hpp"
#include "smtp/text.hpp"

namespace egret::smtp {
namespace {

constexpr std::size_t max_boundary = 70;  // RFC 2046 section 5.1.1
constexpr std::string_view crlf = "\r\n";

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

bool eight_bit(char c) {
  return (static_cast<std::uint8_t>(c) & 0x80) != 0;
}

/// Eight octets at a time: every level of nesting asks again.
bool has_eight_bit(std::string_view text) {
  constexpr std::uint64_t high_bits = 0x8080808080808080u;
  for (; text.size() >= sizeof high_bits; text.remove_prefix(sizeof high_bits)) {
    std::uint64_t word;
    std::memcpy(&word, text.data(), sizeof word);
    if (word & high_bits) return true;
  }
  return std::any_of(text.begin(), text.end(), eight_bit);
}

/// Reads a structured field value (RFC 2045 section 5.1), folded as it stands in the header.
class ValueReader {
 public:
  explicit ValueReader(std::string_view text) : text_(text) {}

  bool take(char c) {
    skip_blanks_and_comments();
    if (text_.empty() || text_.front() != c) return false;
    text_.remove_prefix(1);
    return true;
  }

  std::string_view token() {
    skip_blanks_and_comments();
    return take_until(" \t\r\n()<>@,;:\\\"/[]?=");
  }

  /// A token or quoted string. Unquoted "=", "/" and the like are let pass: boundaries are often written so.
  /// nullopt for a quoted string without an end.
  std::optional<std::string> parameter_value() {
    skip_blanks_and_comments();
    if (text_.starts_with('"')) return quoted_string();
    return std::string(take_until(" \t\r\n;(\""));
  }

  /// Goes behind the next ";", over whatever stands before it. False at the end.
  bool next_parameter() {
    while (!take(';')) {
      if (text_.empty()) return false;
      if (text_.starts_with('"'))
        quoted_string();
      else
        text_.remove_prefix(1);
    }
    return true;
  }

 private:
  void skip_blanks_and_comments() {
    int depth = 0;
    while (!text_.empty()) {
      const char c = text_.front();
      if (depth > 0 && c == '\\')
        text_.remove_prefix(1);
      else if (c == '(')
        ++depth;
      else if (depth > 0 && c == ')')
        --depth;
      else if (depth == 0 && !is_blank(c))
        return;
      text_.remove_prefix(std::min<std::size_t>(1, text_.size()));
    }
  }

  std::string_view take_until(std::string_view stops) {
    const std::string_view taken = text_.substr(0, text_.find_first_of(stops));
    text_.remove_prefix(taken.size());
    return taken;
  }

  std::optional<std::string> quoted_string() {
    std::string out;
    for (std::size_t i = 1; i < text_.size(); ++i) {
      if (text_[i] == '"') {
        text_.remove_prefix(i + 1);
        return out;
      }
      if (text_[i] == '\r' || text_[i] == '\n') continue;  // unfolding, RFC 5322 section 2.2.3
      if (text_[i] == '\\' && i + 1 < text_.size()) ++i;
      out += text_[i];
    }
    text_ = {};
    return std::nullopt;
  }

  std::string_view text_;
};

/// Collects the boundary, which may come in numbered and percent-encoded pieces (RFC 2231 sections 3 and 4).
class BoundaryParameter {
 public:
  /// `name` in lower case, as in "boundary", "boundary*", "boundary*0", "boundary*0*".
  void add(std::string_view name, std::optional<std::string> value) {
    constexpr std::string_view base = "boundary";
    if (!name.starts_with(base)) return;
    name.remove_prefix(base.size());
    if (!name.empty() && name.front() != '*') return;
    const bool encoded = name.ends_with('*');
    if (encoded) name.remove_suffix(1);
    std::size_t number = 0;
    if (name.empty()) {
      whole_ = true;
    } else {
      name.remove_prefix(1);
      const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
      if (error != std::errc() || end != name.data() + name.size() || number > max_boundary) return;
    }
    if (!value || (encoded && !decode(*value, number == 0))) usable_ = false;
    // Two boundaries, or one in pieces and one whole: readers would not agree on which is meant.
    if (value && !pieces_.emplace(number, std::move(*value)).second) usable_ = false;
  }

  std::optional<std::string> result() const {
    std::string out;
    std::size_t expected = 0;
    for (const auto& [number, piece] : pieces_) {
      if (number != expected++) return std::nullopt;
      out += piece;
    }
    const auto printable_ascii = [](char c) { return c >= ' ' && c <= '~'; };
    const bool agreed = usable_ && (!whole_ || pieces_.size() == 1);
    const bool valid =
        !out.empty() && out.size() <= max_boundary && out.back() != ' ' && std::all_of(out.begin(), out.end(), printable_ascii);
    return agreed && valid ? std::optional(out) : std::nullopt;
  }

 private:
  /// Undoes the percent encoding, behind the charset and language of the first piece. False if it is malformed.
  static bool decode(std::string& value, bool first) {
    std::string_view text = value;
    for (int quotes = first ? 2 : 0; quotes > 0; --quotes) {
      const std::size_t quote = text.find('\'');
      if (quote == std::string_view::npos) return false;
      text.remove_prefix(quote + 1);
    }
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '%') {
        out += text[i];
        continue;
      }
      std::uint8_t octet = 0;
      const char* const digits = text.data() + i + 1;
      if (i + 2 >= text.size() || std::from_chars(digits, digits + 2, octet, 16).ptr != digits + 2) return false;
      out += static_cast<char>(octet);
      i += 2;
    }
    value = std::move(out);
    return true;
  }

  std::map<std::size_t, std::string> pieces_;
  bool whole_ = false;  // one of them is the whole value
  bool usable_ = true;
};

struct MediaType {
  std::string type = "text";
  std::string subtype = "plain";
  std::optional<std::string> boundary;
};

/// What cannot be read is text/plain (RFC 2045 section 5.2).
MediaType parse_media_type(std::string_view value) {
  ValueReader reader(value);
  const std::string_view type = reader.token();
  const bool slash = reader.take('/');
  const std::string_view subtype = reader.token();
  if (type.empty() || !slash || subtype.empty()) return {};
  BoundaryParameter boundary;
  while (reader.next_parameter()) {
    const std::string name = lower(reader.token());
    if (reader.take('=')) boundary.add(name, reader.parameter_value());
  }
  return {lower(type), lower(subtype), boundary.result()};
}

/// A header field with all its lines.
struct Field {
  std::size_t begin = 0;
  std::size_t end = 0;  ///< behind the last CRLF
  std::string_view value;
};

/// The fields of a header that matter here.
struct Header {
  std::string_view text;  ///< all fields, without the empty line
  std::string_view body;  ///< what follows the empty line
  std::optional<Field> content_type;
  std::optional<Field> transfer_encoding;
  std::optional<Field> mime_version;
  bool ambiguous = false;  ///< one of the three stands twice
};

/// The end of the field that begins at `at`: behind the CRLF that no blank follows.
std::size_t field_end(std::string_view text, std::size_t at) {
  for (;;) {
    const std::size_t end = text.find(crlf, at);
    if (end == std::string_view::npos) return text.size();
    at = end + crlf.size();
    if (at == text.size() || (text[at] != ' ' && text[at] != '\t')) return at;
  }
}

/// The name of the field that begins `line`; empty if it is none.
std::string_view field_name(std::string_view line) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || is_blank(line.front())) return {};
  const std::string_view name = trim(line.substr(0, colon));
  const auto legal = [](char c) { return c > ' ' && c <= '~'; };
  return std::all_of(name.begin(), name.end(), legal) ? name : std::string_view();
}

/// Splits an entity. As in DataScanner the header ends at an empty line or before a line that is no field.
Header parse_header(std::string_view text) {
  Header out;
  std::size_t at = 0;
  while (at < text.size()) {
    Field field{at, field_end(text, at), {}};
    const std::string_view line = text.substr(at, field.end - at);
    const std::string_view name = field_name(line);
    if (name.empty()) break;
    at = field.end;
    std::optional<Field>* const slot = iequals(name, "Content-Type")                ? &out.content_type
                                       : iequals(name, "Content-Transfer-Encoding") ? &out.transfer_encoding
                                       : iequals(name, "MIME-Version")              ? &out.mime_version
                                                                                    : nullptr;
    if (!slot) continue;
    if (*slot) out.ambiguous = true;
    field.value = line.substr(line.find(':') + 1);
    *slot = field;
  }
  out.text = text.substr(0, at);
  out.body = text.substr(at);
  if (out.body.starts_with(crlf)) out.body.remove_prefix(crlf.size());
  return out;
}

enum class Encoding { identity, encoded, unknown };

Encoding transfer_encoding(const Header& header) {
  if (!header.transfer_encoding || trim(header.transfer_encoding->value).empty()) return Encoding::identity;
  const std::string_view name = ValueReader(header.transfer_encoding->value).token();
  if (iequals(name, "7bit") || iequals(name, "8bit") || iequals(name, "binary")) return Encoding::identity;
  if (iequals(name, "quoted-printable") || iequals(name, "base64")) return Encoding::encoded;
  return Encoding::unknown;
}

/// A delimiter line of a multipart (RFC 2046 section 5.1.1).
struct Delimiter {
  std::size_t begin = 0;
  std::size_t end = 0;  ///< behind its CRLF
  bool closing = false;
};

std::optional<Delimiter> delimiter_at(std::string_view body, std::size_t at, std::string_view boundary) {
  std::string_view rest = body.substr(at);
  if (!rest.starts_with("--") || !rest.substr(2).starts_with(boundary)) return std::nullopt;
  rest.remove_prefix(2 + boundary.size());
  const bool closing = rest.starts_with("--");
  if (closing) rest.remove_prefix(2);
  rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
  if (!rest.empty() && !rest.starts_with(crlf)) return std::nullopt;
  return Delimiter{at, body.size() - rest.size() + (rest.empty() ? 0 : crlf.size()), closing};
}

/// The first delimiter in `body` at or behind `at`, which is the start of a line.
std::optional<Delimiter> find_delimiter(std::string_view body, std::size_t at, std::string_view boundary) {
  for (;;) {
    if (const auto delimiter = delimiter_at(body, at, boundary)) return delimiter;
    const std::size_t line_end = body.find("\r\n--", at);
    if (line_end == std::string_view::npos) return std::nullopt;
    at = line_end + crlf.size();
  }
}

/// Where an entity stands; it decides what a missing header field means.
enum class Place { message, part, digest_part };

/// Walks the tree of parts and writes the converted message. Every step is false when the message is refused.
class Converter {
 public:
  explicit Converter(std::size_t limit) : limit_(limit) {}

  bool entity(std::string_view text, Place place, int depth);
  std::string& out() { return out_; }
  std::string_view why() const { return why_; }

 private:
  bool body(const Header& fields, Place place, int depth);
  bool leaf(const Header& fields, bool is_text, Place place);
  bool multipart(std::string_view text, const std::string& boundary, Place place, int depth);
  void header(const Header& fields, Place place, std::string_view encoding);
  void unread(std::string_view text);
  bool keep(std::string_view text);
  bool refuse(std::string_view why);

  std::size_t limit_;
  std::string out_;
  std::string_view why_;
  int parts_ = 0;
};

bool Converter::refuse(std::string_view why) {
  why_ = why;
  return false;
}

bool Converter::keep(std::string_view text) {
  out_ += text;
  return out_.size() <= limit_ || refuse("it would grow too much in conversion to 7-bit");
}

bool Converter::entity(std::string_view text, Place place, int depth) {
  if (!has_eight_bit(text)) return keep(text);
  if (depth > max_mime_depth) return refuse("its parts are nested too deep");
  const Header fields = parse_header(text);
  if (has_eight_bit(fields.text)) return refuse("8-bit octets in the header need SMTPUTF8");
  // Which of two counts is up to each reader: an encoding that some of them miss would be damage.
  if (fields.ambiguous) return refuse("a MIME header field stands twice");
  switch (transfer_encoding(fields)) {
    case Encoding::identity:
      return body(fields, place, depth);
    case Encoding::encoded:
      return refuse("an encoded part holds raw 8-bit octets");
    case Encoding::unknown:
      return refuse("a part in an unknown transfer encoding holds 8-bit octets");
  }
  return false;
}

/// The body holds at least one 8-bit octet.
bool Converter::body(const Header& fields, Place place, int depth) {
  MediaType media;
  if (fields.content_type)
    media = parse_media_type(fields.content_type->value);
  else if (place == Place::digest_part)
    media = {"message", "rfc822", {}};  // RFC 2046 section 5.1.5

  if (media.type == "multipart") {
    if (media.subtype == "signed") return refuse("a signed part holds 8-bit octets");
    if (media.subtype == "encrypted") return refuse("an encrypted part holds 8-bit octets");
    if (!media.boundary) return refuse("a multipart has no usable boundary");
    header(fields, place, "7bit");
    return multipart(fields.body, *media.boundary, media.subtype == "digest" ? Place::digest_part : Place::part, depth);
  }
  if (media.type == "message") {
    if (media.subtype == "partial") return refuse("a message fragment holds 8-bit octets");
    if (media.subtype == "external-body") return refuse("a reference to an external body holds 8-bit octets");
    if (media.subtype == "rfc822") {
      header(fields, place, "7bit");
      return entity(fields.body, Place::message, depth + 1);
    }
  }
  return leaf(fields, media.type == "text", place);
}

bool Converter::leaf(const Header& fields, bool is_text, Place place) {
  header(fields, place, is_text ? "quoted-printable" : "base64");
  if (is_text)
    append_quoted_printable(fields.body, out_);
  else
    append_base64_lines(fields.body, out_);
  return keep({});
}

bool Converter::multipart(std::string_view text, const std::string& boundary, Place place, int depth) {
  std::optional<Delimiter> at = find_delimiter(text, 0, boundary);
  // All of it would be preamble, but programs that are lenient show it: it must not be thrown away.
  if (!at || at->closing) return refuse("a multipart lacks its delimiter");
  unread(text.substr(0, at->begin));
  while (!at->closing) {
    if (!keep(text.substr(at->begin, at->end - at->begin))) return false;
    if (++parts_ > max_mime_parts) return refuse("it has too many parts");
    const std::optional<Delimiter> next = find_delimiter(text, at->end, boundary);
    if (!next) return entity(text.substr(at->end), place, depth + 1);
    // The CRLF before a delimiter belongs to it, unless it already ends the delimiter before.
    const std::size_t end = next->begin > at->end ? next->begin - crlf.size() : at->end;
    if (!entity(text.substr(at->end, end - at->end), place, depth + 1)) return false;
    out_ += text.substr(end, next->begin - end);
    at = next;
  }
  out_ += text.substr(at->begin, at->end - at->begin);
  unread(text.substr(at->end));
  return keep({});
}

/// The header with its empty line, and with a transfer encoding that fits.
void Converter::header(const Header& fields, Place place, std::string_view encoding) {
  const auto encoding_field = [&] { out_.append("Content-Transfer-Encoding: ").append(encoding).append(crlf); };
  if (const auto& old = fields.transfer_encoding) {
    out_ += fields.text.substr(0, old->begin);
    encoding_field();
    out_ += fields.text.substr(old->end);
  } else {
    out_ += fields.text;
  }
  if (place == Place::message) {
    if (!fields.mime_version) out_ += "MIME-Version: 1.0\r\n";
    if (!fields.content_type)
      out_.append("Content-Type: text/plain; charset=").append(valid_utf8(fields.body) ? "utf-8" : "unknown-8bit").append(crlf);
  }
  // 7bit is the default: a multipart that never said otherwise needs no label.
  if (!fields.transfer_encoding && encoding != "7bit") encoding_field();
  out_ += crlf;
}

/// Preamble and epilogue (RFC 2046 section 5.1.1). A line that begins with "--" loses that as well when it is
/// changed, or the '?' could make a delimiter of it.
void Converter::unread(std::string_view text) {
  std::size_t line = out_.size();
  out_ += text;
  for (std::size_t i = line; i < out_.size(); ++i) {
    if (eight_bit(out_[i])) {
      out_[i] = '?';
      if (out_.compare(line, 2, "--") == 0) out_[line] = '?';
    } else if (out_[i] == '\n') {
      line = i + 1;
    }
  }
}

}  // namespace

std::optional<std::string> to_seven_bit(std::string_view message, std::string& why) {
  Converter converter(message.size() * max_mime_growth + mime_growth_allowance);
  if (!converter.entity(message, Place::message, 1)) {
    why = converter.why();
    return std::nullopt;
  }
  std::string out = std::move(converter.out());
  if (message.ends_with(crlf) && !out.ends_with(crlf)) out += crlf;  // base64 keeps the last line end inside
  return out;
}

}  // namespace egret::smtp
