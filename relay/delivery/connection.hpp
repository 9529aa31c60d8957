// One outgoing connection, by whatever protocol; and the one by SMTP: the client state machine on a stream.
#pragma once

#include <array>
#include <boost/asio/awaitable.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "relay/delivery/outgoing.hpp"
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
  std::string tls;                               ///< how the connection was secured, and by which rule
  std::string host;
  bool dsn = false;               ///< the peer took the DSN parameters (RFC 3461): reports of success are its business
  bool before_any_reply = false;  ///< `lost` before the peer answered this transaction
  /// One of several recipients was refused, and which is not known: each has to be tried on its own.
  bool one_by_one = false;
  /// This host lacked a descriptor or memory for it, or cannot read the message: nobody's fault but ours.
  bool ours = false;
  bool others = false;               ///< another message's attempt found this out: nothing was tried with these
  routing::Duration retry_after{0};  ///< how long the peer does not want to be asked, when it says so
};

/// How a connection is made secure.
struct Security {
  std::shared_ptr<TlsContext> context;
  std::shared_ptr<const Dane> dane;  ///< null: the context decides
  bool implicit_tls = false;
  std::string policy;  ///< for the log: "opportunistic", "mta-sts", ...
};

/// One message, made ready for one peer.
struct Transaction {
  Outgoing outgoing;
  smtp::Envelope envelope;
  std::optional<smtp::Reply> refusal;  ///< why this peer cannot be given it
};

/// What a message to these recipients says about its envelope. Without `utf8` domains are A-labels where they can be.
smtp::Envelope envelope_for(const spool::Message& message, const std::vector<std::uint32_t>& recipients, bool utf8);

/// An open connection that carries one message after another.
class Carrier {
 public:
  virtual ~Carrier() = default;

  /// What a message becomes for this peer. `recipients` are indices into the message's.
  virtual boost::asio::awaitable<Transaction> prepare(std::shared_ptr<const spool::Message> message,
                                                      std::vector<std::uint32_t> recipients, OutgoingOptions options,
                                                      spool::Spool& spool) = 0;
  /// One transaction. Where the peer takes it, `next` (or null) is announced behind its end: chained() is true then, and
  /// the following call must be for it, or the connection be dropped.
  virtual boost::asio::awaitable<AttemptResult> send(const Transaction* transaction, const Transaction* next,
                                                     spool::Spool& spool) = 0;
  virtual bool chained() const = 0;
  virtual bool chains() const = 0;  ///< whether it is any use to prepare a `next`
  virtual bool proven() const = 0;  ///< the peer has taken our login
  /// Closes without a word.
  virtual void drop() = 0;
  virtual bool usable() const = 0;
  virtual int messages() const = 0;
  /// Says goodbye without waiting for an answer, and closes.
  virtual boost::asio::awaitable<void> quit() = 0;
};

class Connection : public Carrier {
 public:
  /// `received` came from the peer already.
  Connection(std::unique_ptr<Stream> stream, smtp::ClientOptions options, std::string host, Security security,
             std::string received)
      : stream_(std::move(stream)),
        session_(std::move(options)),
        host_(std::move(host)),
        security_(std::move(security)),
        input_(std::move(received)) {}

  enum class Opened { ready, refused, lost, tls_failed };
  /// From the greeting to readiness. `refused`: session().failure() says what the peer said.
  boost::asio::awaitable<Opened> open();

  boost::asio::awaitable<Transaction> prepare(std::shared_ptr<const spool::Message> message,
                                              std::vector<std::uint32_t> recipients, OutgoingOptions options,
                                              spool::Spool& spool) override;
  boost::asio::awaitable<AttemptResult> send(const Transaction* transaction, const Transaction* next,
                                             spool::Spool& spool) override;
  bool chained() const override { return session_.chained(); }
  bool chains() const override { return true; }
  bool proven() const override { return true; }  // open() has logged in
  void drop() override { fail("dropped"); }

  bool usable() const override { return usable_ && !session_.closing(); }
  int messages() const override { return messages_; }
  const std::string& host() const { return host_; }
  const smtp::ClientSession& session() const { return session_; }
  const std::string& error() const { return error_; }
  /// "TLSv1.3 TLS_AES_256_GCM_SHA384 (mta-sts)", or "none (opportunistic)".
  std::string tls_summary() const;
  boost::asio::awaitable<void> quit() override;

 private:
  /// Writes what the session has to say and reads the reply to it.
  boost::asio::awaitable<bool> converse(smtp::Reply& out);
  bool flush_now();
  boost::asio::awaitable<bool> flush(Deadline deadline);
  boost::asio::awaitable<bool> handshake();
  boost::asio::awaitable<bool> send_body(const Outgoing* outgoing, std::string_view behind, spool::Spool& spool);
  boost::asio::awaitable<bool> write_piece(std::span<const std::string> chunks, std::uint64_t offset, const Outgoing* outgoing,
                                           std::string_view end);
  AttemptResult broken(AttemptResult::Kind kind);
  void fail(std::string what);

  std::unique_ptr<Stream> stream_;
  smtp::ClientSession session_;
  std::string host_;
  Security security_;
  smtp::ReplyParser parser_;
  std::string input_;
  std::array<char, 1024> buffer_;  // not in a coroutine's frame, which would be too large to be kept for the next reply
  std::string error_;
  int messages_ = 0;
  bool usable_ = true;
  bool replied_ = false;
  bool unread_ = false;       ///< the message could not be read
  bool end_written_ = false;  ///< a write that the final dot was in was begun
};

}  // namespace egret::relay
