// Plays the transcripts of tests/dialogs against the two state machines of SMTP, in every way the network may cut them.
//
// A dialog has to go the same whole, octet by octet, with every two-way split of every flight and in random pieces; and
// it is broken off at every octet, when no message may be accepted that was not complete (RFC 5321 section 4.2.5), and
// no delivery of ours may be taken for lost that may have happened (section 6.1). The format: tests/dialogs/README.md.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <regex>
#include <sstream>

#include "smtp/client_session.hpp"
#include "smtp/server_session.hpp"
#include "smtp/text.hpp"
#include "smtp/trace.hpp"
#include "tests/unit/fake_policy.hpp"

namespace egret::smtp {
namespace {

using namespace std::string_literals;

// ---- the format --------------------------------------------------------------------------------------------------

enum class Side { server, client };

struct Answer {
  std::string text;
  std::vector<std::string> has, lacks;  ///< patterns of lines
};

struct Step {
  enum class Kind { talk, tls, close, accepted, policy, ready, message, body, outcome, failed, malformed, quit, closing, usable };
  Kind kind = Kind::talk;
  int line = 0;
  bool together = false;             ///< the flight arrives in one read
  std::vector<std::string> said;     ///< by the peer of the session under test
  std::vector<Answer> answers;       ///< of the session
  std::string argument;              ///< of a directive
  std::vector<std::string> details;  ///< lines that belong to it
};

struct Dialog {
  Side side = Side::server;
  bool explained = false;  ///< begins with a comment
  std::string row;         ///< of its table, for messages
  std::map<std::string, std::string> options;
  std::vector<Step> steps;

  bool has(const std::string& option) const { return options.contains(option); }
  std::string option(const std::string& name, const std::string& otherwise) const {
    const auto found = options.find(name);
    return found == options.end() ? otherwise : found->second;
  }
  int number(const std::string& name, int otherwise) const { return std::stoi(option(name, std::to_string(otherwise))); }
};

std::vector<std::string> split(const std::string& text, const std::string& separator) {
  std::vector<std::string> out;
  std::size_t at = 0;
  for (std::size_t end; (end = text.find(separator, at)) != std::string::npos; at = end + separator.size())
    out.push_back(text.substr(at, end - at));
  out.push_back(text.substr(at));
  return out;
}

/// "$1" to "$9" become the columns of a row.
std::string with_row(const std::string& line, const std::vector<std::string>& columns) {
  std::string out;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const std::size_t column = line[i] == '$' && i + 1 < line.size() ? static_cast<std::size_t>(line[i + 1] - '1') : 9;
    if (column < columns.size())
      out += columns[column], ++i;
    else
      out += line[i];
  }
  return out;
}

class Reader {
 public:
  explicit Reader(std::string file) : file_(std::move(file)) {}

  /// All dialogs of a file, each as often as its table has rows.
  std::vector<Dialog> read(std::istream& in) {
    std::vector<Dialog> out;
    std::vector<Line> part;
    int number = 0;
    for (std::string text; std::getline(in, text);) {
      ++number;
      if (text == "====")
        read_part(std::exchange(part, {}), out);
      else if (!text.empty())
        part.push_back({number, text});
    }
    read_part(part, out);
    return out;
  }

 private:
  struct Line {
    int number;
    std::string text;
  };

  void read_part(const std::vector<Line>& part, std::vector<Dialog>& out) {
    std::vector<std::string> rows;
    for (const auto& [number, text] : part)
      if (text.starts_with("each ")) rows.push_back(text.substr(5));
    const bool table = !rows.empty();
    if (!table) rows.emplace_back();
    for (const std::string& row : rows) {
      dialog_ = {};
      dialog_.explained = !part.empty() && part.front().text.starts_with("# ");
      dialog_.row = row;
      first_ = true;
      for (const auto& [number, text] : part) {
        line_ = number;
        if (text.front() != '#' && !text.starts_with("each ")) take(table ? with_row(text, split(row, " || ")) : text);
      }
      out.push_back(std::move(dialog_));
    }
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error(file_ + ":" + std::to_string(line_) + ": " + what);
  }

  void take(const std::string& line) {
    if (std::exchange(first_, false)) return head(line);
    const std::size_t colon = line.find(':');
    const bool talk = (line.front() == 'C' || line.front() == 'S') && (colon == 1 || (colon < 6 && line[1] == '*'));
    if (talk)
      said(line.front() == 'C' ? Side::client : Side::server, line.substr(std::min(colon + 2, line.size())),
           colon == 1 ? 1 : std::stoi(line.substr(2)));
    else if (line.starts_with("+ ") || line.starts_with("- "))
      reply_line(line);
    else
      directive(line);
  }

  void head(const std::string& line) {
    std::istringstream words(line);
    std::string word;
    words >> word;
    if (word != "server" && word != "client") fail("expected server or client");
    dialog_.side = word == "server" ? Side::server : Side::client;
    while (words >> word) {
      const std::size_t equals = word.find('=');
      dialog_.options[word.substr(0, equals)] = equals == std::string::npos ? "" : word.substr(equals + 1);
    }
  }

