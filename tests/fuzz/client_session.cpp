// The client's dialog with any server: a message counts as delivered to those recipients that were accepted, when the final
// dot was answered with 2xx; no password leaves without TLS.
#include "smtp/client_session.hpp"

#include <deque>
#include <set>

#include "smtp/text.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace egret::fuzz {
namespace {

using namespace smtp;
using Action = ClientSession::Action;

constexpr int most_transactions = 3;

struct Setup {
  ClientOptions options;
  Envelope envelope;   // of the first transaction
  bool chain = false;  // the next envelope goes out behind the final dot, where the server takes that
  bool rest = false;   // nothing is sent after the first transaction: what the server says then was not asked for
  std::uint32_t seed = 0;
};

Setup setup_of(Input& input) {
  const std::uint8_t session = input.octet(), message = input.octet();
  Setup out;
  out.options.helo = "relay.example.com";
  out.options.nonce = "clientnonce";
  out.options.tls = session & 1 ? TlsMode::none : session & 2 ? TlsMode::required : TlsMode::opportunistic;
  out.options.tls_active = session & 4;
  if (session & 8) out.options.credentials = Credentials{"ada", "secret"};
  if (session & 16 && out.options.credentials) out.options.credentials->mechanisms = {"SCRAM-SHA-256", "CRAM-MD5"};
  if (session & 32 && out.options.credentials) out.options.credentials->mechanisms = {"LOGIN"};
  out.chain = session & 64;
  out.rest = session & 128;
  Envelope& e = out.envelope;
  if (message & 1) e.sender = {"sender", "example.com"};
  if (message & 2) e.sender = {"s\xC3\xA4nder", "example.com"};
  for (int i = 0; i <= (message >> 2 & 3); ++i) e.recipients.push_back({"r" + std::to_string(i), "example.net"});
  if (message & 16) e.recipients[0].local = "r\xC3\xA9";
  if (message & 32) e.recipient_dsn.assign(e.recipients.size(), {false, true, true, false, true, "rfc822;x@example.net"});
  if (message & 32) e.dsn = {"QQ314159", DsnMail::Ret::headers};
  e.size = 1000;
  e.eight_bit = message & 64;
  e.utf8_header = message & 128;
  out.seed = input.octet();
  return out;
}

/// A session with its driver, which knows which command each reply answers.
class Dialog {
 public:
  explicit Dialog(const Setup& setup)
      : setup_(setup), session_(setup.options), unanswered_{"connect"}, tls_(setup.options.tls_active) {}

  /// False when the connection is of no more use.
  bool on_reply(const Reply& reply) {
    answered(reply);
    const Action action = session_.on_reply(reply);
    require(!resting_ || action == Action::failed, "what was not asked for ends the session");
    return act(action);
  }
  int delivered() const { return delivered_; }

 private:
  bool act(Action action) {
    collect();
    switch (action) {
      case Action::read:
        require(!unanswered_.empty(), "a reply is awaited to some command");
        check_waiting();
        return true;
      case Action::handshake:
        require(!tls_ && setup_.options.tls != TlsMode::none && unanswered_.empty(), "a handshake follows STARTTLS at once");
        tls_ = true;
        return act(session_.tls_done());
      case Action::ready:
        check_ready();
        return send();
      case Action::body:
        require(unanswered_.empty() && !accepted_.empty(), "a body goes out after 354, for somebody");
        unanswered_.emplace_back("final dot");
        if (setup_.chain && transactions_ < most_transactions) written(session_.chain(envelope(transactions_)));
        return act(session_.body_sent());
      case Action::done:
        finish();
        resting_ = setup_.rest && !session_.chained();
        return !session_.closing() && (resting_ || send());
      case Action::failed:
        require(session_.closing(), "a session that failed is not used again");
        require(!session_.failure().delivered(), "a failure delivers nothing");
        return false;
    }
    return false;
  }

