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

namespace egret::smtp {

struct ServerOptions {
  std::string hostname;  ///< banner and EHLO name
  std::size_t max_recipients = 1000;
  int max_errors = 20;  ///< errors in a session before 421
  DataLimits data;
};

/// Who is at the other end, as far as it is known before the dialog.
struct ClientInfo {
  std::string address;     ///< text form, for replies and the trace header
  bool may_relay = false;  ///< inside the listener's `allow`
};

/// A message in the making. Recipients are those that were accepted.
struct Transaction {
  MailCommand mail;
  std::vector<Address> recipients;
  Body body;                                                 ///< starts with the trace header
  std::vector<std::pair<std::string, std::string>> headers;  ///< those asked for by DataLimits::wanted
  std::vector<Cut> cuts;
  std::uint64_t header_end = 0;
  bool eight_bit = false;
};

/// What the session asks of the program around it. Called from within process(), never concurrently.
class ServerPolicy {
 public:
  virtual ~ServerPolicy() = default;
  /// At MAIL: may a message of this declared size come in now? A refusal such as 452 4.3.1 or 421 4.3.0, or none.
  virtual std::optional<CommandError> admit(std::uint64_t declared_size) = 0;
  /// At DATA: the trace header (complete "Received:" field with CRLF) to put before the message.
  virtual std::string trace(const Transaction& transaction, std::string_view helo, bool esmtp) = 0;
};

class ServerSession {
 public:
  enum class Action {
    read,    ///< write output(), then read more
    commit,  ///< transaction() is complete: own it, then call finish()
    close,   ///< write output(), then close
  };

  /// `options` and `policy` must outlive the session.
  ServerSession(const ServerOptions& options, ServerPolicy& policy, ClientInfo client);

  /// Puts the banner into output().
  void greet();
  /// Consumes from the front of `in` what can be processed now. The rest must be offered again with more behind it.
  Action process(std::string_view& in);
  /// The answer to the message handed out by Action::commit, e.g. {250, "2.0.0 queued as X"}.
  void finish(int code, std::string_view text);
  /// 421 and no more commands: the driver's time is over, or the program stops.
  void shut(std::string_view text);

  std::string& output() { return output_; }
  Transaction& transaction() { return transaction_; }
  const std::string& helo() const { return helo_; }
  bool in_data() const { return state_ == State::data; }
  /// True between transactions: stopping here loses nothing.
  bool idle() const { return state_ == State::start || state_ == State::ready; }

 private:
  enum class State { start, ready, mail, rcpt, data, commit, closed };

  void command(std::string_view line, bool more_input);
  void ehlo(std::string_view name, bool esmtp);
  void mail(std::string_view argument);
  void rcpt(std::string_view argument);
  void data(bool more_input);
  void data_done();
  void reset();
  void reply(int code, std::string_view text);
  void refuse(int code, std::string_view text);

  const ServerOptions* options_;
  ServerPolicy* policy_;
  ClientInfo client_;
  State state_ = State::start;
  bool esmtp_ = false;
  std::string helo_;
  Transaction transaction_;
  std::optional<DataScanner> scanner_;
  std::string output_;
  int errors_ = 0;
};

}  // namespace egret::smtp
