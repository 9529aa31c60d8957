#include "relay/net/http_exchange.hpp"

#include <algorithm>
#include <boost/asio/error.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

namespace egret::relay {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Parser = http::response_parser<http::string_body>;

constexpr auto connect_timeout = std::chrono::seconds(10);
constexpr std::uint32_t max_header = 16 * 1024;

HttpAnswer failure(std::string error) {
  HttpAnswer out;
  out.error = std::move(error);
  return out;
}

/// What came of a connection and was not parsed yet, over the responses on it.
struct Received {
  boost::beast::flat_buffer buffer;
  std::uint64_t octets = 0;
};

/// Reads one response into `parser`; empty, or what went wrong.
asio::awaitable<std::string> read_response(Stream& stream, Parser& parser, Received& received, std::uint64_t max_body) {
  parser.header_limit(max_header);
  parser.body_limit(max_body);
  parser.eager(true);
  // Of everything that one response may take: chunk headers and trailers are under no limit of the parser's.
  const std::uint64_t max_received = 2 * max_header + 3 * max_body;
  error_code error;
  while (!parser.is_done()) {
    if (received.buffer.size() > 0) {
      const std::size_t used = parser.put(received.buffer.data(), error);
      received.buffer.consume(used);
      if (error && error != http::error::need_more) co_return "HTTP: " + error.message();
      if (!error && used > 0) continue;
    }
    const ReadResult got = co_await stream.read_some(received.buffer.prepare(4096));
    if (got.error == asio::error::eof) {
      if (!parser.got_some()) co_return "the connection ended without a response";
      // Only a proper end of TLS may stand for the end of a body: a cut connection must not shorten it.
      parser.put_eof(error);
      if (error || !parser.is_done()) co_return "the response ends too early";
      break;
    }
    if (got.error) co_return stream.timed_out() ? "timeout" : "reading failed: " + got.error.message();
    received.octets += got.size;
    if (received.octets > max_received) co_return "the response is too large";
    received.buffer.commit(got.size);
  }
  co_return std::string();
}

}  // namespace

asio::awaitable<HttpAnswer> http_exchange(HttpExchange exchange, Deadlines& deadlines) {
  ConnectOptions options;
  options.to = exchange.to;
  options.port = exchange.port;
  options.deadline = std::min(exchange.deadline, in(connect_timeout));
  const ConnectResult connected = co_await connect(options, deadlines);
  const std::string address = exchange.to.to_string();
  if (connected.error) co_return failure("connecting to " + address + " failed: " + connected.error.message());
  Stream& stream = *connected.stream;
  stream.expires_at(exchange.deadline);
  if (exchange.tls) {
    const error_code shaken = co_await stream.handshake(*exchange.tls, exchange.name, nullptr);
    if (shaken) co_return failure(stream.timed_out() ? "timeout" : "TLS with " + address + ": " + shaken.message());
  }
  const error_code written = co_await write_all(stream, exchange.request);
  if (written) co_return failure(stream.timed_out() ? "timeout" : "writing failed: " + written.message());
  co_return co_await read_http_answer(stream, exchange.max_body, exchange.body_wanted);
}

asio::awaitable<HttpAnswer> read_http_answer(Stream& stream, std::uint64_t max_body, bool body_wanted) {
  Received received;
  while (true) {
    Parser parser;
    std::string trouble = co_await read_response(stream, parser, received, max_body);
    HttpAnswer out;
    out.begun = received.octets > 0;
    if (!trouble.empty() && (body_wanted || !parser.is_header_done())) {
      out.error = std::move(trouble);
      co_return out;
    }
    auto& response = parser.get();
    if (trouble.empty() && response.result_int() / 100 == 1) continue;  // RFC 9110 section 15.2
    out.status = response.result_int();
    out.content_type = response[http::field::content_type];
    out.error_type = response["x-amzn-errortype"];
    out.retry_after = response[http::field::retry_after];
    out.keep_alive = trouble.empty() && parser.keep_alive() && received.buffer.size() == 0;
    out.body = std::move(response.body());
    co_return out;
  }
}

}  // namespace egret::relay