  Step& add(Step::Kind kind) {
    dialog_.steps.emplace_back();
    dialog_.steps.back().kind = kind;
    dialog_.steps.back().line = line_;
    return dialog_.steps.back();
  }
  Step& last(Step::Kind kind, const char* what) {
    if (dialog_.steps.empty() || dialog_.steps.back().kind != kind) fail(what);
    return dialog_.steps.back();
  }

  void said(Side who, const std::string& text, int times) {
    const bool goes_on = !dialog_.steps.empty() && dialog_.steps.back().kind == Step::Kind::talk;
    if (who == dialog_.side) {
      Step& step = goes_on ? dialog_.steps.back() : add(Step::Kind::talk);
      for (int i = 0; i < times; ++i) step.answers.push_back({text, {}, {}});
      return;
    }
    Step& step = goes_on && dialog_.steps.back().answers.empty() ? dialog_.steps.back() : add(Step::Kind::talk);
    step.together = step.together || std::exchange(together_, false);
    for (int i = 0; i < times; ++i) step.said.push_back(text);
  }

  void reply_line(const std::string& line) {
    Step& step = last(Step::Kind::talk, "no reply stands above");
    if (step.answers.empty()) fail("no reply stands above");
    (line.front() == '+' ? step.answers.back().has : step.answers.back().lacks).push_back(line.substr(2));
  }

  void directive(const std::string& line) {
    using Kind = Step::Kind;
    static const std::map<std::string, Kind> words{
        {"tls", Kind::tls},       {"close", Kind::close},         {"accepted", Kind::accepted}, {"policy", Kind::policy},
        {"ready", Kind::ready},   {"message", Kind::message},     {"body", Kind::body},         {"outcome", Kind::outcome},
        {"failed", Kind::failed}, {"malformed", Kind::malformed}, {"quit", Kind::quit},         {"closing", Kind::closing},
        {"usable", Kind::usable}};
    static const std::vector<std::string> details{"|", "|~", "empty", "mail", "rcpt", "trace", "origin-id"};
    const std::size_t space = line.find(' ');
    const std::string word = line.substr(0, space);
    if (word == "together") {
      together_ = true;
    } else if (std::ranges::find(details, word) != details.end()) {
      if (dialog_.steps.empty()) fail("belongs to a message");
      dialog_.steps.back().details.push_back(line);
    } else if (const auto found = words.find(word); found != words.end()) {
      add(found->second).argument = space == std::string::npos ? "" : line.substr(space + 1);
    } else {
      fail("not understood: " + line);
    }
  }

  std::string file_;
  int line_ = 0;
  bool first_ = true;
  bool together_ = false;
  Dialog dialog_;
};

// ---- octets ------------------------------------------------------------------------------------------------------

/// What a client of SCRAM has to remember (RFC 5802 section 3).
struct Sasl {
  std::string first;      ///< the client's first message
  std::string challenge;  ///< the text of the last 334
  std::string signature;  ///< what the server must prove with
};

std::string scram_final(const std::string& password, Sasl& sasl) {
  const std::string server_first = base64_decode(sasl.challenge).value_or("");
  const std::size_t bare = sasl.first.find(',', sasl.first.find(',') + 1) + 1;
  std::string_view rest = server_first;
  const auto nonce = take_scram_attribute(rest, 'r');
  const auto salt = take_scram_attribute(rest, 's');
  const auto iterations = take_scram_attribute(rest, 'i');
  if (!nonce || !salt || !iterations) return "no challenge to answer";
  static std::map<std::string, std::string> salted_passwords;  // each takes milliseconds
  std::string& salted = salted_passwords[password + '\0' + std::string(*salt) + std::string(*iterations)];
  if (salted.empty())
    salted = scram_salted_password(password, base64_decode(*salt).value_or(""), std::stoi(std::string(*iterations)));
  const std::string without_proof = "c=" + base64_encode(sasl.first.substr(0, bare)) + ",r=" + std::string(*nonce);
  const std::string auth_message = sasl.first.substr(bare) + "," + server_first + "," + without_proof;
  sasl.signature = base64_encode("v=" + base64_encode(scram_server_signature(scram_server_key(salted), auth_message)));
  return base64_encode(without_proof + ",p=" + base64_encode(scram_client_proof(salted, auth_message)));
}

std::string decode(const std::string& text, Sasl& sasl);

/// The octets of "{N*text}", "{base64:text}" or "{scram-final:password}" at `at`, which is moved behind it; nullopt for a
/// brace that is just a brace.
std::optional<std::string> macro(const std::string& text, std::size_t& at, Sasl& sasl) {
  static const std::regex form("\\{(?:([0-9]+)\\*|(base64):|(scram-final):)");
  std::smatch match;
  if (!std::regex_search(text.begin() + static_cast<std::ptrdiff_t>(at), text.end(), match, form,
                         std::regex_constants::match_continuous))
    return std::nullopt;
  const std::size_t start = at + static_cast<std::size_t>(match.length());
  std::size_t end = start;
  for (int depth = 1; end < text.size(); ++end) {
    depth += (text[end] == '{') - (text[end] == '}');
    if (depth == 0) break;
  }
  const std::string inside = decode(text.substr(start, end - start), sasl);
  at = end + 1;
  if (match[3].matched) return scram_final(inside, sasl);
  if (match[2].matched) {
    if (inside.starts_with("n,") || inside.starts_with("y,")) sasl.first = inside;
    return base64_encode(inside);
  }
  std::string out;
  for (int i = std::stoi(match[1]); i > 0; --i) out += inside;
  return out;
}

/// The octets that `text` stands for; "\c" stands for none.
std::string decode(const std::string& text, Sasl& sasl) {
  static const std::map<char, std::string> escapes{{'r', "\r"}, {'n', "\n"}, {'t', "\t"}, {'0', "\0"s}, {'\\', "\\"}, {'c', ""}};
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == '{') {
      if (const auto octets = macro(text, i, sasl)) {
        out += *octets;
        continue;
      }
    }
    if (text[i] == '\\' && i + 1 < text.size()) {
      const char c = text[i + 1];
      if (c == 'x' && i + 3 < text.size() && std::isxdigit(static_cast<unsigned char>(text[i + 2]))) {
        out += static_cast<char>(std::stoi(text.substr(i + 2, 2), nullptr, 16));
        i += 4;
        continue;
      }
      if (const auto found = escapes.find(c); found != escapes.end()) {
        out += found->second;
        i += 2;
        continue;
      }
    }
    out += text[i++];
  }
  return out;
}

