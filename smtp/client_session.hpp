// The client side of an SMTP dialog (RFC 5321) as a state machine: replies in, bytes and actions out.
//
// It owns no socket, clock or thread. The driver writes output(), carries out the action and feeds the next reply.
// One session serves any number of transactions, one after another. What each recipient was told, and in which
// phase, is the outcome; the session never decides what that means.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "smtp/address.hpp"
#include "smtp/dsn_parameters.hpp"
#include "smtp/reply.hpp"
#include "smtp/sasl_client.hpp"

namespace egret::smtp {

/// Where in a dialog a reply was given.
enum class Phase { connect, ehlo, tls, auth, mail, rcpt, data, final_dot };
std::string_view to_string(Phase phase);
std::optional<Phase> parse_phase(std::string_view name);

enum class TlsMode { none, opportunistic, required };

struct Credentials {
  std::string username;
  std::string password;
  std::vector<std::string> mechanisms{"PLAIN", "LOGIN", "SCRAM-SHA-256", "CRAM-MD5"};  ///< in order of preference
  bool operator==(const Credentials&) const = default;
};

struct ClientOptions {
  std::string helo;
  TlsMode tls = TlsMode::opportunistic;
  bool tls_active = false;                 ///< implicit TLS: the handshake is already done
  std::optional<Credentials> credentials;  ///< only ever sent over TLS
  std::string nonce;                       ///< for SCRAM: fresh, unpredictable, printable without ','
};

/// What the peer offered in its last EHLO reply.
struct Capabilities {
  bool pipelining = false;
  bool starttls = false;
  bool eight_bit_mime = false;
  bool smtputf8 = false;
  bool dsn = false;
  bool size = false;
  std::uint64_t max_size = 0;     ///< 0: no limit told
  std::vector<std::string> auth;  ///< upper-case mechanism names
};
Capabilities parse_capabilities(const Reply& ehlo);

struct Envelope {
  Address sender;
  std::vector<Address> recipients;
  DsnMail dsn;
  std::vector<DsnRcpt> recipient_dsn;  ///< parallel to the recipients, or empty
  std::uint64_t size = 0;              ///< octets that will be sent
  bool eight_bit = false;
  bool utf8_header = false;  ///< the header holds text that only SMTPUTF8 may carry (RFC 6532)
};

/// The last word on one recipient: the reply that decided, and in which phase.
struct RecipientOutcome {
  Reply reply;
  Phase phase = Phase::mail;

  /// Only a 2xx to the final dot hands the message over; a stray 250 elsewhere delivers nothing.
  bool delivered() const { return phase == Phase::final_dot && reply.code / 100 == 2; }
};

class ClientSession {
 public:
  enum class Action {
    read,       ///< write output(), then feed the next reply
    handshake,  ///< write output(), do the TLS handshake, then call tls_done()
    ready,      ///< a transaction may be started with send()
    body,       ///< write output(), the message and the final dot line, then call body_sent()
    done,       ///< outcomes() hold the result of the transaction; ready for the next
    failed,     ///< the peer refused the session: failure() says what and where
  };

  explicit ClientSession(ClientOptions options) : options_(std::move(options)) {}

  /// Feeds one complete reply.
  Action on_reply(Reply reply);
  /// After Action::handshake. The dialog starts again with EHLO.
  Action tls_done();
  /// Starts a transaction; only after ready or done.
  Action send(const Envelope& envelope);
  /// After Action::body: what to write behind the final dot so that the transaction for `next` begins without a round
  /// trip (RFC 2920 section 3.1); empty where the peer is not known to take that. The next send() must be for `next`,
  /// or the connection be closed.
  std::string chain(const Envelope& next);
  /// The peer was told about the next transaction already.
  bool chained() const { return chained_; }
  /// After Action::body.
  Action body_sent();
  /// Puts QUIT into output().
  void quit();

  std::string& output() { return output_; }
  const Capabilities& capabilities() const { return capabilities_; }
  bool tls_active() const { return options_.tls_active; }
  /// The phase that the next reply belongs to: what a lost connection is reported as.
  Phase phase() const { return phase_; }
  const std::vector<RecipientOutcome>& outcomes() const { return outcomes_; }
  const RecipientOutcome& failure() const { return failure_; }
  /// True when the peer said 421 or broke the dialog: the connection must not be used again.
  bool closing() const { return closing_; }
  /// True from the moment the body may have been accepted until its reply is known.
  bool awaiting_final_reply() const { return state_ == State::final_dot && accepted_ > 0; }

 private:
  enum class State {
    greeting,
    ehlo,
    helo,
    starttls,
    handshake,
    auth,
    auth_cancelled,
    ready,
    mail,
    rcpt,
    data,
    body,
    final_dot,
    rset
  };

  Action ehlo();
  Action after_ehlo();
  Action authenticate();
  Action on_auth(const Reply& reply);
  Action on_mail(Reply reply);
  Action on_rcpt(Reply reply);
  Action on_data(Reply reply);
  Action on_final_dot(Reply reply);
  Action command(std::string line, State next, Phase phase);
  Action fail(Reply reply, Phase phase);
  Action finish();
  Action ask_recipient();
  std::string mail_line(const Envelope& envelope) const;
  std::string rcpt_line(const Envelope& envelope, std::size_t recipient) const;
  std::string group(const Envelope& envelope, const std::vector<std::size_t>& asked) const;
  std::vector<std::size_t> sendable(const Envelope& envelope) const;

  ClientOptions options_;
  Capabilities capabilities_;
  std::optional<SaslClient> sasl_;
  State state_ = State::greeting;
  Phase phase_ = Phase::connect;
  std::string output_;
  Envelope envelope_;
  std::vector<RecipientOutcome> outcomes_;
  std::vector<bool> decided_;
  std::vector<std::size_t> asked_;  // recipients that RCPT is sent for, by index
  std::size_t next_recipient_ = 0;  // into asked_
  std::size_t accepted_ = 0;
  RecipientOutcome failure_;
  bool mail_failed_ = false;
  bool pipelined_ = false;
  bool takes_chains_ = false;
  bool chained_ = false;
  bool closing_ = false;
  bool reset_due_ = false;  // the peer still has a transaction open that must be reset before the next MAIL
};

}  // namespace egret::smtp
