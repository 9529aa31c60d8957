// The end of data against a naive model (RFC 5321 sections 4.1.1.4 and 4.5.2): where the message ends, what is refused, and
// what a receiver gets out of the stored form.
#include <optional>
#include <vector>

#include "smtp/data_scanner.hpp"
#include "smtp/text.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace egret::fuzz {
namespace {

using namespace smtp;

/// A scanner that was given a stream in pieces, and what it made of it.
struct Scan {
  Scan(const DataLimits& limits, std::string_view stream, std::uint32_t seed) : scanner(limits) {
    Reader reader;
    Body out;
    std::size_t after = 0;
    Pieces(seed).each(stream, [&](std::string_view piece) {
      if (ended) {
        after += piece.size();
        return;
      }
      reader.offer(piece, [&](std::string_view& in) { ended = scanner.scan(in, out); });
      require(ended || reader.pending().size() <= limits.max_line + 2, "only one line is held back");
    });
    left = reader.pending().size() + after;
    body = out.flat();
  }

  DataScanner scanner;
  bool ended = false;
  std::size_t left = 0;  // octets behind the end of data, or of an incomplete line
  std::string body;
};

void check_same(const Scan& a, const Scan& b) {
  const DataScanner &x = a.scanner, &y = b.scanner;
  require(a.ended == b.ended && a.body == b.body && x.problem() == y.problem(), "pieces change nothing");
  require(!a.ended || a.left == b.left, "pieces do not move the end of data");
  require(x.headers() == y.headers() && x.cuts() == y.cuts() && x.header_end() == y.header_end(),
          "pieces do not change the header");
  require(x.eight_bit() == y.eight_bit() && x.eight_bit_header() == y.eight_bit_header() && x.has_date() == y.has_date() &&
              x.has_message_id() == y.has_message_id() && x.needs_separator() == y.needs_separator(),
          "pieces do not change what was noted");
}

/// The message as the client meant it.
struct Model {
  std::optional<std::size_t> end;  // offset of the final dot line
  DataProblem problem = DataProblem::none;
  std::vector<std::string> lines;  // content, without stuffing
};

DataProblem line_problem(std::string_view text, bool crlf, std::size_t so_far, const DataLimits& limits) {
  const bool bare = !crlf || text.find('\r') != std::string_view::npos;
  if (text.size() > limits.max_line + text.starts_with('.')) return DataProblem::line_too_long;
  if (text.find('\0') != std::string_view::npos) return DataProblem::nul;
  if (bare && !limits.repair) return DataProblem::bare_line_end;
  return so_far > limits.max_size ? DataProblem::too_large : DataProblem::none;
}

/// The lines that the repaired text of one line becomes. Behind a CRLF the client stuffed; behind a bare line end a single dot
/// is taken for content.
void add_lines(Model& model, std::string_view text, bool after_crlf) {
  for (bool first = true;; first = false) {
    const std::size_t cr = text.find('\r');
    std::string_view line = text.substr(0, cr);
    // ".CRLF" that ends nothing because of what is before it, or after it, is a line of content.
    const bool lone = line == ".";
    const bool stuffed = first && after_crlf ? line.starts_with('.') && !lone : line.starts_with("..");
    if (stuffed) line.remove_prefix(1);
    model.lines.emplace_back(line);
    if (cr == std::string_view::npos) break;
    text.remove_prefix(cr + 1);
  }
}

Model model_of(std::string_view stream, const DataLimits& limits) {
  Model model;
  const std::size_t end = ("\r\n" + std::string(stream)).find("\r\n.\r\n");
  if (end != std::string::npos) model.end = end;
  const std::size_t all = model.end.value_or(stream.size());
  bool after_crlf = true;
  for (std::size_t at = 0; at < all && model.problem == DataProblem::none;) {
    const std::size_t lf = stream.find('\n', at);
    if (lf == std::string_view::npos) {
      if (stream.size() - at > limits.max_line + (stream[at] == '.') + 1) model.problem = DataProblem::line_too_long;
      break;
    }
    const bool crlf = lf > at && stream[lf - 1] == '\r';
    const std::string_view text = stream.substr(at, lf - at - crlf);
    model.problem = line_problem(text, crlf, lf + 1, limits);
    if (model.problem == DataProblem::none) add_lines(model, text, after_crlf);
    after_crlf = crlf;
    at = lf + 1;
  }
  return model;
}

/// What the receiver of a stored body reads.
std::vector<std::string> received(std::string_view body) {
  std::vector<std::string> out;
  while (!body.empty()) {
    std::string_view line = next_line(body);
    line.remove_suffix(1);
    require(line != ".", "the stored form holds no line of a single dot");
    if (line.starts_with('.')) line.remove_prefix(1);
    out.emplace_back(line);
  }
  return out;
}

/// Fields of a header section, naively: name in lower case and unfolded value.
std::vector<std::pair<std::string, std::string>> fields_of(const std::vector<std::string>& lines) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const std::string& line : lines) {
    const bool blank = line.starts_with(' ') || line.starts_with('\t');
    require(!blank || !out.empty(), "a header section does not begin with a folded line");
    if (blank) {
      if (out.back().second.size() < 8192) out.back().second += ' ' + std::string(trim(line));
      continue;
    }
    const std::size_t colon = line.find(':');
    require(colon != std::string::npos, "every line of the header section belongs to a field");
    out.emplace_back(lower(trim(std::string_view(line).substr(0, colon))), trim(std::string_view(line).substr(colon + 1)));
  }
  return out;
}

