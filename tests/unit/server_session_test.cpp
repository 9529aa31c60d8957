#include "smtp/server_session.hpp"

#include <gtest/gtest.h>

#include <random>
#include <sstream>

#include "tests/unit/fake_policy.hpp"

namespace egret::smtp {
namespace {

using namespace std::string_literals;
using Action = ServerSession::Action;

ServerOptions options() {
  ServerOptions out;
  out.hostname = "relay.example.com";
  return out;
}

struct Message {
  std::string sender;
  std::vector<std::string> recipients;
  std::string body;

  bool operator==(const Message&) const = default;
};

/// A session with its driver: it writes what the session says and owns every message at once.
class Dialog {
 public:
  explicit Dialog(ServerOptions o = options(), bool may_relay = true)
      : Dialog(std::move(o), ClientInfo{"192.0.2.1", may_relay, false, false, ""}) {}
  Dialog(ServerOptions o, ClientInfo client) : options_(std::move(o)), session_(options_, policy, std::move(client)) {
    session_.greet();
    collect();
  }

  /// Feeds bytes as one read; the answer to them.
  std::string feed(std::string_view bytes) {
    const std::size_t before = all_.size();
    buffer_ += bytes;
    std::string_view in = buffer_;
    while (!closed_) {
      const Action action = session_.process(in);
      collect();
      if (action == Action::read) break;
      if (action == Action::close) {
        closed_ = true;
      } else if (action == Action::handshake) {
        session_.tls_started();
      } else if (action == Action::verify_password) {
        const bool right = session_.auth_user() == "ada" && session_.take_password() == "secret";
        session_.auth_result(right ? AuthResult::accepted : failure);
        collect();
      } else if (action == Action::auth_failed) {
        session_.auth_result(failure);
        collect();
      } else {
        const Transaction& t = session_.transaction();
        Message message{t.mail.reverse_path.to_string(), {}, {}};
        const std::string body = t.body.flat();
        as_sent(body, 0, t.cuts, t.header_end, t.added, [&](std::string_view part) { message.body += part; });
        for (const Address& recipient : t.recipients) message.recipients.push_back(recipient.to_string());
        messages.push_back(std::move(message));
        session_.finish(250, "2.0.0 queued as X");
        collect();
      }
    }
    buffer_ = in;
    return all_.substr(before);
  }
  std::string feed_in_steps(std::string_view bytes, std::size_t step) {
    std::string out;
    for (std::size_t at = 0; at < bytes.size(); at += step) out += feed(bytes.substr(at, step));
    return out;
  }
  /// As feed(), but the reply codes only: "250 354".
  std::string codes(std::string_view bytes) {
    std::istringstream lines(feed(bytes));
    std::string out;
    for (std::string line; std::getline(lines, line);)
      if (line.size() < 4 || line[3] != '-') out += (out.empty() ? "" : " ") + line.substr(0, 3);
    return out;
  }
  ServerSession& session() { return session_; }
  const std::string& all() const { return all_; }
  bool closed() const { return closed_; }

  FakePolicy policy;
  std::vector<Message> messages;
  AuthResult failure = AuthResult::refused;

 private:
  void collect() {
    all_ += session_.output();
    session_.output().clear();
  }