std::string decode(const std::string& text) {
  Sasl none;
  return decode(text, none);
}

/// Lines end in CRLF, but for those that end in "\c".
std::string flight(const std::vector<std::string>& lines, Sasl& sasl) {
  std::string out;
  for (const std::string& line : lines) {
    out += decode(line, sasl);
    if (!line.ends_with("\\c")) out += "\r\n";
  }
  return out;
}

bool matches(const std::string& text, const std::string& pattern, bool from_start) {
  const auto flags = from_start ? std::regex_constants::match_continuous : std::regex_constants::match_default;
  return std::regex_search(text, std::regex(pattern), flags);
}

/// RFC 5321 section 4.2 and RFC 2034 section 3: what every reply of ours has to look like.
std::vector<Reply> replies_in(const std::string& output) {
  std::vector<Reply> out;
  std::string_view in = output;
  for (const std::string& line : split(output, "\r\n")) {
    EXPECT_LE(line.size() + 2, 512u) << line;
    EXPECT_EQ(line.find_first_of("\r\n\0"s), std::string::npos) << line;
  }
  while (!in.empty()) {
    ReplyParser parser;
    if (parser.feed(in) != ReplyParser::Status::complete) {
      ADD_FAILURE() << "not a reply: " << testing::PrintToString(output);
      break;
    }
    out.push_back(parser.take());
    const auto enhanced = out.back().enhanced();
    if (enhanced) EXPECT_EQ(enhanced->klass, out.back().code / 100) << out.back().to_string();
  }
  return out;
}

// ---- how a dialog is cut -----------------------------------------------------------------------------------------

struct Plan {
  /// Where flight `number` of `size` octets is cut, in ascending order.
  std::function<std::vector<std::size_t>(std::size_t number, std::size_t size)> cuts = [](std::size_t, std::size_t) {
    return std::vector<std::size_t>{};
  };
  std::size_t lose_after = std::numeric_limits<std::size_t>::max();  ///< octets, then the connection is lost
  std::size_t shut_after = std::numeric_limits<std::size_t>::max();  ///< octets, then the server's patience is at an end
  bool check = false;                                                ///< compare with what is written
};

Plan whole() {
  return {};
}

Plan octets() {
  Plan plan;
  plan.cuts = [](std::size_t, std::size_t size) {
    std::vector<std::size_t> out;
    for (std::size_t i = 1; i < size; ++i) out.push_back(i);
    return out;
  };
  return plan;
}

Plan one_cut(std::size_t flight, std::size_t at) {
  Plan plan;
  plan.cuts = [=](std::size_t number, std::size_t) {
    return number == flight ? std::vector<std::size_t>{at} : std::vector<std::size_t>{};
  };
  return plan;
}

Plan random_cuts(unsigned seed) {
  Plan plan;
  plan.cuts = [random = std::mt19937(seed)](std::size_t, std::size_t size) mutable {
    std::vector<std::size_t> out;
    for (std::size_t at = 1 + random() % 40; at < size; at += 1 + random() % (random() % 5 ? 12 : 400)) out.push_back(at);
    return out;
  };
  return plan;
}

/// What a run leaves behind. Two runs of one dialog have to leave the same.
struct Record {
  std::string output;                   ///< all that the session said
  std::vector<std::string> events;      ///< messages, outcomes and ends, in words
  std::vector<std::size_t> flights;     ///< sizes; 0 for one that must not be cut
  std::vector<std::size_t> commits_at;  ///< octets received when a message was accepted
  std::size_t received = 0;
  std::string stream;  ///< those octets

  bool same_as(const Record& other) const { return output == other.output && events == other.events; }
};

/// Hands out the flights of a dialog piece by piece, until the connection breaks.
class Cutter {
 public:
  Cutter(const Plan& plan, Record& record) : plan_(plan), record_(record) {}

