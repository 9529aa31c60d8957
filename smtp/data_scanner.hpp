// The one file that knows the end of data (RFC 5321 section 4.1.1.4) and what may stand before it.
//
// Only CR LF . CR LF ends a message. Bare CR, bare LF and NUL are refused, or repaired for networks that the
// operator names: never passed on, because what one server takes for a line end and another does not is how mail is
// smuggled (CVE-2023-51764, -51765, -51766). In one pass the scanner also enforces line length and header size,
// counts Received fields and notes the header fields that classification and stripping need.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "smtp/body.hpp"

namespace egret::smtp {

struct DataLimits {
  std::uint64_t max_size = 50u << 20;   ///< octets of the message as the client sends it
  std::size_t max_line = 998;           ///< without CRLF, RFC 5321 section 4.5.3.1.6
  std::size_t max_header = 256 * 1024;  ///< octets of the header section
  int max_hops = 50;                    ///< Received fields; more is a loop (RFC 5321 section 6.3)
  bool repair = false;                  ///< bare CR and LF become CRLF instead of a refusal
  std::vector<std::string> wanted;      ///< lower-case names of header fields whose values are kept
  std::vector<std::string> strip;       ///< globs of header field names that must not travel on
};

enum class DataProblem { none, bare_line_end, nul, line_too_long, header_too_large, too_large, too_many_hops };

/// The reply for a message that was refused for `problem`, e.g. {554, "5.4.6 ..."}.
std::pair<int, std::string> data_refusal(DataProblem problem);

class DataScanner {
 public:
  /// `limits` must outlive the scanner.
  explicit DataScanner(const DataLimits& limits) : limits_(&limits) {}

  /// Consumes complete lines from the front of `in` and appends them in wire form to `out`. True when the end of
  /// data was consumed. An incomplete line stays in `in` while it is shorter than the limit, so the caller must
  /// offer it again with more bytes behind it.
  bool scan(std::string_view& in, Body& out);

  DataProblem problem() const { return problem_; }
  /// Header fields asked for, in order of appearance, unfolded and trimmed.
  const std::vector<std::pair<std::string, std::string>>& headers() const { return headers_; }
  const std::vector<Cut>& cuts() const { return cuts_; }
  /// Octets of the header section within the body, separator line excluded.
  std::uint64_t header_end() const { return header_end_; }
  bool eight_bit() const { return eight_bit_; }
  /// The header section itself holds octets above 127: only SMTPUTF8 may carry it (RFC 6532).
  bool eight_bit_header() const { return eight_bit_header_; }
  bool has_date() const { return has_date_; }
  bool has_message_id() const { return has_message_id_; }
  /// The first line starts with white space: there is no header section, and without a separator the line would
  /// read as the end of the trace field above it.
  bool needs_separator() const { return needs_separator_; }
  /// No empty line ends the header section: the body's first line does.
  bool ends_in_text() const { return ends_in_text_; }

 private:
  bool plain(std::string_view text, bool crlf) const;
  void store_plain(std::string_view lines, Body& out);
  void line(std::string_view text, bool crlf, Body& out);
  void header_line(std::string_view text, const Body& out, std::size_t stored);
  void store(std::string_view text, bool crlf, Body& out);
  void swallow(std::string_view& in);
  void fail(DataProblem problem) {
    if (problem_ == DataProblem::none) problem_ = problem;
  }

  const DataLimits* limits_;
  DataProblem problem_ = DataProblem::none;
  std::vector<std::pair<std::string, std::string>> headers_;
  std::vector<Cut> cuts_;
  std::uint64_t received_size_ = 0;
  std::uint64_t header_start_ = 0;
  std::uint64_t header_end_ = 0;
  int hops_ = 0;
  bool started_ = false;
  bool in_header_ = true;
  bool after_crlf_ = true;    // what precedes the current line is a true CRLF (or the start of data)
  bool mid_line_ = false;     // an over-long line is being swallowed
  bool last_was_cr_ = false;  // its last octet so far
  bool keeping_ = false;      // the current header field is wanted: continuation lines belong to it
  bool cutting_ = false;      // the current header field is cut
  bool eight_bit_ = false;
  bool eight_bit_header_ = false;
  bool has_date_ = false;
  bool has_message_id_ = false;
  bool needs_separator_ = false;
  bool ends_in_text_ = false;
};

}  // namespace egret::smtp