  /// Of the transaction with this number; no two have a recipient in common.
  Envelope envelope(int transaction) const {
    Envelope out = setup_.envelope;
    for (Address& recipient : out.recipients) recipient.local += "-" + std::to_string(transaction);
    return out;
  }

  bool send() {
    if (transactions_ == most_transactions) return false;
    accepted_.clear();
    final_code_ = 0;
    return act(session_.send(envelope(transactions_++)));
  }

  void collect() {
    written(session_.output());
    session_.output().clear();
  }

  /// Takes commands on their way.
  void written(std::string_view output) {
    require(crlf_lines(output) && valid_utf8(output), "commands are lines");
    while (!output.empty()) {
      std::string_view line = next_line(output);
      line.remove_suffix(1);
      require(line.size() <= 1024 && one_line(line), "a command is a bounded line without controls");
      const bool login = line.starts_with("AUTH ");
      require(!login || tls_, "AUTH is spoken over TLS only");
      require(line.find(base64_encode("secret")) == std::string_view::npos || tls_, "a password goes out over TLS only");
      unanswered_.emplace_back(line == "." ? "empty message" : std::string(line));
    }
  }

  /// What the reply says about the command that it answers.
  void answered(const Reply& reply) {
    if (unanswered_.empty()) return;
    const std::string command = unanswered_.front();
    unanswered_.pop_front();
    const bool yes = reply.code / 100 == 2;
    if (command.starts_with("RCPT TO:<") && yes) accepted_.insert(command.substr(9, command.find('>') - 9));
    if (command == "final dot") final_code_ = reply.code;
  }

  void check_waiting() {
    const bool sent = unanswered_.front() == "final dot";
    require(session_.awaiting_final_reply() == sent, "the reply to the final dot is awaited when the body is out");
  }

  void check_ready() {
    require(unanswered_.empty(), "a session is ready when nothing is awaited");
    require(tls_ || setup_.options.tls != TlsMode::required, "where TLS is required nothing is ready without");
  }

  void finish() {
    const auto& outcomes = session_.outcomes();
    const auto recipients = envelope(transactions_ - 1).recipients;
    require(outcomes.size() == recipients.size(), "every recipient has an outcome");
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
      require(outcomes[i].reply.code >= 200, "every outcome has a reply");
      if (!outcomes[i].delivered()) continue;
      ++delivered_;
      require(final_code_ / 100 == 2, "delivered is what was confirmed after the final dot");
      require(accepted_.contains(recipients[i].to_string()), "and to whom was accepted");
    }
    const auto confirmed = [&](const RecipientOutcome& o) { return o.delivered(); };
    const auto count = static_cast<std::size_t>(std::ranges::count_if(outcomes, confirmed));
    require(final_code_ / 100 != 2 || count == accepted_.size(), "whoever was accepted has got it");
    // After 421 the rest of a pipelined group stays unanswered.
    require(unanswered_.empty() || session_.closing() || session_.chained(), "nothing is awaited between transactions");
  }

  const Setup& setup_;
  ClientSession session_;
  std::deque<std::string> unanswered_;  // commands
  std::set<std::string> accepted_;      // recipients of this transaction
  bool tls_;
  bool resting_ = false;
  int final_code_ = 0;
  int transactions_ = 0;  // that were begun
  int delivered_ = 0;
};

int deliver(const Setup& setup, std::string_view stream, std::uint32_t seed) {
  Dialog dialog(setup);
  ReplyParser parser;
  bool open = true;
  Pieces(seed).each(stream, [&](std::string_view piece) {
    while (open && !piece.empty()) {
      const auto status = parser.feed(piece);
      if (status == ReplyParser::Status::complete) open = dialog.on_reply(parser.take());
      if (status == ReplyParser::Status::malformed) open = false;
    }
  });
  return dialog.delivered();
}

}  // namespace
}  // namespace egret::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace egret::fuzz;
  Input input(data, size);
  const Setup setup = setup_of(input);
  const std::string_view stream = input.rest();
  require(deliver(setup, stream, 0) == deliver(setup, stream, setup.seed), "the same deliveries in every chunking");
  return 0;
}