  ServerOptions options_;
  ServerSession session_;
  std::string buffer_, all_;
  bool closed_ = false;
};

// ---- transcripts
// -------------------------------------------------------------------------------------------------

struct Transcript {
  const char* name;
  /// "C:" lines are sent with CRLF, those that follow each other in one write; "S:" lines are how the replies
  /// to them begin, continuation lines left out.
  const char* text;
};

std::ostream& operator<<(std::ostream& out, const Transcript& t) {
  return out << t.name;
}

constexpr Transcript transcripts[] = {
    {"OneMessage", R"(
C: EHLO client.example
S: 250 ENHANCEDSTATUSCODES
C: MAIL FROM:<a@example.com> SIZE=100 BODY=8BITMIME
S: 250 2.1.0
C: RCPT TO:<b@example.net>
S: 250 2.1.5
C: DATA
S: 354
C: Subject: x
C:
C: hello
C: .
S: 250 2.0.0 queued as X
C: QUIT
S: 221 2.0.0
)"},
    {"HeloClient", R"(
C: HELO client.example
S: 250 relay.example.com
C: MAIL FROM:<a@example.com>
S: 250
C: RCPT TO:<b@example.net>
S: 250
C: DATA
S: 354
C: .
S: 250 2.0.0 queued as X
)"},
    {"PipelinedGroup", R"(
C: EHLO client.example
S: 250
C: MAIL FROM:<a@example.com>
C: RCPT TO:<b@example.net>
C: RCPT TO:<c@example.net>
C: DATA
S: 250 2.1.0
S: 250 2.1.5
S: 250 2.1.5
S: 354
C: hello
C: .
C: MAIL FROM:<>
C: RCPT TO:<a@example.com>
C: DATA
S: 250 2.0.0 queued as X
S: 250 2.1.0
S: 250 2.1.5
S: 354
C: .
C: QUIT
S: 250 2.0.0 queued as X
S: 221
)"},
    {"NothingBeforeEhlo", R"(
C: MAIL FROM:<a@example.com>
S: 503 5.5.1
C: RCPT TO:<b@example.net>
S: 503 5.5.1
C: DATA
S: 503 5.5.1
C: NOOP
S: 250 2.0.0
)"},
    {"WrongOrder", R"(
C: EHLO client.example
S: 250
C: RCPT TO:<b@example.net>
S: 503 5.5.1
C: DATA
S: 503 5.5.1
C: MAIL FROM:<a@example.com>
S: 250
C: MAIL FROM:<a@example.com>
S: 503 5.5.1
C: DATA
S: 554 5.5.1
)"},
    {"RsetForgetsTheTransaction", R"(
C: EHLO client.example
S: 250
C: MAIL FROM:<a@example.com>
C: RCPT TO:<b@example.net>
C: RSET
C: RCPT TO:<b@example.net>
C: DATA
S: 250
S: 250
S: 250 2.0.0
S: 503
S: 503
)"},
    {"EhloForgetsTheTransaction", R"(
C: EHLO client.example
S: 250
C: MAIL FROM:<a@example.com>
C: RCPT TO:<b@example.net>
S: 250
S: 250
C: EHLO client.example
S: 250
C: DATA
S: 503
C: RCPT TO:<b@example.net>
S: 503
)"},
    {"RefusedMailLeavesNoTransaction", R"(
C: EHLO client.example
S: 250
C: MAIL FROM:<a@example.com> SIZE=99999999999
S: 552 5.3.4
C: RCPT TO:<b@example.net>
S: 503
C: DATA
S: 503
C: MAIL FROM:<not an address>
S: 501
C: RCPT TO:<b@example.net>
S: 503
C: MAIL FROM:<a@example.com> FOO=BAR
S: 555
C: RCPT TO:<b@example.net>
S: 503
)"},
    {"RefusedDataLeavesNoTransaction", R"(
C: EHLO client.example
S: 250
C: MAIL FROM:<a@example.com>
C: RCPT TO:<b@example.net>
C: DATA
S: 250
S: 250
S: 354
C: bare)"
                                       "\r"
                                       R"(cr
C: .
S: 550 5.6.11
C: RCPT TO:<c@example.net>
S: 503
C: DATA
S: 503
C: MAIL FROM:<a@example.com>
S: 250
)"},
    {"DeliveredDataLeavesNoTransaction", R"(
C: EHLO client.example
S: 250
C: MAIL FROM:<a@example.com>
C: RCPT TO:<b@example.net>
C: DATA
S: 250
S: 250
S: 354
C: .
S: 250
C: DATA
S: 503
C: RCPT TO:<b@example.net>
S: 503
)"},
    {"MalformedRecipientIsForgotten", R"(
C: EHLO client.example
S: 250
C: MAIL FROM:<a@example.com>
C: RCPT TO:<broken
C: RCPT TO:<>
C: DATA
S: 250
S: 501 5.1.3
S: 501 5.1.3
S: 554
)"},
    {"VrfyTouchesNothing", R"(
C: EHLO client.example
S: 250
C: MAIL FROM:<a@example.com>
C: RCPT TO:<b@example.net>
C: VRFY gr)"
                           "\xC3\xBC\xC3\x9F"
                           R"(
C: NOOP
C: HELP
C: DATA
S: 250
S: 250
S: 252 2.5.2
S: 250
S: 214
S: 354
C: .
S: 250 2.0.0 queued as X
)"},
    {"NotOffered", R"(
C: EHLO client.example
S: 250
C: STARTTLS
S: 502
C: AUTH PLAIN AGEAYg==
S: 502
C: BDAT 5 LAST
S: 502
C: EXPN all
S: 502
C: ETRN example.com
S: 500 5.5.1
C: DATA now
S: 501
)"},
    {"BadEhloKeepsTheState", R"(
C: EHLO
S: 501
C: EHLO a b
S: 501
C: MAIL FROM:<a@example.com>
S: 503
C: EHLO [192.0.2.1]
S: 250
C: MAIL FROM:<a@example.com>
S: 250
)"},
};