bool wanted(const std::string& name, const DataLimits& limits) {
  return std::ranges::find(limits.wanted, name) != limits.wanted.end();
}

bool stripped(const std::string& name, const DataLimits& limits) {
  return std::ranges::any_of(limits.strip, [&](const std::string& glob) { return glob_match(glob, name); });
}

void check_header(const Scan& scan, const DataLimits& limits) {
  const DataScanner& s = scan.scanner;
  require(s.header_end() <= scan.body.size(), "the header lies in the body");
  const std::string header = scan.body.substr(0, s.header_end());
  require(crlf_lines(header), "the header section ends behind a line");
  std::vector<std::pair<std::string, std::string>> kept;
  int hops = 0;
  bool date = false, id = false;
  for (const auto& field : fields_of(received(header))) {
    if (wanted(field.first, limits) && kept.size() < 100) kept.push_back(field);
    hops += field.first == "received";
    date = date || field.first == "date";
    id = id || field.first == "message-id";
  }
  require(kept == s.headers(), "the fields that are wanted are kept as they are");
  require(hops <= limits.max_hops, "Received fields are counted");
  require(date == s.has_date() && id == s.has_message_id(), "Date and Message-ID are seen");
  std::uint64_t at = 0;
  for (const Cut& cut : s.cuts()) {
    require(cut.offset >= at && cut.length > 2, "cuts are in order and do not overlap");
    at = cut.offset + cut.length;
  }
  require(at <= s.header_end(), "cuts lie in the header");
  std::string sent;
  without_cuts(header, 0, s.cuts(), [&](std::string_view part) { sent += part; });
  require(crlf_lines(sent), "cuts are of whole lines");
  for (const auto& field : fields_of(received(sent))) require(!stripped(field.first, limits), "what must not travel on is cut");
}

void check(const Scan& scan, const Model& model, std::string_view stream, const DataLimits& limits) {
  const DataScanner& s = scan.scanner;
  require(scan.ended == model.end.has_value(), "only CRLF.CRLF ends the data");
  if (scan.ended) require(scan.left == stream.size() - *model.end - 3, "the data ends where the model says");
  const bool header_problem = s.problem() == DataProblem::too_many_hops || s.problem() == DataProblem::header_too_large;
  // The model knows no header; what it finds behind a header problem comes too late.
  require(s.problem() == model.problem || header_problem, "the first thing that is wrong is the reason");
  require(crlf_lines(scan.body), "what is stored has no bare CR, LF or NUL");
  const std::vector<std::string> lines = received(scan.body);
  if (s.problem() != DataProblem::none) return;
  require(lines == model.lines, "a receiver reads what the client meant");
  if (!limits.repair) require(scan.body == stream.substr(0, scan.body.size()), "nothing is changed unless it is repaired");
  const bool eight_bit = std::ranges::any_of(scan.body, [](unsigned char c) { return c >= 0x80; });
  require(s.eight_bit() == eight_bit, "8-bit octets are seen");
  check_header(scan, limits);
}

DataLimits limits_of(std::uint8_t options) {
  DataLimits limits;
  limits.repair = options & 1;
  if (options & 2) limits.max_line = 20;
  if (options & 4) limits.max_size = 200;
  if (options & 8) limits.max_header = 100;
  if (options & 16) limits.max_hops = 2;
  limits.wanted = {"subject", "x-egret-class", "list-id"};
  limits.strip = {"X-SES-*", "X-Egret-Class"};
  return limits;
}

}  // namespace
}  // namespace egret::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace egret::fuzz;
  Input input(data, size);
  const auto limits = limits_of(input.octet());
  const std::uint32_t seed = input.octet();
  const std::string_view stream = input.rest();
  const Scan whole(limits, stream, 0), pieces(limits, stream, seed), single(limits, stream, 11);
  check_same(whole, pieces);
  check_same(whole, single);
  check(whole, model_of(stream, limits), stream, limits);
  return 0;
}
