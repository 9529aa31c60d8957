#include "relay/delivery/connection.hpp"

#include <algorithm>

#include "relay/dns/idn.hpp"
#include "relay/runtime/clock.hpp"

namespace egret::relay {
namespace {

using namespace std::chrono_literals;
using smtp::ClientSession;
using smtp::Phase;

/// RFC 5321 section 4.5.3.2. The final dot's ten minutes are never shortened: a receiver that scans slowly and
/// accepts after we gave up gets the message twice.
std::chrono::steady_clock::duration reply_timeout(Phase phase) {
  switch (phase) {
    case Phase::connect:
    case Phase::ehlo:
    case Phase::mail:
    case Phase::rcpt:
      return 5min;
    case Phase::tls:
    case Phase::auth:
    case Phase::data:
      return 2min;
    case Phase::final_dot:
      return 10min;
  }
  return 5min;
}
constexpr auto block_timeout = 3min;

}  // namespace

void Connection::fail(std::string what) {
  usable_ = false;
  error_ = std::move(what);
  stream_->close();
}

boost::asio::awaitable<bool> Connection::converse(smtp::Reply& out) {
  const auto deadline = in(reply_timeout(session_.phase()));
  if (!flush_now()) {
    const bool written = co_await flush(deadline);
    if (!written) co_return false;
  }
  stream_->expires_at(deadline);
  while (true) {
    std::string_view view = input_;
    const auto status = parser_.feed(view);
    input_.erase(0, input_.size() - view.size());
    if (status == smtp::ReplyParser::Status::complete) {
      out = parser_.take();
      replied_ = true;
      co_return true;
    }
    if (status == smtp::ReplyParser::Status::malformed) {
      fail("protocol error: " + parser_.error());
      co_return false;
    }
    const ReadResult got = co_await stream_->read_some(boost::asio::buffer(buffer_));
    if (got.error) {
      fail(stream_->timed_out() ? "timed out" : "connection lost: " + got.error.message());
      co_return false;
    }
    input_.append(buffer_.data(), got.size);
  }
}

/// Most commands fit into the socket at once; false when some of it is left to flush().
bool Connection::flush_now() {
  std::string& out = session_.output();
  if (out.empty()) return true;
  const boost::asio::const_buffer whole = boost::asio::buffer(out);
  out.erase(0, stream_->write_now({&whole, 1}));
  return out.empty();
}

boost::asio::awaitable<bool> Connection::flush(Deadline deadline) {
  if (session_.output().empty()) co_return true;
  stream_->expires_at(deadline);
  const std::string out = std::move(session_.output());
  session_.output().clear();
  const error_code error = co_await write_all(*stream_, out);
  if (error) fail("write: " + (stream_->timed_out() ? "timed out" : error.message()));
  co_return !error;
}

std::string Connection::tls_summary() const {
  const std::string cipher = stream_->tls_summary();
  return (cipher.empty() ? "none" : cipher) + " (" + security_.policy + ")";
}

boost::asio::awaitable<bool> Connection::handshake() {
  stream_->expires_at(in(2min));
  const error_code error = co_await stream_->handshake(*security_.context, host_, security_.dane.get());
  if (error) fail("TLS handshake: " + (stream_->timed_out() ? "timed out" : error.message()));
  co_return !error;
}

boost::asio::awaitable<Connection::Opened> Connection::open() {
  if (security_.implicit_tls) {
    const bool secured = co_await handshake();
    if (!secured) co_return Opened::tls_failed;
  }
  auto action = ClientSession::Action::read;
  while (true) {
    switch (action) {
      case ClientSession::Action::read: {
        smtp::Reply reply;
        const bool read = co_await converse(reply);
        if (!read) co_return Opened::lost;
        action = session_.on_reply(std::move(reply));
        break;
      }
      case ClientSession::Action::handshake: {
        // What came in clear behind the 220 would be read as if it came under TLS (CVE-2021-38371).
        if (!input_.empty()) {
          fail("bytes behind the answer to STARTTLS");
          co_return Opened::tls_failed;
        }
        const bool secured = co_await handshake();
        if (!secured) co_return Opened::tls_failed;
        action = session_.tls_done();
        break;
      }
      case ClientSession::Action::ready:
        co_return Opened::ready;
      case ClientSession::Action::failed:
        usable_ = false;
        co_return Opened::refused;
      case ClientSession::Action::body:
      case ClientSession::Action::done:
        fail("dialog out of step");
        co_return Opened::lost;
    }
  }
}

AttemptResult Connection::broken(AttemptResult::Kind kind) {
  AttemptResult out;
  out.kind = kind;
  out.text = error_ + " (" + std::string(to_string(session_.phase())) + ")";
  out.host = host_;
  out.before_any_reply = !replied_;
  out.ours = unread_;
  return out;
}

/// What the peer can be told of the envelope. A host without SMTPUTF8 still takes domains as A-labels.
smtp::Envelope envelope_for(const spool::Message& message, const std::vector<std::uint32_t>& recipients, bool utf8) {
  const auto fitting = [utf8](smtp::Address address) {
    if (utf8 || address.ascii()) return address;
    if (std::string ascii = to_a_labels(address.domain); !ascii.empty()) address.domain = std::move(ascii);
    return address;
  };
  smtp::Envelope out;
  out.sender = fitting(message.sender);
  out.dsn = message.dsn;
  for (const auto index : recipients) {
    out.recipients.push_back(fitting(message.recipients[index]));
    if (!message.recipient_dsn.empty()) out.recipient_dsn.push_back(message.recipient_dsn[index]);
  }
  out.utf8_header = message.utf8 && message.eight_bit_header;
  return out;
}

boost::asio::awaitable<Transaction> Connection::prepare(std::shared_ptr<const spool::Message> message,
                                                        std::vector<std::uint32_t> recipients, OutgoingOptions options,
                                                        spool::Spool& spool) {
  const smtp::Capabilities& peer = session_.capabilities();
  options.eight_bit_mime = peer.eight_bit_mime;
  Transaction out;
  out.outgoing = co_await prepare_outgoing(std::move(message), std::move(options), spool);
  out.refusal = refusal_of(out.outgoing);
  if (out.refusal) {
    out.envelope.recipients.resize(recipients.size());
    co_return out;
  }
  out.envelope = envelope_for(*out.outgoing.message, recipients, peer.smtputf8);
  out.envelope.size = out.outgoing.size;
  out.envelope.eight_bit = out.outgoing.eight_bit;
  if (peer.size && peer.max_size && out.outgoing.size > peer.max_size)
    out.refusal = smtp::make_reply(552, "5.3.4 (local) larger than the receiver's limit of " + std::to_string(peer.max_size));
  co_return out;
}

boost::asio::awaitable<AttemptResult> Connection::send(const Transaction* transaction, const Transaction* next,
                                                       spool::Spool& spool) {
  using Kind = AttemptResult::Kind;
  AttemptResult out;
  out.host = host_;
  out.tls = tls_summary();
  out.dsn = session_.capabilities().dsn;
  const std::size_t recipients = transaction->envelope.recipients.size();
  if (transaction->outgoing.unreadable) {
    out.kind = Kind::lost;
    out.ours = true;
    out.text = unreadable_text;
    co_return out;
  }
  if (transaction->refusal) {
    out.kind = Kind::answered;
    out.outcomes.assign(recipients, {*transaction->refusal, Phase::mail});
    co_return out;
  }
  ++messages_;
  replied_ = end_written_ = false;
  auto action = session_.send(transaction->envelope);
  while (true) {
    switch (action) {
      case ClientSession::Action::read: {
        smtp::Reply reply;
        const bool read = co_await converse(reply);
        if (!read) co_return broken(session_.awaiting_final_reply() ? Kind::ambiguous : Kind::lost);
        action = session_.on_reply(std::move(reply));
        break;
      }
      case ClientSession::Action::body: {
        const bool announced = next && !next->refusal && !next->outgoing.unreadable;
        const std::string behind = announced ? session_.chain(next->envelope) : std::string();
        const bool sent = co_await send_body(&transaction->outgoing, behind, spool);
        // With more behind it, the final dot may have gone out before the write failed.
        if (!sent) co_return broken(end_written_ && !behind.empty() ? Kind::ambiguous : Kind::lost);
        action = session_.body_sent();
        break;
      }
      case ClientSession::Action::done:
        out.kind = Kind::answered;
        out.outcomes = session_.outcomes();
        co_return out;
      case ClientSession::Action::failed:
        out.kind = Kind::answered;
        out.outcomes.assign(recipients, session_.failure());
        usable_ = false;
        co_return out;
      case ClientSession::Action::handshake:
      case ClientSession::Action::ready:
        fail("dialog out of step");
        co_return broken(Kind::lost);
    }
  }
}

boost::asio::awaitable<bool> Connection::send_body(const Outgoing* outgoing, std::string_view behind, spool::Spool& spool) {
  const std::string end = ".\r\n" + std::string(behind);
  const spool::Message& message = *outgoing->message;
  std::uint64_t offset = 0;
  if (!message.extents.empty() && !outgoing->head.empty()) {
    const std::vector<std::string> head(1, outgoing->head);
    const bool sent = co_await write_piece(head, 0, nullptr, "");
    if (!sent) co_return false;
  }
  for (const auto& extent : message.extents) {
    std::vector<std::string> piece(1);
    piece[0] = co_await spool.read(extent);
    if (piece[0].size() != extent.length) {
      fail(unreadable_text);
      unread_ = true;
      co_return false;
    }
    const bool sent = co_await write_piece(piece, offset, outgoing, "");
    if (!sent) co_return false;
    offset += extent.length;
  }
  co_return co_await write_piece(message.tail, offset, outgoing, end);
}

/// Writes stored octets as they go out: what the head replaces is left out, the head itself comes with the first
/// octets of a message that is in memory. Without `outgoing` they are written as they are.
boost::asio::awaitable<bool> Connection::write_piece(std::span<const std::string> chunks, std::uint64_t offset,
                                                     const Outgoing* outgoing, std::string_view end) {
  std::vector<boost::asio::const_buffer> buffers;
  const auto emit = [&](std::string_view part) {
    if (!part.empty()) buffers.emplace_back(part.data(), part.size());
  };
  if (outgoing && offset == 0 && outgoing->message->extents.empty()) emit(outgoing->head);
  for (const std::string& chunk : chunks) {
    if (!outgoing) {
      emit(chunk);
      continue;
    }
    const spool::Message& message = *outgoing->message;
    const std::uint64_t skip =
        outgoing->body_from > offset ? std::min<std::uint64_t>(outgoing->body_from - offset, chunk.size()) : 0;
    const std::string_view rest = std::string_view(chunk).substr(skip);
    if (outgoing->body_from > 0)
      smtp::without_cuts(rest, offset + skip, message.cuts, emit);
    else
      smtp::as_sent(rest, offset, message.cuts, message.header_end, message.added, emit);
    offset += chunk.size();
  }
  if (!end.empty()) buffers.emplace_back(end.data(), end.size());
  // In blocks, each with its own deadline: a large message to a slow receiver is no fault.
  for (std::size_t at = 0; at < buffers.size(); at += 16) {
    const std::size_t count = std::min<std::size_t>(16, buffers.size() - at);
    stream_->expires_at(in(block_timeout));
    end_written_ = !end.empty() && at + count == buffers.size();
    const error_code error = co_await stream_->write(std::span(buffers).subspan(at, count));
    if (error) {
      fail(stream_->timed_out() ? "timed out while sending the message"
                                : "connection lost while sending the message: " + error.message());
      co_return false;
    }
  }
  co_return true;
}

boost::asio::awaitable<void> Connection::quit() {
  if (usable_) {
    session_.quit();
    stream_->expires_at(in(1s));
    co_await flush(in(1s));
  }
  stream_->close();
}

}  // namespace egret::relay