struct Step {
  std::string client;                ///< one write
  std::vector<std::string> replies;  ///< how they begin
};

std::vector<Step> steps_of(const Transcript& transcript) {
  std::vector<Step> out;
  std::istringstream lines(transcript.text);
  for (std::string line; std::getline(lines, line);) {
    if (line.empty()) continue;
    const std::string text = line.size() > 3 ? line.substr(3) : "";
    if (line[0] == 'S') {
      out.back().replies.push_back(text);
      continue;
    }
    if (out.empty() || !out.back().replies.empty()) out.emplace_back();
    out.back().client += text + "\r\n";
  }
  return out;
}

std::vector<std::string> final_lines(const std::string& output) {
  std::vector<std::string> out;
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);)
    if (line.size() < 4 || line[3] != '-') out.push_back(line);
  return out;
}

class Transcripts : public testing::TestWithParam<Transcript> {};

TEST_P(Transcripts, GoAsWritten) {
  Dialog dialog;
  for (const Step& step : steps_of(GetParam())) {
    const auto replies = final_lines(dialog.feed(step.client));
    ASSERT_EQ(replies.size(), step.replies.size()) << step.client;
    for (std::size_t i = 0; i < replies.size(); ++i)
      EXPECT_TRUE(replies[i].starts_with(step.replies[i])) << replies[i] << " to " << step.client;
  }
}

TEST_P(Transcripts, GoTheSameWithEveryCut) {
  const auto steps = steps_of(GetParam());
  Dialog whole;
  for (const Step& step : steps) whole.feed(step.client);
  for (std::size_t i = 0; i < steps.size(); ++i)
    for (std::size_t cut = 1; cut < steps[i].client.size(); ++cut) {
      Dialog dialog;
      for (std::size_t k = 0; k < steps.size(); ++k) {
        if (k == i) dialog.feed(steps[k].client.substr(0, cut));
        dialog.feed(steps[k].client.substr(k == i ? cut : 0));
      }
      ASSERT_EQ(dialog.all(), whole.all()) << steps[i].client << " cut at " << cut;
      ASSERT_EQ(dialog.messages, whole.messages);
    }
}

TEST_P(Transcripts, GoTheSameInSmallSteps) {
  const auto steps = steps_of(GetParam());
  Dialog whole;
  for (const Step& step : steps) whole.feed(step.client);
  for (const std::size_t size : {1u, 2u, 3u, 7u}) {
    Dialog dialog;
    for (const Step& step : steps) dialog.feed_in_steps(step.client, size);
    EXPECT_EQ(dialog.all(), whole.all()) << size;
    EXPECT_EQ(dialog.messages, whole.messages) << size;
  }
}