  /// False when the connection is lost.
  bool each_piece(const std::string& bytes, bool together, const std::function<bool(std::string_view)>& feed) {
    auto cuts = together ? std::vector<std::size_t>{} : plan_.cuts(record_.flights.size(), bytes.size());
    record_.flights.push_back(together ? 0 : bytes.size());
    cuts.push_back(bytes.size());
    std::size_t at = 0;
    for (const std::size_t cut : cuts) {
      const std::size_t left = std::min(plan_.lose_after, plan_.shut_after) - record_.received;
      const std::size_t size = std::min(cut - at, left);
      record_.received += size;
      record_.stream += bytes.substr(at, size);
      const bool go_on = feed(std::string_view(bytes).substr(at, size));
      if (!go_on || size < cut - at) return false;
      at = cut;
    }
    return true;
  }

 private:
  const Plan& plan_;
  Record& record_;
};

// ---- the server --------------------------------------------------------------------------------------------------

class DialogPolicy : public FakePolicy {
 public:
  Trace trace(const Transaction& transaction, const SessionFacts& facts) override {
    TraceInfo info;
    info.helo = facts.helo;
    info.client = client;
    info.hostname = "relay.example.com";
    info.esmtp = facts.esmtp;
    info.tls = facts.tls;
    info.authenticated = !facts.user.empty();
    info.utf8 = transaction.mail.smtputf8;
    field = received_field(info);
    return {"ID", field};
  }
  std::optional<ScramSecret> scram_secret(std::string_view user) override {
    static const auto secret = FakePolicy::scram_secret("ada");
    return user == "ada" ? secret : std::nullopt;
  }
  ClientInfo impersonate(const ForwardedAttributes& attributes) override {
    ClientInfo out = FakePolicy::impersonate(attributes);
    client = out.address;
    return out;
  }

  std::string client;  ///< address
  std::string field;   ///< the last trace field
};

ServerOptions server_options(const Dialog& dialog) {
  ServerOptions out;
  out.hostname = "relay.example.com";
  out.max_recipients = static_cast<std::size_t>(dialog.number("recipients", 1000));
  out.max_errors = dialog.number("errors", 20);
  out.max_idle = dialog.number("idle", 200);
  out.starttls = dialog.option("tls", "none") == "starttls";
  const std::string rule = dialog.option("auth", "none");
  out.auth = rule == "none" ? AuthRule::none : rule == "required" ? AuthRule::required : AuthRule::optional;
  out.auth_in_clear = dialog.option("tls", "none") == "none";
  out.scram = dialog.option("users", "scram") == "scram";
  out.submission = dialog.has("submission");
  if (out.submission) out.data.strip.emplace_back("Bcc");
  out.data.max_size = static_cast<std::uint64_t>(dialog.number("size", 50 << 20));
  out.data.repair = dialog.has("normalize");
  return out;
}

/// A session and what the program does for it, without a network.
class Server {
 public:
  Server(const Dialog& dialog, Record& record)
      : options_(server_options(dialog)),
        session_(options_, policy_, ClientInfo{"192.0.2.1", !dialog.has("outsider"), dialog.has("xclient"), false, ""}),
        record_(record) {
    policy_.client = "192.0.2.1";
    if (dialog.option("tls", "none") == "implicit") session_.tls_started();
    session_.greet();
    collect();
  }

  void feed(std::string_view bytes) {
    buffer_ += bytes;
    std::string_view in = buffer_;
    while (!closed_ && !handshake_ && act(session_.process(in))) {
    }
    collect();
    buffer_.erase(0, buffer_.size() - in.size());
  }
  void shut() {
    handshake_ = false;
    session_.shut("4.4.2 timeout");
    feed({});
  }
  bool begin_tls() {
    if (!std::exchange(handshake_, false) || !buffer_.empty()) return false;
    session_.tls_started();
    return true;
  }
  bool closed() const { return closed_; }
  bool awaits_tls() const { return handshake_; }
  DialogPolicy& policy() { return policy_; }

  std::string commit_refusal;  ///< in place of the 250
  std::string auth_answer;     ///< in place of the verdict on a password

 private:
  void collect() {
    record_.output += session_.output();
    session_.output().clear();
  }

  /// False when more has to be read.
  bool act(ServerSession::Action action) {
    switch (action) {
      case ServerSession::Action::read:
        return false;
      case ServerSession::Action::close:
        closed_ = true;
        record_.events.emplace_back("close");
        return false;
      case ServerSession::Action::handshake:
        handshake_ = true;
        return false;
      case ServerSession::Action::verify_password: {
        const std::string password = session_.take_password();
        session_.auth_result(verdict(session_.auth_user() == "ada" && password == "secret"));
        return true;
      }
      case ServerSession::Action::auth_failed:
        session_.auth_result(verdict(false));
        return true;
      case ServerSession::Action::commit:
        commit();
        return true;
    }
    return false;
  }

  AuthResult verdict(bool right) const {
    if (auth_answer == "unavailable") return AuthResult::unavailable;
    if (auth_answer == "too-many") return AuthResult::too_many;
    return right ? AuthResult::accepted : AuthResult::refused;
  }

  void commit() {
    if (!commit_refusal.empty()) return session_.finish(std::stoi(commit_refusal), std::string_view(commit_refusal).substr(4));
    record_.commits_at.push_back(record_.received);
    record_.events.push_back(description());
    session_.finish(250, "2.0.0 queued as ID");
  }

