// The server's dialog: the same in every chunking, replies that are well formed, and no message but from a transaction that
// the replies show.
#include "smtp/server_session.hpp"

#include <vector>

#include "smtp/text.hpp"
#include "tests/fuzz/fuzz.hpp"
#include "tests/unit/fake_policy.hpp"

namespace egret::fuzz {
namespace {

using namespace smtp;
using Action = ServerSession::Action;

/// What the first octets of an input decide.
struct Setup {
  ServerOptions options;
  ClientInfo client;
  std::optional<CommandError> refusal, recipient_refusal;
  int answer = 250;  // to a message
  AuthResult wrong_password = AuthResult::refused;
  std::uint32_t seed = 0;
};

Setup setup_of(Input& input) {
  const std::uint8_t listener = input.octet(), peer = input.octet();
  Setup out;
  out.options.hostname = "relay.example.com";
  out.options.starttls = listener & 1;
  out.options.auth = listener & 2 ? (listener & 4 ? AuthRule::required : AuthRule::optional) : AuthRule::none;
  out.options.auth_in_clear = listener & 8;
  out.options.scram = listener & 16;
  out.options.submission = listener & 32;
  out.options.data.repair = listener & 64;
  if (listener & 128) out.options.data.max_size = 300;
  out.options.data.max_hops = 3;
  out.options.data.max_header = 1000;
  out.options.data.wanted = {"subject"};
  out.options.data.strip = {"X-SES-*"};
  out.options.max_recipients = 4;
  out.options.soft_errors = 2;
  out.options.max_errors = 6;
  out.options.max_idle = 12;
  out.client = {"192.0.2.1", !(peer & 1), (peer & 2) != 0, (peer & 4) != 0, ""};
  if (peer & 8) out.refusal = CommandError{peer & 16 ? 421 : 452, "4.3.1 full"};
  if (peer & 32) out.recipient_refusal = CommandError{450, "4.7.1 too fast"};
  if (peer & 64) out.answer = peer & 16 ? 421 : 451;
  if (peer & 128) out.wrong_password = peer & 16 ? AuthResult::too_many : AuthResult::unavailable;
  out.seed = input.octet();
  return out;
}

/// The unit tests' policy; the secret is derived once, since that takes longer than all the rest.
class Policy : public FakePolicy {
 public:
  std::optional<ScramSecret> scram_secret(std::string_view user) override {
    static const auto secret = FakePolicy().scram_secret("ada");
    return user == "ada" ? secret : std::nullopt;
  }
  Trace trace(const Transaction& transaction, const SessionFacts& facts) override {
    ++traced;
    return FakePolicy::trace(transaction, facts);
  }
  int traced = 0;
};

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) out.push_back(next_line(text));
  return out;
}

void check_output(std::string_view output) {
  require(crlf_lines(output), "replies are lines");
  std::string_view continued;
  for (std::string_view line : lines_of(output)) {
    require(line.size() <= 511, "a reply line has at most 512 octets");
    line.remove_suffix(1);
    require(one_line(line) && valid_utf8(line), "replies hold no controls");
    const bool form = line.size() >= 4 && line.find_first_not_of("0123456789") == 3 && line[0] >= '2' && line[0] <= '5' &&
                      (line[3] == ' ' || line[3] == '-');
    require(form, "a reply line begins with a code");
    require(continued.empty() || continued == line.substr(0, 3), "the lines of a reply have one code");
    continued = line[3] == '-' ? line.substr(0, 3) : std::string_view{};
  }
  require(continued.empty(), "a reply has a last line");
}

struct Message {
  std::string sender;
  std::vector<std::string> recipients;
  std::string body;

  bool operator==(const Message&) const = default;
};

/// A session with its driver.
class Dialog {
 public:
  explicit Dialog(const Setup& setup) : setup_(setup), session_(setup_.options, policy_, setup_.client) {
    policy_.refusal = setup.refusal;
    policy_.recipient_refusal = setup.recipient_refusal;
    session_.greet();
    collect();
  }

  void feed(std::string_view piece) {
    if (closed_) return;
    reader_.offer(piece, [&](std::string_view& in) {
      while (act(session_.process(in))) {
      }
      require(closed_ || in.size() <= 12288 + 1, "what is held back is bounded");
    });
  }
  /// The program stops: possible whenever the session waits for input.
  void stop() {
    if (closed_) return;
    session_.shut("4.3.2 stopping");
    feed("NOOP\r\n");
    require(closed_ && all_.ends_with("421 4.3.2 stopping\r\n"), "a session that was shut says so and looks at nothing more");
    require(session_.transaction().recipients.empty() && session_.transaction().body.empty(), "and forgets its transaction");
  }
  const std::string& all() const { return all_; }
  bool closed() const { return closed_; }

  std::vector<Message> messages;

 private:
  /// False when more input is needed, or none will be looked at.
  bool act(Action action) {
    collect();
    switch (action) {
      case Action::read:
        check_state();
        return false;
      case Action::close:
        closed_ = true;
        return false;
      case Action::handshake:
        require(setup_.options.starttls && !session_.client().tls, "TLS is started where it was offered, once");
        session_.tls_started();
        require(session_.client().tls && session_.helo().empty(), "TLS forgets what was said in clear");
        break;
      case Action::verify_password:
        check_may_log_in();
        log_in(session_.auth_user() == "ada" && session_.take_password() == "secret");
        break;
      case Action::auth_failed:
        check_may_log_in();
        log_in(false);
        break;
      case Action::commit:
        commit();
        break;
    }
    collect();
    return true;
  }

