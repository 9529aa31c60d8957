#include "relay/delivery/connection.hpp"

#include <array>

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
  const bool written = co_await flush(deadline);
  if (!written) co_return false;
  co_return co_await read_reply(deadline, out);
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

boost::asio::awaitable<bool> Connection::read_reply(Deadline deadline, smtp::Reply& out) {
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
    std::array<char, 4096> buffer;
    const ReadResult got = co_await stream_->read_some(boost::asio::buffer(buffer));
    if (got.error) {
      fail(stream_->timed_out() ? "timed out" : "connection lost: " + got.error.message());
      co_return false;
    }
    input_.append(buffer.data(), got.size);
  }
}

boost::asio::awaitable<Connection::Opened> Connection::open(TlsContext& tls, bool implicit_tls) {
  if (implicit_tls) {
    stream_->expires_at(in(2min));
    const error_code error = co_await stream_->handshake(tls, host_);
    if (error) {
      fail("TLS handshake: " + error.message());
      co_return Opened::tls_failed;
    }
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
        stream_->expires_at(in(2min));
        const error_code error = co_await stream_->handshake(tls, host_);
        if (error) {
          fail("TLS handshake: " + error.message());
          co_return Opened::tls_failed;
        }
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
  return out;
}

boost::asio::awaitable<AttemptResult> Connection::send(std::shared_ptr<const spool::Message> message,
                                                       std::vector<std::uint32_t> recipients, spool::Spool& spool) {
  using Kind = AttemptResult::Kind;
  smtp::Envelope envelope;
  envelope.sender = message->sender;
  for (const auto index : recipients) envelope.recipients.push_back(message->recipients[index]);
  envelope.size = message->body_size;
  for (const auto& cut : message->cuts) envelope.size -= cut.length;
  envelope.eight_bit = message->eight_bit;
  envelope.smtputf8 = message->utf8;
  AttemptResult out;
  out.host = host_;
  if (const auto limit = session_.capabilities().max_size; session_.capabilities().size && limit && envelope.size > limit) {
    out.kind = Kind::answered;
    out.outcomes.assign(
        recipients.size(),
        {smtp::make_reply(552, "5.3.4 (local) larger than the receiver's limit of " + std::to_string(limit)), Phase::mail});
    co_return out;
  }
  ++messages_;
  replied_ = false;
  auto action = session_.send(envelope);
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
        const bool sent = co_await send_body(*message, spool);
        if (!sent) co_return broken(Kind::lost);
        action = session_.body_sent();
        break;
      }
      case ClientSession::Action::done:
        out.kind = Kind::answered;
        out.outcomes = session_.outcomes();
        co_return out;
      case ClientSession::Action::failed:
        out.kind = Kind::answered;
        out.outcomes.assign(recipients.size(), session_.failure());
        usable_ = false;
        co_return out;
      case ClientSession::Action::handshake:
      case ClientSession::Action::ready:
        fail("dialog out of step");
        co_return broken(Kind::lost);
    }
  }
}

boost::asio::awaitable<bool> Connection::send_body(const spool::Message& message, spool::Spool& spool) {
  std::uint64_t offset = 0;
  for (const auto& extent : message.extents) {
    std::vector<std::string> piece(1);
    piece[0] = co_await spool.read(extent);
    if (piece[0].size() != extent.length) {
      fail("the message cannot be read from the spool");
      co_return false;
    }
    const bool sent = co_await write_cut(piece, offset, message.cuts, "");
    if (!sent) co_return false;
    offset += extent.length;
  }
  co_return co_await write_cut(message.tail, offset, message.cuts, ".\r\n");
}

boost::asio::awaitable<bool> Connection::write_cut(std::span<const std::string> chunks, std::uint64_t offset,
                                                   const std::vector<smtp::Cut>& cuts, std::string_view end) {
  std::vector<boost::asio::const_buffer> buffers;
  for (const std::string& chunk : chunks) {
    smtp::without_cuts(chunk, offset, cuts, [&](std::string_view part) { buffers.emplace_back(part.data(), part.size()); });
    offset += chunk.size();
  }
  if (!end.empty()) buffers.emplace_back(end.data(), end.size());
  // In blocks, each with its own deadline: a large message to a slow receiver is no fault.
  for (std::size_t at = 0; at < buffers.size(); at += 16) {
    const std::size_t count = std::min<std::size_t>(16, buffers.size() - at);
    stream_->expires_at(in(block_timeout));
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