  /// The message in the words of the format, a line for each fact.
  std::string description() {
    const Transaction& t = session_.transaction();
    std::string out = "accepted " + (t.mail.reverse_path.null() ? "<>" : t.mail.reverse_path.to_string()) + " ->";
    for (const Address& recipient : t.recipients) out += " " + recipient.to_string();
    out += "\nmail" + mail_parameters(t.mail.dsn);
    for (const DsnRcpt& dsn : t.recipient_dsn) out += "\nrcpt" + rcpt_parameters(dsn);
    std::string wire;
    const std::string body = t.body.flat();
    as_sent(body, 0, t.cuts, t.header_end, t.added, [&](std::string_view part) { wire += part; });
    EXPECT_TRUE(wire.starts_with(policy_.field));
    wire.erase(0, policy_.field.size());
    out += "\ntrace " + policy_.field.substr(0, policy_.field.size() - 2) + "\norigin-id " +
           session_.forwarded().ident.value_or("none");
    return out + "\n\n" + wire;
  }

  ServerOptions options_;
  DialogPolicy policy_;
  ServerSession session_;
  Record& record_;
  std::string buffer_;
  bool closed_ = false;
  bool handshake_ = false;
};

void check_replies(const Step& step, const std::string& output, Sasl& sasl) {
  const auto replies = replies_in(output);
  ASSERT_EQ(replies.size(), step.answers.size()) << output;
  for (std::size_t i = 0; i < replies.size(); ++i) {
    const auto& [expected, has, lacks] = step.answers[i];
    const std::string first = std::to_string(replies[i].code) + " " + replies[i].lines.front();
    if (expected == "334 {scram-server}")
      EXPECT_EQ(first, "334 " + sasl.signature);
    else
      EXPECT_TRUE(matches(first, expected, true)) << replies[i].to_string() << "\nis not " << expected;
    const auto line_with = [&](const std::string& pattern) {
      return std::ranges::any_of(replies[i].lines, [&](const std::string& line) { return matches(line, pattern, false); });
    };
    for (const auto& pattern : has) EXPECT_TRUE(line_with(pattern)) << pattern << " is missing in\n" << replies[i].to_string();
    for (const auto& pattern : lacks) EXPECT_FALSE(line_with(pattern)) << pattern << " is in\n" << replies[i].to_string();
  }
}

/// The lines of a message in wire form, transparency undone; what is not in wire form is a failure (RFC 5321 section 4.5.2).
std::vector<std::string> content_lines(const std::string& wire) {
  auto lines = split(wire, "\r\n");
  EXPECT_EQ(lines.back(), "") << "a last line without end";
  lines.pop_back();
  for (std::string& line : lines) {
    EXPECT_NE(line, ".") << "would end the message at the next server";
    EXPECT_EQ(line.find_first_of("\r\n\0"s), std::string::npos) << testing::PrintToString(line);
    if (line.starts_with('.')) line.erase(0, 1);
  }
  return lines;
}

/// "|" lines exactly, "|~" lines as patterns.
void check_content(const std::vector<std::string>& expected, const std::vector<std::string>& lines) {
  ASSERT_EQ(lines.size(), expected.size()) << testing::PrintToString(lines);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (expected[i].starts_with("|~"))
      EXPECT_TRUE(matches(lines[i], expected[i].substr(3), true)) << lines[i] << "\nis not " << expected[i];
    else
      EXPECT_EQ(lines[i], expected[i].size() < 2 ? "" : decode(expected[i].substr(2)));
  }
}

void check_message(const Step& step, const std::string& description) {
  const std::size_t end = description.find("\n\n");
  auto facts = split(std::regex_replace(description.substr(0, end), std::regex("\r\n\t?"), " "), "\n");
  std::string argument = step.argument;
  std::ranges::replace(argument, ',', ' ');
  EXPECT_EQ(facts.front(), "accepted " + decode(argument));
  std::vector<std::string> content;
  std::size_t recipient = 0;
  const auto fact = [&](const std::string& word, std::size_t skip) {
    for (const auto& f : facts)
      if (f.substr(0, f.find(' ')) == word && skip-- == 0) return f;
    return std::string();
  };
  for (const std::string& detail : step.details) {
    const std::string word = detail.substr(0, detail.find(' '));
    if (word.starts_with('|'))
      content.push_back(detail);
    else if (word == "trace")
      EXPECT_TRUE(matches(fact(word, 0), detail.substr(6), false)) << fact(word, 0) << "\nis not " << detail;
    else if (word != "empty")
      EXPECT_EQ(fact(word, word == "rcpt" ? recipient++ : 0), detail);
  }
  const auto lines = content_lines(description.substr(end + 2));
  if (!content.empty() || std::ranges::find(step.details, "empty") != step.details.end()) check_content(content, lines);
}

void set_policy(Server& server, const std::string& argument) {
  const std::string word = argument.substr(0, argument.find(' '));
  const std::string rest = argument.substr(std::min(word.size() + 1, argument.size()));
  std::optional<CommandError> refusal;
  if (word != "off" && word != "auth") refusal = CommandError{std::stoi(rest), rest.substr(4)};
  if (word == "mail" || word == "off") server.policy().refusal = refusal;
  if (word == "rcpt" || word == "off") server.policy().recipient_refusal = refusal;
  if (word == "commit" || word == "off") server.commit_refusal = rest;
  if (word == "auth" || word == "off") server.auth_answer = rest;
}