  void log_in(bool right) {
    session_.auth_result(right ? AuthResult::accepted : setup_.wrong_password);
    require(right == !session_.user().empty(), "a password decides who somebody is");
  }

  void check_may_log_in() {
    require(setup_.options.auth != AuthRule::none && (session_.client().tls || setup_.options.auth_in_clear),
            "AUTH is only there where it was offered");
    require(session_.user().empty(), "nobody logs in twice");
  }

  /// Between two reads.
  void check_state() {
    const Transaction& t = session_.transaction();
    require(t.body.empty() == !session_.in_data(), "a body is there in DATA only");
    require(!session_.in_data() || !t.recipients.empty(), "DATA has recipients");
    const bool none = t.recipients.empty() && t.mail.reverse_path.null() && t.id.empty() && t.headers.empty();
    require(!session_.idle() || none, "between transactions nothing of one is left");
    require(t.recipients.size() == t.recipient_dsn.size(), "each recipient has its parameters");
  }

  void commit() {
    Transaction& t = session_.transaction();
    check_transaction(t);
    const std::string body = t.body.flat();
    check_body(t, body);
    Message message{t.mail.reverse_path.to_string(), {}, {}};
    as_sent(body, 0, t.cuts, t.header_end, t.added, [&](std::string_view part) { message.body += part; });
    require(crlf_lines(message.body), "what is sent is lines");
    for (const Address& recipient : t.recipients) message.recipients.push_back(recipient.to_string());
    messages.push_back(std::move(message));
    session_.finish(setup_.answer, "2.0.0 queued as X");
    answered_ = all_.size();
  }

  /// The transaction is what the replies since the last message say.
  void check_transaction(const Transaction& t) {
    std::size_t recipients = 0;
    bool sender = false, go = false;
    for (const std::string_view line : lines_of(std::string_view(all_).substr(answered_))) {
      if (line.starts_with("250 2.1.0 ")) {
        sender = true;
        recipients = 0;
      }
      if (line.starts_with("250 2.1.5 ")) ++recipients;
      go = line.starts_with("354 ");
    }
    require(sender && go, "a message has had its MAIL and its DATA");
    require(recipients == t.recipients.size() && recipients > 0, "a message has the recipients that were accepted");
    require(recipients <= setup_.options.max_recipients, "recipients are bounded");
    require(session_.client().may_relay || !session_.user().empty(), "mail is taken of those who may relay");
    require(setup_.options.auth != AuthRule::required || !session_.user().empty(), "where AUTH is required nobody does without");
    require(policy_.traced > static_cast<int>(messages.size()), "each message is traced");
    require(!setup_.refusal, "no message comes in against the policy");
  }

  void check_body(const Transaction& t, const std::string& body) {
    require(body.starts_with("Received: ") && crlf_lines(body), "a body is lines behind the trace field");
    require(body.find("\r\n.\r\n") == std::string::npos, "no line of a body is a single dot");
    require(t.header_end <= body.size() && t.header_end > 0 && body[t.header_end - 1] == '\n', "the header ends behind a line");
    require(body.size() <= setup_.options.data.max_size * 2 + 400, "a body is bounded");
    const std::string_view rest = std::string_view(body).substr(t.header_end);
    const bool ended = rest.empty() || rest.starts_with("\r\n") || t.added == "\r\n" || t.added.ends_with("\r\n\r\n");
    require(t.added.empty() || ended, "the header ends behind the fields that were added");
  }

  void collect() {
    check_output(session_.output());
    all_ += session_.output();
    session_.output().clear();
  }

  const Setup& setup_;
  Policy policy_;
  ServerSession session_;
  Reader reader_;
  std::string all_;
  std::size_t answered_ = 0;  // length of all_ at the last message
  bool closed_ = false;
};

/// Where a client that waits for the answer stops: behind each line that could be such a command.
std::vector<std::string_view> writes_of(std::string_view stream) {
  std::vector<std::string_view> out;
  const char* start = stream.data();
  while (!stream.empty()) {
    const std::string_view line = next_line(stream);
    const bool waits = istarts_with(line, "DATA") || istarts_with(line, "AUTH") || istarts_with(line, "STARTTLS") ||
                       istarts_with(line, "XCLIENT");
    if (!waits && !stream.empty()) continue;
    out.emplace_back(start, static_cast<std::size_t>(stream.data() - start));
    start = stream.data();
  }
  return out;
}

}  // namespace
}  // namespace egret::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace egret::fuzz;
  Input input(data, size);
  const Setup setup = setup_of(input);
  const std::string_view stream = input.rest();

  Dialog whole(setup), pieces(setup), rude(setup);
  for (const std::string_view write : writes_of(stream)) {
    whole.feed(write);
    Pieces(setup.seed).each(write, [&](std::string_view piece) { pieces.feed(piece); });
  }
  require(whole.all() == pieces.all() && whole.closed() == pieces.closed(), "the same replies in every chunking");
  require(whole.messages == pieces.messages, "the same messages in every chunking");

  // A client that does not wait gets the same replies, up to the one that ends its session.
  Pieces(setup.seed).each(stream, [&](std::string_view piece) { rude.feed(piece); });
  const bool same = rude.all() == whole.all();
  whole.stop();
  if (same) return 0;
  const std::size_t last = rude.all().rfind("503 5.5.0 data be");
  require(rude.closed() && last != std::string::npos && whole.all().starts_with(rude.all().substr(0, last)),
          "talking on where one must wait changes nothing but the end");
  return 0;
}
