// One outgoing SMTP connection: the client state machine on a stream.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>
#include <string>
#include <vector>

#include "relay/net/stream.hpp"
#include "relay/spool/spool.hpp"
#include "smtp/client_session.hpp"

namespace egret::relay {

/// How one attempt to hand over a message ended.
struct AttemptResult {
  enum class Kind {
    answered,     ///< the peer said something about every recipient
    unreachable,  ///< no connection could be made
    local_fault,  ///< the source address does not work on this host
    lost,         ///< the connection broke before the final dot: nothing was delivered
    ambiguous,    ///< it broke behind the final dot: the message may have been delivered
  };
  Kind kind = Kind::unreachable;
  std::vector<smtp::RecipientOutcome> outcomes;  ///< parallel to the recipients, for `answered`
  std::string text;                              ///< what went wrong, otherwise
  std::string host;
  bool before_any_reply = false;  ///< `lost` before the peer answered this transaction
};

class Connection {
 public:
  Connection(std::unique_ptr<Stream> stream, smtp::ClientOptions options, std::string host)
      : stream_(std::move(stream)), session_(std::move(options)), host_(std::move(host)) {}

  enum class Opened { ready, refused, lost, tls_failed };
  /// From the greeting to readiness. `refused`: session().failure() says what the peer said.
  boost::asio::awaitable<Opened> open(TlsContext& tls, bool implicit_tls);

  /// One transaction. `recipients` are indices into the message's.
  boost::asio::awaitable<AttemptResult> send(std::shared_ptr<const spool::Message> message, std::vector<std::uint32_t> recipients,
                                             spool::Spool& spool);

  bool usable() const { return usable_ && !session_.closing(); }
  int messages() const { return messages_; }
  const std::string& host() const { return host_; }
  const smtp::ClientSession& session() const { return session_; }
  const std::string& error() const { return error_; }
  std::string tls_summary() const { return stream_->tls_summary(); }
  /// Says QUIT without waiting for the answer, and closes.
  boost::asio::awaitable<void> quit();

 private:
  /// Writes what the session has to say and reads the reply to it.
  boost::asio::awaitable<bool> converse(smtp::Reply& out);
  boost::asio::awaitable<bool> flush(Deadline deadline);
  boost::asio::awaitable<bool> read_reply(Deadline deadline, smtp::Reply& out);
  boost::asio::awaitable<bool> send_body(const spool::Message& message, spool::Spool& spool);
  boost::asio::awaitable<bool> write_cut(std::span<const std::string> chunks, std::uint64_t offset,
                                         const std::vector<smtp::Cut>& cuts, std::string_view end);
  AttemptResult broken(AttemptResult::Kind kind);
  void fail(std::string what);

  std::unique_ptr<Stream> stream_;
  smtp::ClientSession session_;
  std::string host_;
  smtp::ReplyParser parser_;
  std::string input_;
  std::string error_;
  int messages_ = 0;
  bool usable_ = true;
  bool replied_ = false;
};

}  // namespace egret::relay