/// One run of a server dialog; `plan.check` says whether it is compared with what is written.
class ServerRun {
 public:
  ServerRun(const Dialog& dialog, const Plan& plan) : plan_(plan), cutter_(plan, record), server_(dialog, record) {
    bool connected = true;
    for (const Step& step : dialog.steps) {
      SCOPED_TRACE("line " + std::to_string(step.line));
      if (connected)
        connected = perform(step);
      else if (plan_.shut_after < plan_.lose_after && step.kind == Step::Kind::talk)
        server_.feed(flight(step.said, sasl_));
      if (testing::Test::HasFatalFailure()) return;
    }
    if (!plan.check) return;
    EXPECT_EQ(server_.closed(), closed_) << "at the end of the dialog";
    EXPECT_FALSE(server_.awaits_tls()) << "at the end of the dialog";
    EXPECT_EQ(next_message(), "") << "nobody asked for this message";
  }

  Record record;

 private:
  bool perform(const Step& step) {
    if (step.kind == Step::Kind::talk) return talk(step);
    if (step.kind == Step::Kind::policy) set_policy(server_, step.argument);
    if (step.kind == Step::Kind::tls) {
      const bool begun = server_.begin_tls();
      EXPECT_TRUE(begun) << "no handshake is awaited, or something was said behind STARTTLS";
      return begun;
    }
    if (step.kind == Step::Kind::close) closed_ = true;
    if (step.kind == Step::Kind::close && plan_.check) EXPECT_TRUE(server_.closed());
    if (step.kind == Step::Kind::accepted && plan_.check) check_message(step, next_message());
    return true;
  }

  bool talk(const Step& step) {
    const std::string bytes = flight(step.said, sasl_);
    const bool connected = cutter_.each_piece(bytes, step.together, [&](std::string_view piece) {
      server_.feed(piece);
      return true;
    });
    const std::string output = record.output.substr(seen_);
    seen_ = record.output.size();
    if (!connected && plan_.shut_after < plan_.lose_after) shut();
    if (connected && plan_.check) check_replies(step, output, sasl_);
    if (const std::size_t at = output.rfind("334 "); at != std::string::npos)
      sasl_.challenge = output.substr(at + 4, output.find('\r', at) - at - 4);
    return connected;
  }

  void shut() {
    if (server_.closed()) return;
    server_.shut();
    EXPECT_EQ(record.output.substr(seen_), "421 4.4.2 timeout\r\n");
    EXPECT_TRUE(server_.closed());
    seen_ = record.output.size();
  }

  std::string next_message() {
    while (event_ < record.events.size())
      if (const std::string& event = record.events[event_++]; event.starts_with("accepted")) return event;
    return {};
  }

  const Plan& plan_;
  Cutter cutter_;
  Server server_;
  Sasl sasl_;
  std::size_t seen_ = 0;   // of the output
  std::size_t event_ = 0;  // of the events
  bool closed_ = false;    // as the dialog has it
};

// ---- the client --------------------------------------------------------------------------------------------------

ClientOptions client_options(const Dialog& dialog) {
  ClientOptions out;
  out.helo = "relay.example.com";
  out.nonce = "rOprNGfwEbeRWgbNEkqO";  // of the example of RFC 7677 section 3
  const std::string tls = dialog.option("tls", "none");
  out.tls = tls == "opportunistic" ? TlsMode::opportunistic : tls == "none" ? TlsMode::none : TlsMode::required;
  out.tls_active = tls == "implicit";
  if (!dialog.has("user")) return out;
  out.credentials = Credentials{dialog.option("user", ""), dialog.option("password", ""), {"PLAIN", "LOGIN"}};
  if (dialog.has("mechanisms")) out.credentials->mechanisms = split(dialog.option("mechanisms", ""), ",");
  return out;
}

Address address_of(const std::string& text) {
  const std::size_t at = text.rfind('@');
  return at == std::string::npos ? Address{} : Address{text.substr(0, at), text.substr(at + 1)};
}

/// "a@example.com -> b@example.net,c@example.net size=1000 8bit utf8", and its lines for mail and rcpt.
Envelope envelope_of(const Step& step) {
  Envelope out;
  const auto words = split(decode(step.argument), " ");
  out.sender = address_of(words.front());
  for (const auto& recipient : split(words.at(2), ",")) out.recipients.push_back(address_of(recipient));
  for (std::size_t i = 3; i < words.size(); ++i) {
    if (words[i].starts_with("size=")) out.size = std::stoull(words[i].substr(5));
    out.eight_bit = out.eight_bit || words[i] == "8bit";
    out.utf8_header = out.utf8_header || words[i] == "utf8";
  }
  for (const std::string& detail : step.details) {
    if (detail.starts_with("mail")) {
      MailCommand command;
      EXPECT_FALSE(parse_mail("FROM:<>" + detail.substr(4), command)) << detail;
      out.dsn = command.dsn;
    } else {
      RcptCommand command;
      EXPECT_FALSE(parse_rcpt("TO:<a@b>" + detail.substr(4), true, command)) << detail;
      out.recipient_dsn.push_back(command.dsn);
    }
  }
  return out;
}