TEST_P(Transcripts, HaveRepliesOfTheRightForm) {
  Dialog dialog;
  for (const Step& step : steps_of(GetParam())) dialog.feed(step.client);
  std::string_view rest = dialog.all();
  while (!rest.empty()) {
    const std::size_t end = rest.find("\r\n");
    ASSERT_NE(end, std::string_view::npos);
    EXPECT_LE(end + 2, 512u);
    EXPECT_EQ(rest.substr(0, end).find_first_of("\r\n"), std::string_view::npos);
    rest.remove_prefix(end + 2);
  }
}

INSTANTIATE_TEST_SUITE_P(Server, Transcripts, testing::ValuesIn(transcripts),
                         [](const auto& p) { return std::string(p.param.name); });

// ---- what a transcript does not show
// -----------------------------------------------------------------------------

constexpr std::string_view envelope = "EHLO c.example\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n";

TEST(ServerSession, GreetsWithItsName) {
  EXPECT_EQ(Dialog().all(), "220 relay.example.com ESMTP\r\n");
}

TEST(ServerSession, OffersItsExtensions) {
  ServerOptions o = options();
  o.data.max_size = 12345;
  const std::string reply = Dialog(o).feed("EHLO c.example\r\n");
  for (const auto keyword :
       {"250-PIPELINING\r\n", "250-SIZE 12345\r\n", "250-8BITMIME\r\n", "250-SMTPUTF8\r\n", "250 ENHANCEDSTATUSCODES\r\n"})
    EXPECT_NE(reply.find(keyword), std::string::npos) << keyword;
}

TEST(ServerSession, OffersNothingToHelo) {
  EXPECT_EQ(Dialog().feed("HELO c.example\r\n"), "250 relay.example.com\r\n");
}

TEST(ServerSession, OffersNothingItDoesNotDo) {
  const std::string reply = Dialog().feed("EHLO c.example\r\n");
  for (const auto keyword : {"STARTTLS", "AUTH", "CHUNKING", "BINARYMIME", "REQUIRETLS", "XCLIENT", "XFORWARD"})
    EXPECT_EQ(reply.find(keyword), std::string::npos) << keyword;
}

TEST(ServerSession, HandsOutTheMessageBehindItsTraceHeader) {
  Dialog dialog;
  dialog.feed(std::string(envelope) + "RCPT TO:<C@Example.net>\r\nDATA\r\n");
  dialog.feed("Subject: x\r\n\r\n..dot\r\n.\r\n");
  EXPECT_EQ(dialog.messages, (std::vector<Message>{{"a@example.com",
                                                    {"b@example.net", "C@Example.net"},
                                                    "Received: from c.example\r\nSubject: x\r\n\r\n..dot\r\n"}}));
}

TEST(ServerSession, HandsOutHeadersAndCuts) {
  ServerOptions o = options();
  o.data.wanted = {"subject"};
  o.data.strip = {"X-*"};
  FakePolicy policy;
  ServerSession session(o, policy, relaying_client());
  std::string_view in = envelope;
  session.process(in);
  in = "DATA\r\n";
  session.process(in);
  in = "X-A: 1\r\nSubject: hi\r\n\r\n\xC3\xA9\r\n.\r\n";
  ASSERT_EQ(session.process(in), Action::commit);
  const Transaction& t = session.transaction();
  EXPECT_EQ(t.headers, (std::vector<std::pair<std::string, std::string>>{{"subject", "hi"}}));
  EXPECT_EQ(t.cuts, (std::vector<Cut>{{26, 8}}));
  EXPECT_EQ(t.header_end, 26u + 8 + 13);
  EXPECT_TRUE(t.eight_bit);
}

