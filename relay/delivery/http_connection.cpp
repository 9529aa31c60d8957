#include "relay/delivery/http_connection.hpp"

#include <algorithm>
#include <array>

#include "relay/auth/nonce.hpp"
#include "relay/net/http_exchange.hpp"
#include "relay/runtime/clock.hpp"
#include "routing/esp_api.hpp"
#include "smtp/sigv4.hpp"

namespace egret::relay {
namespace {

using namespace std::chrono_literals;
using smtp::Phase;
using Kind = AttemptResult::Kind;

constexpr auto handshake_timeout = 2min;
constexpr auto block_timeout = 3min;    // of one piece of the body: a large message on a slow line is no fault
constexpr auto early_answer_time = 2s;  // who stops reading has said why, or will not
constexpr std::uint64_t max_answer = 64 * 1024;

/// Whom the API can be told about: no ESP takes local parts beyond ASCII there.
std::vector<bool> nameable(const smtp::Envelope& envelope) {
  std::vector<bool> out;
  for (const auto& recipient : envelope.recipients) out.push_back(recipient.ascii());
  return out;
}

smtp::Envelope to_named(const smtp::Envelope& envelope, const std::vector<bool>& named) {
  smtp::Envelope out;
  out.sender = envelope.sender;
  for (std::size_t i = 0; i < named.size(); ++i)
    if (named[i]) out.recipients.push_back(envelope.recipients[i]);
  return out;
}

}  // namespace

HttpConnection::HttpConnection(std::unique_ptr<Stream> stream, std::shared_ptr<const config::HttpApi> api, std::string preset,
                               std::vector<std::pair<std::string, std::string>> orders, Security security)
    : stream_(std::move(stream)),
      api_(std::move(api)),
      preset_(std::move(preset)),
      orders_(std::move(orders)),
      security_(std::move(security)) {}

void HttpConnection::fail(std::string what) {
  usable_ = false;
  error_ = std::move(what);
  stream_->close();
}

AttemptResult HttpConnection::broken(Kind kind) {
  AttemptResult out;
  out.kind = kind;
  out.text = error_ + (kind == Kind::ambiguous ? " (after the whole request)" : " (while sending the request)");
  out.host = api_->host;
  out.before_any_reply = !replied_;
  return out;
}

std::string HttpConnection::tls_summary() const {
  const std::string cipher = stream_->tls_summary();
  return (cipher.empty() ? "none" : cipher) + " (" + security_.policy + ")";
}

boost::asio::awaitable<bool> HttpConnection::open() {
  if (!security_.implicit_tls) co_return true;
  stream_->expires_at(in(handshake_timeout));
  const error_code error = co_await stream_->handshake(*security_.context, api_->host, nullptr);
  if (error) fail("TLS handshake: " + (stream_->timed_out() ? "timed out" : error.message()));
  co_return !error;
}

boost::asio::awaitable<Transaction> HttpConnection::prepare(std::shared_ptr<const spool::Message> message,
                                                            std::vector<std::uint32_t> recipients, OutgoingOptions options,
                                                            spool::Spool& spool) {
  options.eight_bit_mime = takes_eight_bit(api_->kind);
  const bool utf8_header = message->utf8 && message->eight_bit_header;
  Transaction out;
  out.envelope = envelope_for(*message, recipients, false);
  out.outgoing = co_await prepare_outgoing(std::move(message), std::move(options), spool);
  out.refusal = refusal_of(out.outgoing);
  if (out.refusal) co_return out;
  if (utf8_header)
    out.refusal = smtp::make_reply(554, "5.6.9 (local) the API does not take UTF-8 header fields");
  else if (!out.envelope.sender.ascii())
    out.refusal = smtp::make_reply(553, "5.6.7 (local) the API does not take internationalised addresses");
  co_return out;
}

/// A request needs its length beforehand, and a signature the digest too.
boost::asio::awaitable<bool> HttpConnection::measure(HttpBody* body, Measure* out) {
  smtp::Sha256 digest;
  const bool signing = api_->kind == config::HttpApiKind::ses;
  for (std::string piece = co_await body->next(); !piece.empty(); piece = co_await body->next()) {
    out->length += piece.size();
    if (signing) digest.update(piece);
  }
  if (signing) out->sha256 = smtp::hex(digest.finish());
  co_return !body->failed();
}

/// In pieces, each with its own deadline.
boost::asio::awaitable<bool> HttpConnection::write(std::string head, HttpBody* body) {
  std::string piece = co_await body->next();
  bool first = true;
  while (!piece.empty()) {
    const std::array<boost::asio::const_buffer, 2> buffers{boost::asio::buffer(head), boost::asio::buffer(piece)};
    stream_->expires_at(in(block_timeout));
    const error_code error = co_await stream_->write(std::span(buffers).subspan(first ? 0 : 1));
    if (error) {
      error_ = stream_->timed_out() ? "timed out while sending" : "connection lost: " + error.message();
      co_return false;
    }
    first = false;
    piece = co_await body->next();
  }
  if (body->failed()) error_ = unreadable_text;
  co_return !body->failed();
}

boost::asio::awaitable<AttemptResult> HttpConnection::send(const Transaction* transaction, const Transaction*,
                                                           spool::Spool& spool) {
  AttemptResult out;
  out.host = api_->host;
  out.tls = tls_summary();
  if (transaction->outgoing.unreadable) {
    out.kind = Kind::lost;
    out.ours = true;
    out.text = unreadable_text;
    co_return out;
  }
  const std::size_t count = transaction->envelope.recipients.size();
  out.kind = Kind::answered;
  // Whoever cannot be named in the request is refused here; all others get the API's answer.
  const auto unnamed = smtp::make_reply(553, "5.6.7 (local) the API does not take internationalised addresses");
  out.outcomes.assign(count, {transaction->refusal.value_or(unnamed), transaction->refusal ? Phase::mail : Phase::rcpt});
  const std::vector<bool> named = nameable(transaction->envelope);
  const smtp::Envelope envelope = to_named(transaction->envelope, named);
  if (transaction->refusal || envelope.recipients.empty()) co_return out;

  replied_ = false;
  if (messages_ > 0 && stream_->gone()) {  // closed while it waited for work: nothing of this message was sent
    fail("the server has closed the connection");
    co_return broken(Kind::lost);
  }
  const Submission request = submission(*api_, envelope, orders_, "egret" + smtp::hex(random_octets(16)));
  HttpBody measured(transaction->outgoing, request, spool);
  Measure size;
  const bool readable = co_await measure(&measured, &size);
  if (!readable) {
    fail(unreadable_text);
    AttemptResult end = broken(Kind::lost);
    end.ours = true;
    co_return end;
  }
  ++messages_;
  HttpBody body(transaction->outgoing, request, spool);
  const bool written = co_await write(request_head(*api_, request, size.length, size.sha256, now()), &body);
  if (!written && (stream_->timed_out() || body.failed())) {
    fail(std::string(error_));
    AttemptResult end = broken(Kind::lost);
    end.ours = body.failed();
    co_return end;
  }
  // Who refuses early, a large message above all, answers and closes without reading on.
  stream_->expires_at(in(written ? std::chrono::steady_clock::duration(api_->timeout) : early_answer_time));
  const HttpAnswer answer = co_await read_http_answer(*stream_, max_answer);
  replied_ = answer.begun;
  if (!answer.error.empty()) {
    fail(written ? std::string(answer.error) : std::string(error_));
    co_return broken(written ? Kind::ambiguous : Kind::lost);
  }
  const std::string body_text = without_secret(*api_, answer.body), error_type = without_secret(*api_, answer.error_type);
  const routing::ApiVerdict verdict =
      routing::read_api_answer(preset_, {answer.status, error_type, answer.retry_after, body_text}, envelope.recipients.size());
  const bool taken = verdict.outcome.delivered();
  if (!written && taken) {  // of half a message
    fail(std::string(error_));
    co_return broken(Kind::ambiguous);
  }
  if (!answer.keep_alive || !written) usable_ = false;
  if (verdict.ambiguous) {
    fail(verdict.outcome.reply.to_string());
    co_return broken(Kind::ambiguous);
  }
  // What is said of the message, or of too many, is said to a customer who is known.
  proven_ = proven_ || (verdict.outcome.phase == Phase::final_dot && verdict.outcome.reply.code != 535);
  out.one_by_one = verdict.one_by_one;
  out.retry_after = verdict.retry_after;
  for (std::size_t i = 0; i < count; ++i)
    if (named[i]) out.outcomes[i] = verdict.outcome;
  co_return out;
}

boost::asio::awaitable<void> HttpConnection::quit() {
  if (usable_) co_await stream_->shutdown();
  stream_->close();
}

}  // namespace egret::relay
