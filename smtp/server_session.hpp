// The server side of an SMTP dialog (RFC 5321 section 4) as a state machine: bytes in, replies and actions out.
//
// It owns no socket, clock or thread. The driver feeds what it read, writes what output() holds, and carries out the
// returned action. After every failure the transaction is destroyed as a whole, so that no state of one message
// leaks into the next.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "smtp/body.hpp"
#include "smtp/command.hpp"
#include "smtp/data_scanner.hpp"
#include "smtp/sasl_server.hpp"
#include "smtp/scram.hpp"
#include "smtp/xclient.hpp"

namespace egret::smtp {

enum class AuthRule { none, optional, required };

struct ServerOptions {
  std::string hostname;  ///< banner and EHLO name
  std::size_t max_recipients = 1000;
  int soft_errors = 10;  ///< from here on the driver delays replies
  int max_errors = 20;   ///< errors in a session before 421
  int max_idle = 200;    ///< commands that do no work (NOOP, RSET, VRFY, ...) between messages before 421
  bool starttls = false;
  AuthRule auth = AuthRule::none;
  bool auth_in_clear = false;  ///< the listener has no TLS, so AUTH is offered without it
  bool scram = false;          ///< some user has a SCRAM secret; may change between commands
  bool submission = false;     ///< RFC 6409 section 8: missing Date and Message-ID are added
  DataLimits data;
};

/// Who is at the other end, as far as it is known outside the dialog.
struct ClientInfo {
  std::string address;     ///< text form, for replies and the trace header
  bool may_relay = false;  ///< inside the listener's `allow`
  bool trusted = false;    ///< its XCLIENT and XFORWARD are believed
  bool tls = false;        ///< implicit TLS: the handshake is done
  std::string user;        ///< authenticated already (XCLIENT LOGIN)
};

/// A message in the making. Recipients are those that were accepted.
struct Transaction {
  MailCommand mail;
  std::vector<Address> recipients;
  std::vector<DsnRcpt> recipient_dsn;                        ///< parallel to the recipients
  std::string id;                                            ///< from DATA on: the queue id
  Body body;                                                 ///< starts with the trace header
  std::vector<std::pair<std::string, std::string>> headers;  ///< those asked for by DataLimits::wanted
  std::vector<Cut> cuts;
  std::uint64_t header_end = 0;
  std::string added;  ///< goes out at header_end: submission's header fields, or a missing separator line
  bool eight_bit = false;
  bool eight_bit_header = false;
};

/// The trace header of a message and the queue id that it names.
struct Trace {
  std::string id;
  std::string field;  ///< complete "Received:" field with CRLF
};

/// What is known of the session when a message is traced.
struct SessionFacts {
  std::string_view helo;
  bool esmtp = false;
  bool tls = false;
  std::string_view user;  ///< authenticated, or empty
};

/// What the session asks of the program around it. Called from within process(), never concurrently.
class ServerPolicy {
 public:
  virtual ~ServerPolicy() = default;
  /// At MAIL: may a message of this declared size come in now? A refusal such as 452 4.3.1 or 421 4.3.0, or none.
  virtual std::optional<CommandError> admit(std::uint64_t declared_size, std::string_view user) = 0;
  /// At RCPT, for one that is otherwise fine: a refusal such as 450 4.7.1 for a rate, or none.
  virtual std::optional<CommandError> admit_recipient(std::string_view user) = 0;
  /// At DATA: what to put before the message.
  virtual Trace trace(const Transaction& transaction, const SessionFacts& facts) = 0;
  /// Header fields for a submitted message that lacks them, each with CRLF.
  virtual std::string missing_fields(const Transaction& transaction, bool date, bool message_id) = 0;
  /// The secret of a user, for SCRAM; none when there is no such user or it has no such secret.
  virtual std::optional<ScramSecret> scram_secret(std::string_view user) = 0;
  virtual SaslServer::ScramInput scram_input() = 0;
  /// XCLIENT was believed: who is there now.
  virtual ClientInfo impersonate(const ForwardedAttributes& attributes) = 0;
};

/// How an attempt to log in ended.
enum class AuthResult {
  accepted,
  refused,      ///< 535
  unavailable,  ///< 454: could not be checked now
  too_many,     ///< 421: this client has failed too often
};

class ServerSession {
 public:
  enum class Action {
    read,             ///< write output(), then read more
    commit,           ///< transaction() is complete: own it, then call finish()
    handshake,        ///< write output(), do the TLS handshake as server, then call tls_started()
    verify_password,  ///< check auth_user() and take_password() aside, then call auth_result()
    auth_failed,      ///< wrong SCRAM proof: let the client wait for it, then call auth_result()
    close,            ///< write output(), then close
  };