TEST(ServerSession, WaitsForTheVerdictBeforeItGoesOn) {
  const ServerOptions o = options();
  FakePolicy policy;
  ServerSession session(o, policy, relaying_client());
  std::string_view in = envelope;
  session.process(in);
  in = "DATA\r\n";
  session.process(in);
  in = ".\r\nQUIT\r\n";
  EXPECT_EQ(session.process(in), Action::commit);
  EXPECT_EQ(session.process(in), Action::commit);
  EXPECT_EQ(in, "QUIT\r\n");
  session.output().clear();
  session.finish(451, "4.7.1 held");
  EXPECT_EQ(session.process(in), Action::close);
  EXPECT_EQ(session.output(), "451 4.7.1 held\r\n221 2.0.0 bye\r\n");
}

TEST(ServerSession, ClosesAfterAVerdictOf421) {
  const ServerOptions o = options();
  FakePolicy policy;
  ServerSession session(o, policy, relaying_client());
  std::string_view in = envelope;
  session.process(in);
  in = "DATA\r\n";
  session.process(in);
  in = ".\r\nNOOP\r\n";
  ASSERT_EQ(session.process(in), Action::commit);
  session.finish(421, "4.3.0 storage failed");
  EXPECT_EQ(session.process(in), Action::close);
  EXPECT_TRUE(session.output().ends_with("421 4.3.0 storage failed\r\n"));
}

TEST(ServerSession, RefusesRecipientsOfOutsiders) {
  Dialog dialog(options(), false);
  EXPECT_EQ(dialog.codes(envelope), "250 250 550");
  EXPECT_EQ(dialog.codes("DATA\r\n"), "554");
  EXPECT_NE(dialog.all().find("550 5.7.1 "), std::string::npos);
  EXPECT_TRUE(dialog.messages.empty());
}

TEST(ServerSession, TakesNoMoreThanTheMostRecipients) {
  ServerOptions o = options();
  o.max_recipients = 2;
  Dialog dialog(o);
  EXPECT_EQ(dialog.codes(std::string(envelope) + "RCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nRCPT TO:<g@h>\r\nDATA\r\n"),
            "250 250 250 250 452 452 354");
  EXPECT_NE(dialog.all().find("452 4.5.3 "), std::string::npos);
  dialog.feed(".\r\n");
  EXPECT_EQ(dialog.messages.at(0).recipients, (std::vector<std::string>{"b@example.net", "c@d"}));
}

TEST(ServerSession, TooManyRecipientsAreNoErrorsOfTheClient) {
  ServerOptions o = options();
  o.max_recipients = 1;
  o.max_errors = 3;
  Dialog dialog(o);
  dialog.feed(envelope);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(dialog.codes("RCPT TO:<c@d>\r\n"), "452");
  EXPECT_FALSE(dialog.closed());
}

TEST(ServerSession, RefusesADeclaredSizeOverTheLimitBeforeTheData) {
  ServerOptions o = options();
  o.data.max_size = 1000;
  Dialog dialog(o);
  EXPECT_EQ(dialog.codes("EHLO c.example\r\nMAIL FROM:<> SIZE=1000\r\nRSET\r\nMAIL FROM:<> SIZE=1001\r\n"), "250 250 250 552");
}

TEST(ServerSession, RefusesAnUndeclaredSizeAfterTheDot) {
  ServerOptions o = options();
  o.data.max_size = 100;
  Dialog dialog(o);
  dialog.feed(std::string(envelope) + "DATA\r\n");
  std::string data;
  for (int i = 0; i < 20; ++i) data += "0123456789\r\n";
  EXPECT_EQ(dialog.codes(data), "");
  EXPECT_EQ(dialog.codes(".\r\n"), "552");
  EXPECT_FALSE(dialog.closed());
  EXPECT_TRUE(dialog.messages.empty());
}

