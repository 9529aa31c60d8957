// One client's SMTP session: the server state machine on a stream.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <string>
#include <vector>

#include "relay/ingress/brake_claims.hpp"
#include "relay/ingress/ingress.hpp"
#include "relay/net/read_buffer.hpp"
#include "relay/net/stream.hpp"
#include "relay/spool/spool.hpp"
#include "smtp/server_session.hpp"

namespace egret::relay {

/// Lives on one worker, from accept to close.
class Ingress::Session final : private smtp::ServerPolicy {
 public:
  /// `received` are octets that were read already (behind a PROXY header).
  Session(Ingress& ingress, std::unique_ptr<Stream> stream, std::shared_ptr<const Front> front, std::size_t listener,
          const routing::IpAddress& client, std::string received);
  ~Session() override;

  boost::asio::awaitable<void> run();
  /// The program stops: whoever is between messages is told so now.
  void interrupt();
  /// The stop's time is over. Who waits for a verdict still gets it from the deliveries that end meanwhile.
  void break_off();
  /// Nothing more will come.
  void give_up();
  /// Connections run out: who is waited for gets at most `most` from now on.
  void hurry(Deadline most);
  /// Octets of a body are in memory that are not on disk yet, or many recipients.
  bool holds() const { return held_memory_ > recipients_memory_ || held_memory_ > 4096; }

 private:
  // What smtp::ServerSession asks.
  std::optional<smtp::CommandError> admit(std::uint64_t declared_size, std::string_view user) override;
  std::optional<smtp::CommandError> admit_recipient(std::string_view user) override;
  smtp::Trace trace(const smtp::Transaction& transaction, const smtp::SessionFacts& facts) override;
  std::string missing_fields(const smtp::Transaction& transaction, bool date, bool message_id) override;
  std::optional<smtp::ScramSecret> scram_secret(std::string_view user) override;
  smtp::SaslServer::ScramInput scram_input() override;
  smtp::ClientInfo impersonate(const smtp::ForwardedAttributes& attributes) override;

  std::optional<smtp::CommandError> over_rate(std::string_view user, std::uint64_t recipients);
  std::vector<BrakeClaim> claims(std::string_view user, std::uint64_t recipients);
  boost::asio::awaitable<bool> start();
  boost::asio::awaitable<bool> act(smtp::ServerSession::Action action);
  boost::asio::awaitable<bool> start_tls();
  boost::asio::awaitable<void> log_in(bool password);
  void expect_input(bool progressed);
  bool take_input(const ReadResult& got);
  void make_room();
  boost::asio::awaitable<void> pause(std::chrono::steady_clock::duration time);
  bool flush_now();
  boost::asio::awaitable<bool> flush();
  bool has_to_spill(smtp::ServerSession::Action action);
  boost::asio::awaitable<bool> spill();
  void hold_memory(std::uint64_t octets);
  std::uint64_t recipients_memory();
  std::shared_ptr<spool::Message> message();
  std::string class_of(const smtp::Transaction& transaction) const;
  bool lesser();
  std::optional<smtp::CommandError> no_room_for_lesser();
  smtp::CommandError too_much(std::string_view whose);
  void refuse_unstored(spool::Trouble trouble);
  boost::asio::awaitable<void> commit();
  boost::asio::awaitable<void> commit_queued(std::shared_ptr<spool::Message> message);
  boost::asio::awaitable<void> commit_pass_through(std::shared_ptr<spool::Message> message);
  void log_accepted(const spool::Message& message, const std::string& how) const;

  Ingress& ingress_;
  std::unique_ptr<Stream> stream_;
  std::shared_ptr<const Front> front_;
  std::size_t index_;  ///< of the listener
  const config::Listener& listener_;
  routing::IpAddress client_;
  smtp::ServerSession session_;
  boost::asio::steady_timer timer_;
  ReadBuffer buffer_;
  Deadline request_deadline_ = Deadline::max();
  bool was_in_data_ = false;
  bool broken_off_ = false;
  bool message_counted_ = false;  ///< of this transaction, at its first recipient
  bool reading_ = false;
  bool full_read_ = false;
  smtp::MessageId id_{};
  std::vector<spool::Extent> extents_;
  std::uint64_t spilled_ = 0;
  std::uint64_t held_memory_ = 0;
  std::uint64_t recipients_memory_ = 0;  ///< of the first `recipients_counted_` of this transaction
  std::size_t recipients_counted_ = 0;
  PassThrough* waiting_ = nullptr;  ///< whose verdict the client waits for
};

}  // namespace egret::relay