/// One run of a client dialog: the session and what the program does for it, without a network.
class ClientRun {
 public:
  ClientRun(const Dialog& dialog, const Plan& plan) : plan_(plan), cutter_(plan, record), session_(client_options(dialog)) {
    for (const Step& step : dialog.steps) {
      SCOPED_TRACE("line " + std::to_string(step.line));
      const bool connected = step.kind == Step::Kind::talk ? talk(step) : perform(step);
      check_fate();
      if (!connected || testing::Test::HasFatalFailure()) return;
    }
    if (plan.check) EXPECT_EQ(take_output(), "") << "at the end of the dialog";
  }

  Record record;

 private:
  using Action = ClientSession::Action;

  bool talk(const Step& step) {
    const bool unasked = action_ == Action::ready || action_ == Action::done || action_ == Action::body;
    if (!step.said.empty() && unasked) action_ = Action::read;
    const bool connected = cutter_.each_piece(flight(step.said, sasl_), step.together, [&](std::string_view piece) {
      input_ += piece;
      read();
      check_fate();
      return !testing::Test::HasFatalFailure();
    });
    const std::string output = take_output();
    std::vector<std::string> expected;
    for (const Answer& answer : step.answers) expected.push_back(answer.text);
    if (connected && plan_.check) EXPECT_EQ(output, flight(expected, sasl_));
    return connected;
  }

  /// Hands over the replies that are complete, as long as the session wants them.
  void read() {
    while (!malformed_ && (action_ == Action::read || action_ == Action::handshake)) {
      std::string_view in = input_;
      const auto status = parser_.feed(in);
      input_.erase(0, input_.size() - in.size());
      if (status == ReplyParser::Status::need_more) return;
      if (status == ReplyParser::Status::malformed) {
        malformed_ = true;
        record.events.push_back("malformed " + fate());
        return;
      }
      action_ = session_.on_reply(parser_.take());
      undecided_ = false;
      collect();
    }
  }

  /// A directive: what has been reached, or what the program does next.
  bool perform(const Step& step) {
    switch (step.kind) {
      case Step::Kind::ready:
        return reached(Action::ready);
      case Step::Kind::tls:
        if (!reached(Action::handshake) || !input_.empty()) return false;
        return proceed(session_.tls_done());
      case Step::Kind::message:
        EXPECT_TRUE(action_ == Action::ready || action_ == Action::done);
        next_outcome_ = 0;
        body_sent_ = false;
        return proceed(session_.send(envelope_of(step)));
      case Step::Kind::body:
        if (!reached(Action::body)) return false;
        undecided_ = true;
        body_sent_ = true;
        return proceed(session_.body_sent());
      case Step::Kind::outcome:
        return reached(Action::done) && outcome(step.argument);
      case Step::Kind::failed:
        if (plan_.check) EXPECT_FALSE(session_.failure().delivered()) << "a failure must not look like a delivery";
        return reached(Action::failed) && said(step.argument, text_of(session_.failure()).substr(0, step.argument.size()));
      case Step::Kind::malformed:
        EXPECT_TRUE(malformed_);
        return said(step.argument, fate());
      case Step::Kind::quit:
        session_.quit();
        return true;
      case Step::Kind::closing:
      case Step::Kind::usable:
        EXPECT_EQ(session_.closing(), step.kind == Step::Kind::closing);
        return true;
      case Step::Kind::talk:
      case Step::Kind::close:
      case Step::Kind::accepted:
      case Step::Kind::policy:
        break;
    }
    ADD_FAILURE() << "not for a client";
    return false;
  }

  bool reached(Action action) {
    EXPECT_EQ(static_cast<int>(action_), static_cast<int>(action)) << "the session's action";
    return action_ == action;
  }
  bool proceed(Action action) {
    action_ = action;
    check_fate();
    read();
    return true;
  }
  bool said(const std::string& expected, const std::string& seen) {
    record.events.push_back(seen);
    EXPECT_EQ(seen, expected);
    return true;
  }
  static std::string text_of(const RecipientOutcome& outcome) {
    return std::to_string(outcome.reply.code) + " " + std::string(to_string(outcome.phase)) +
           (outcome.delivered() ? " delivered" : "");
  }

  /// The outcomes stand in the order of the recipients.
  bool outcome(const std::string& expected) {
    const std::size_t index = next_outcome_++;
    if (index >= session_.outcomes().size()) {
      ADD_FAILURE() << "more outcomes than recipients";
      return false;
    }
    return said(expected, text_of(session_.outcomes()[index]));
  }

  std::string fate() const { return session_.awaiting_final_reply() ? "ambiguous" : "lost"; }
  /// What would be said if the connection broke now: only a body that was sent and not answered leaves a doubt.
  void check_fate() {
    EXPECT_EQ(fate(), undecided_ ? "ambiguous" : "lost") << "after " << record.received << " octets";
    if (body_sent_ && !undecided_) return;
    for (const RecipientOutcome& outcome : session_.outcomes()) EXPECT_FALSE(outcome.delivered());
  }

  void collect() {
    record.output += session_.output();
    session_.output().clear();
  }
  std::string take_output() {
    collect();
    const std::string out = record.output.substr(seen_);
    seen_ = record.output.size();
    return out;
  }