TEST(ServerSession, PassesOnARefusalOfThePolicy) {
  Dialog dialog;
  dialog.policy.refusal = CommandError{452, "4.3.1 disk full"};
  EXPECT_EQ(dialog.codes("EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\n"), "250 452 503");
  dialog.policy.refusal.reset();
  EXPECT_EQ(dialog.codes("MAIL FROM:<>\r\n"), "250");
}

TEST(ServerSession, ClosesWhenThePolicySays421) {
  Dialog dialog;
  dialog.policy.refusal = CommandError{421, "4.3.0 storage failed"};
  EXPECT_EQ(dialog.codes("EHLO c.example\r\nMAIL FROM:<>\r\nNOOP\r\n"), "250 421");
  EXPECT_TRUE(dialog.closed());
}

TEST(ServerSession, ClosesWhenDataComesBeforeThe354) {
  Dialog dialog;
  EXPECT_EQ(dialog.codes(std::string(envelope) + "DATA\r\nSubject: early\r\n\r\n.\r\n"), "250 250 250 503");
  EXPECT_TRUE(dialog.closed());
  EXPECT_TRUE(dialog.messages.empty());
}

TEST(ServerSession, AnswersARefusedDataAndWhatFollowsIt) {
  EXPECT_EQ(Dialog(options(), false).codes(std::string(envelope) + "DATA\r\nRSET\r\nQUIT\r\n"), "250 250 550 554 250 221");
}

TEST(ServerSession, ClosesOnABareLineEndOrNulInACommand) {
  for (const auto& line :
       {"NOOP\nQUIT\r\n"s, "NOOP\n"s, "NO\rOP\r\n"s, "NOOP\r\r\n"s, "NOOP\0\r\n"s, "MAIL FROM:<a@b>\rRCPT TO:<c@d>\r\n"s}) {
    Dialog dialog;
    dialog.feed("EHLO c.example\r\n");
    EXPECT_EQ(dialog.codes(line), "501") << testing::PrintToString(line);
    EXPECT_TRUE(dialog.closed());
    EXPECT_EQ(dialog.codes("NOOP\r\n"), "");
  }
}

TEST(ServerSession, JudgesASmuggledCommandTheSameInEveryChunking) {
  const std::string bytes = "EHLO c.example\r\nNOOP\nMAIL FROM:<a@b>\r\nNOOP\r\n";
  const std::string expected = Dialog().feed(bytes);
  for (std::size_t cut = 1; cut < bytes.size(); ++cut) {
    Dialog dialog;
    EXPECT_EQ(dialog.feed(bytes.substr(0, cut)) + dialog.feed(bytes.substr(cut)), expected) << cut;
  }
}

TEST(ServerSession, ReadsSmuggledMailAsData) {
  ServerOptions o = options();
  o.data.repair = true;
  for (const auto& trick : {"\n.\n"s, "\n.\r\n"s, "\r.\r"s, "\r\n.\r\r\n"s, "\r\n.\n"s}) {
    Dialog dialog(o);
    dialog.feed(std::string(envelope) + "DATA\r\n");
    EXPECT_EQ(dialog.codes("x" + trick + "MAIL FROM:<evil@example.com>\r\nRCPT TO:<v@example.net>\r\nDATA\r\n.\r\n"), "250")
        << testing::PrintToString(trick);
    EXPECT_EQ(dialog.messages.size(), 1u);
  }
}

TEST(ServerSession, ClosesOnAnEndlessCommandLine) {
  Dialog dialog;
  EXPECT_EQ(dialog.codes("EHLO " + std::string(5000, 'a')), "500");
  EXPECT_TRUE(dialog.closed());
}

TEST(ServerSession, ClosesAfterTooManyErrors) {
  ServerOptions o = options();
  o.max_errors = 3;
  Dialog dialog(o);
  EXPECT_EQ(dialog.codes("A\r\nNOOP\r\nB\r\nC\r\nNOOP\r\n"), "500 250 500 500 421");
  EXPECT_TRUE(dialog.closed());
}