  /// `options` and `policy` must outlive the session.
  ServerSession(const ServerOptions& options, ServerPolicy& policy, ClientInfo client);

  /// Puts the banner into output().
  void greet();
  /// Consumes from the front of `in` what can be processed now. The rest must be offered again with more behind it.
  Action process(std::string_view& in);
  /// The answer to the message handed out by Action::commit, e.g. {250, "2.0.0 queued as X"}. `text` may hold
  /// several lines, joined by '\n'; they must be printable.
  void finish(int code, std::string_view text);
  /// After Action::handshake: everything said in clear is forgotten (RFC 3207 section 4.2).
  void tls_started();
  void auth_result(AuthResult result);
  /// 421 and no more commands: the driver's time is over, or the program stops.
  void shut(std::string_view text);
  /// A client that talks before it was greeted (RFC 5321 section 3.1): 554 and no more.
  void refuse_early_talker();
  /// Connections are running out: fewer errors are tolerated.
  void limit_errors(int most) { max_errors_ = most; }

  std::string& output() { return output_; }
  Transaction& transaction() { return transaction_; }
  const std::string& helo() const { return helo_; }
  const ClientInfo& client() const { return client_; }
  const ServerOptions& options() const { return *options_; }
  const std::string& user() const { return client_.user; }
  /// Claimed, not proved.
  const std::string& auth_user() const { return sasl_->username(); }
  /// Once, after Action::verify_password.
  std::string take_password() { return sasl_->take_password(); }
  const ForwardedAttributes& forwarded() const { return forwarded_; }
  bool in_data() const { return state_ == State::data; }
  /// True between transactions: stopping here loses nothing.
  bool idle() const { return state_ == State::start || state_ == State::ready; }
  /// The client has made so many errors that each further reply should cost it time.
  bool slowed() const { return errors_ >= options_->soft_errors; }

 private:
  enum class State { start, ready, mail, rcpt, data, commit, auth, verifying, handshake, closed };

  std::optional<std::string_view> take_line(std::string_view& in, std::size_t limit);
  std::optional<Action> pending() const;
  void command(std::string_view line, bool more_input);
  void ehlo(std::string_view name, bool esmtp);
  void mail(std::string_view argument);
  void rcpt(std::string_view argument);
  void data(bool more_input);
  void data_done();
  void starttls(std::string_view argument, bool more_input);
  void auth(std::string_view argument, bool more_input);
  void on_sasl(SaslAction action);
  void end_auth(int code, std::string_view text, bool error);
  void xclient(std::string_view argument, bool more_input);
  void xforward(std::string_view argument);
  bool may_auth() const { return options_->auth != AuthRule::none && (client_.tls || options_->auth_in_clear); }
  std::string keywords() const;
  void idle_command(int code, std::string_view text);
  void reset();
  void reply(int code, std::string_view text);
  void refuse(int code, std::string_view text);
  void close_with(int code, std::string_view text);

  const ServerOptions* options_;
  ServerPolicy* policy_;
  ClientInfo client_;
  State state_ = State::start;
  bool esmtp_ = false;
  std::string helo_;
  Transaction transaction_;
  ForwardedAttributes forwarded_;
  std::optional<DataScanner> scanner_;
  std::optional<SaslServer> sasl_;
  bool sasl_failed_ = false;
  std::string output_;
  int errors_ = 0;
  int idle_ = 0;
  int max_errors_;
};

}  // namespace egret::smtp