  const Plan& plan_;
  Cutter cutter_;
  ClientSession session_;
  ReplyParser parser_;
  Sasl sasl_;
  Action action_ = Action::read;
  std::string input_;
  std::size_t seen_ = 0;
  std::size_t next_outcome_ = 0;
  bool body_sent_ = false;
  bool undecided_ = false;  // the body is out, its reply is not in
  bool malformed_ = false;
};

// ---- the tests ---------------------------------------------------------------------------------------------------

Record run(const Dialog& dialog, Plan plan) {
  if (dialog.side == Side::server) return ServerRun(dialog, plan).record;
  return ClientRun(dialog, plan).record;
}

std::vector<Dialog> read_dialogs(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return Reader(file.filename().string()).read(in);
}

std::vector<std::filesystem::path> dialog_files(std::optional<Side> side = {}) {
  std::vector<std::filesystem::path> out;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(EGRET_SOURCE_DIR) / "tests" / "dialogs"))
    if (entry.path().extension() == ".smtp" && (!side || read_dialogs(entry.path()).front().side == *side))
      out.push_back(entry.path());
  std::ranges::sort(out);
  return out;
}

/// One file; `each_row` runs what is tested with every row of its table.
class DialogFile : public testing::TestWithParam<std::filesystem::path> {
 protected:
  static void each_row(const std::function<void(const Dialog&)>& test) {
    for (const Dialog& dialog : read_dialogs(GetParam())) {
      SCOPED_TRACE(GetParam().filename().string() + (dialog.row.empty() ? "" : " with " + dialog.row));
      test(dialog);
      if (HasFatalFailure()) return;
    }
  }
};

/// Every one of `size` positions is tried, or about two thousand of them.
std::size_t stride(std::size_t size) {
  return 1 + size / 2000;
}

/// How many messages had come in completely after `octets` of them.
std::size_t complete_after(const Record& reference, std::size_t octets) {
  const auto complete = std::ranges::count_if(reference.commits_at, [&](std::size_t end) { return end <= octets; });
  return static_cast<std::size_t>(complete);
}

using EveryDialog = DialogFile;
using ServerDialog = DialogFile;

TEST_P(EveryDialog, GoesAsWritten) {
  each_row([](const Dialog& dialog) {
    EXPECT_TRUE(dialog.explained) << "the file begins with a comment that says why";
    Plan plan = whole();
    plan.check = true;
    run(dialog, plan);
  });
}

TEST_P(EveryDialog, GoesTheSameOctetByOctet) {
  each_row([](const Dialog& dialog) {
    Plan plan = octets();
    plan.check = true;
    EXPECT_TRUE(run(dialog, plan).same_as(run(dialog, whole())));
  });
}

TEST_P(EveryDialog, GoesTheSameWithEverySplit) {
  each_row([](const Dialog& dialog) {
    const Record reference = run(dialog, whole());
    for (std::size_t i = 0; i < reference.flights.size(); ++i)
      for (std::size_t at = 1; at < reference.flights[i]; at += stride(reference.flights[i]) * (dialog.has("slow") ? 9 : 1))
        ASSERT_TRUE(run(dialog, one_cut(i, at)).same_as(reference)) << "flight " << i << " cut at " << at;
  });
}

TEST_P(EveryDialog, GoesTheSameInRandomPieces) {
  each_row([](const Dialog& dialog) {
    const Record reference = run(dialog, whole());
    for (unsigned seed = 1; seed <= 50; ++seed) ASSERT_TRUE(run(dialog, random_cuts(seed)).same_as(reference)) << seed;
  });
}

TEST_P(ServerDialog, CommitsNothingIncompleteWhenTheConnectionBreaks) {
  each_row([](const Dialog& dialog) {
    const Record reference = run(dialog, octets());
    for (const std::size_t end : reference.commits_at)
      EXPECT_TRUE(std::string_view(reference.stream).substr(0, end).ends_with("\r\n.\r\n"));
    for (std::size_t at = 0; at <= reference.received; at += stride(reference.received)) {
      Plan plan = whole();
      plan.lose_after = at;
      ASSERT_EQ(run(dialog, plan).commits_at.size(), complete_after(reference, at)) << "lost after " << at << " octets";
    }
  });
}

TEST_P(ServerDialog, CommitsNothingAfterItsPatienceIsAtAnEnd) {
  each_row([](const Dialog& dialog) {
    const Record reference = run(dialog, octets());
    for (std::size_t at = 0; at < reference.received; at += stride(reference.received)) {
      Plan plan = whole();
      plan.shut_after = at;
      ASSERT_EQ(run(dialog, plan).commits_at.size(), complete_after(reference, at)) << "shut after " << at << " octets";
    }
  });
}

std::string test_name(const testing::TestParamInfo<std::filesystem::path>& info) {
  std::string out = info.param.stem().string();
  std::ranges::replace(out, '-', '_');
  return out;
}

INSTANTIATE_TEST_SUITE_P(Dialogs, EveryDialog, testing::ValuesIn(dialog_files()), test_name);
INSTANTIATE_TEST_SUITE_P(Dialogs, ServerDialog, testing::ValuesIn(dialog_files(Side::server)), test_name);

}  // namespace
}  // namespace egret::smtp