TEST(ServerSession, RefusesAHeloThatIsNoName) {
  for (const auto line : {"EHLO a\x1b[2J", "EHLO <script>", "HELO a;b", "EHLO (comment)", "EHLO -"})
    EXPECT_EQ(Dialog().codes(line + "\r\n"s), "501") << line;
}

TEST(ServerSession, ClosesAndForgetsWhenShut) {
  const ServerOptions o = options();
  FakePolicy policy;
  ServerSession session(o, policy, relaying_client());
  std::string_view in = envelope;
  session.process(in);
  session.output().clear();
  session.shut("4.3.2 stopping");
  EXPECT_EQ(session.output(), "421 4.3.2 stopping\r\n");
  EXPECT_EQ(session.process(in), Action::close);
  EXPECT_TRUE(session.transaction().recipients.empty());
}

TEST(ServerSession, IsIdleOnlyBetweenTransactions) {
  Dialog dialog;
  EXPECT_TRUE(dialog.session().idle());
  dialog.feed("EHLO c.example\r\n");
  EXPECT_TRUE(dialog.session().idle());
  dialog.feed("MAIL FROM:<>\r\n");
  EXPECT_FALSE(dialog.session().idle());
  dialog.feed("RCPT TO:<a@b>\r\nDATA\r\n");
  EXPECT_TRUE(dialog.session().in_data());
  dialog.feed(".\r\n");
  EXPECT_TRUE(dialog.session().idle());
}

// ---- random command sequences against the state table (facts B5)
// -------------------------------------------------

/// What RFC 5321 section 4.1.4 says about the order of commands, in a few lines.
class StateTable {
 public:
  std::string answer(std::size_t command) {
    switch (command) {
      case 0:
        state_ = State::ready;
        return "250";
      case 1:
        return state_ == State::ready ? (state_ = State::mail, "250") : "503";
      case 2:
        return "501";  // MAIL with a bad address; 503 wins where the order is wrong
      case 3:
        return state_ == State::mail || state_ == State::rcpt ? (state_ = State::rcpt, "250") : "503";
      case 4:
        return state_ == State::mail || state_ == State::rcpt ? "501" : "503";
      case 5:
        if (state_ == State::mail) return "554";
        if (state_ != State::rcpt) return "503";
        state_ = State::data;
        return "354";
      case 6:
        state_ = state_ == State::start ? State::start : State::ready;
        return "250";
      case 7:
        return "252";
      default:
        return "500";
    }
  }
  bool wrong_for_mail() const { return state_ != State::ready; }
  bool take_data() { return state_ == State::data ? (state_ = State::ready, true) : false; }

 private:
  enum class State { start, ready, mail, rcpt, data } state_ = State::start;
};

TEST(ServerSessionProperty, FollowsTheStateTable) {
  constexpr std::string_view commands[] = {
      "EHLO c.example", "MAIL FROM:<a@b>", "MAIL FROM:<bad", "RCPT TO:<c@d>", "RCPT TO:<bad", "DATA", "RSET", "VRFY x", "FOO"};
  ServerOptions o = options();
  o.max_errors = 1'000'000;
  std::mt19937 random(42);
  for (int round = 0; round < 300; ++round) {
    Dialog dialog(o);
    StateTable table;
    for (int i = 0; i < 60; ++i) {
      const std::size_t command = random() % std::size(commands);
      const std::string expected = command == 2 && table.wrong_for_mail() ? "503" : table.answer(command);
      ASSERT_EQ(dialog.codes(std::string(commands[command]) + "\r\n"), expected) << commands[command];
      if (!table.take_data()) continue;
      const bool bad = random() % 2;
      ASSERT_EQ(dialog.codes(bad ? "x\ny\r\n.\r\n" : "x\r\n.\r\n"), bad ? "550" : "250");
    }
  }
}

}  // namespace
}  // namespace egret::smtp
