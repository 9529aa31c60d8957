#include "relay/net/http_exchange.hpp"

#include <algorithm>
#include <boost/asio/error.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "relay/net/stream.hpp"

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

/// Reads one response into `parser`; empty, or what went wrong.
asio::awaitable<std::string> read_response(Stream& stream, Parser& parser, std::uint64_t max_body) {
  parser.header_limit(max_header);
  parser.body_limit(max_body);
  parser.eager(true);
  // Of everything that one response may take: chunk headers and trailers are under no limit of the parser's.
  const std::uint64_t max_received = 2 * max_header + 3 * max_body;
  boost::beast::flat_buffer buffer;
  std::uint64_t received = 0;
  while (!parser.is_done()) {
    const ReadResult got = co_await stream.read_some(buffer.prepare(4096));
    error_code error;
    if (got.error == asio::error::eof) {
      if (!parser.got_some()) co_return "the connection ended without a response";
      // Only a proper end of TLS may stand for the end of a body: a cut connection must not shorten it.
      parser.put_eof(error);
      if (error || !parser.is_done()) co_return "the response ends too early";
      break;
    }
    if (got.error) co_return stream.timed_out() ? "timeout" : "reading failed: " + got.error.message();
    received += got.size;
    if (received > max_received) co_return "the response is too large";
    buffer.commit(got.size);
    buffer.consume(parser.put(buffer.data(), error));
    if (error && error != http::error::need_more) co_return "HTTP: " + error.message();
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
  Parser parser;
  std::string trouble = co_await read_response(stream, parser, exchange.max_body);
  if (!trouble.empty() && (exchange.body_wanted || !parser.is_header_done())) co_return failure(std::move(trouble));
  HttpAnswer out;
  out.status = parser.get().result_int();
  out.content_type = parser.get()[http::field::content_type];
  out.body = std::move(parser.get().body());
  co_return out;
}

}  // namespace egret::relay
