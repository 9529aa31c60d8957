// SMTP replies (RFC 5321 section 4.2) and enhanced status codes (RFC 3463).
//
// A reply comes from a remote peer and is hostile until parsed: its line length, number of lines and total size are
// bounded, control characters are replaced, and whatever breaks the grammar is `malformed`, which callers treat as a
// temporary protocol error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace egret::smtp {

/// An enhanced status code, RFC 3463: class.subject.detail.
struct EnhancedCode {
  std::uint16_t klass = 0;    ///< 2, 4 or 5
  std::uint16_t subject = 0;  ///< 0 to 999
  std::uint16_t detail = 0;   ///< 0 to 999

  bool operator==(const EnhancedCode&) const = default;
  std::string to_string() const;
};

/// Parses "5.7.1" at the start of `text`, followed by white space or the end; `rest` receives what follows.
std::optional<EnhancedCode> parse_enhanced_code(std::string_view text, std::string_view* rest = nullptr);

/// One complete reply. `lines` hold the text after the three digits and the separator, enhanced code included.
struct Reply {
  int code = 0;
  std::vector<std::string> lines;

  bool positive() const { return code >= 200 && code < 400; }
  bool transient() const { return code >= 400 && code < 500; }
  bool permanent() const { return code >= 500; }

  /// The enhanced code of the first line that has one.
  std::optional<EnhancedCode> enhanced() const;
  /// The texts without enhanced codes, joined by one space each: what reply rules are matched against.
  std::string text() const;
  /// "550-5.7.1 first\n550 5.7.1 second": for logs, DSNs and the API. Never contains CR or other controls.
  std::string to_string() const;
};

/// Makes a one-line reply of our own making.
Reply make_reply(int code, std::string text);

/// Reads what Reply::to_string wrote. A text of another form becomes one line with the code 451.
Reply parse_reply(std::string_view text);

/// The text that reply rules see, of a reply in the form of Reply::to_string (a code at the start of a line is
/// optional). `code` is 0 where no line has one. White space is collapsed and the text cut to 2048 bytes.
struct ReplyText {
  int code = 0;
  std::optional<EnhancedCode> enhanced;
  std::string text;
};
ReplyText reply_text(std::string_view reply);

/// Splits a byte stream into replies. Bytes are pushed as they arrive, in any chunking.
class ReplyParser {
 public:
  enum class Status { need_more, complete, malformed };

  static constexpr std::size_t max_line = 2048;
  static constexpr std::size_t max_lines = 128;
  static constexpr std::size_t max_bytes = 64 * 1024;

  /// Consumes bytes from the front of `in` up to the end of one reply. After `complete`, take() hands it out.
  /// After `malformed` the connection is of no more use; error() says what was wrong.
  Status feed(std::string_view& in);
  Reply take();
  const std::string& error() const { return error_; }

 private:
  Status line_done();
  Status fail(std::string what);

  std::string line_;
  Reply reply_;
  std::size_t bytes_ = 0;
  std::string error_;
};

}  // namespace egret::smtp
