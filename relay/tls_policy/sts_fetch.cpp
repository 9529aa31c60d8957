#include "relay/tls_policy/sts_fetch.hpp"

#include <algorithm>
#include <boost/asio/error.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <memory>

#include "relay/net/stream.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Parser = http::response_parser<http::string_body>;

constexpr std::uint16_t https_port = 443;
constexpr std::size_t max_addresses = 4;  // of each family
constexpr auto connect_timeout = std::chrono::seconds(10);
constexpr std::uint32_t max_header = 16 * 1024;
// Of everything that one response may take: chunk headers and trailers are under no limit of the parser's.
constexpr std::size_t max_received = 4 * routing::max_sts_policy_size;

StsFetch failure(std::string error) {
  StsFetch out;
  out.error = std::move(error);
  return out;
}

std::string request_for(const std::string& host) {
  return "GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: " + host +
         "\r\nUser-Agent: Egret\r\nAccept: text/plain\r\nConnection: close\r\n\r\n";
}

/// "text/plain" in any case and with any parameters.
bool plain_text(std::string_view type) {
  return smtp::iequals(smtp::trim(type.substr(0, type.find(';'))), "text/plain");
}

StsFetch judge(const Parser& parser) {
  const auto& response = parser.get();
  if (response.result_int() != 200) return failure("HTTP status " + std::to_string(response.result_int()));
  const auto type = response[http::field::content_type];
  if (!plain_text({type.data(), type.size()})) return failure("the policy is not text/plain");
  StsFetch out;
  std::string why;
  out.policy = routing::parse_sts_policy(response.body(), &why);
  if (!out.policy) out.error = "invalid policy: " + why;
  return out;
}

/// Reads one response into `parser`; empty, or what went wrong.
asio::awaitable<std::string> read_response(Stream& stream, Parser& parser) {
  parser.header_limit(max_header);
  parser.body_limit(routing::max_sts_policy_size);
  parser.eager(true);
  boost::beast::flat_buffer buffer;
  std::size_t received = 0;
  while (!parser.is_done()) {
    const ReadResult got = co_await stream.read_some(buffer.prepare(4096));
    error_code error;
    if (got.error == asio::error::eof) {
      // Only a proper end of TLS may stand for the end of a body: a cut connection must not shorten a policy.
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

/// What came of asking at one address. `answered`: there was a whole HTTP response, another address would say the same.
struct Attempt {
  StsFetch fetch;
  bool answered = false;
};

asio::awaitable<Attempt> ask(std::string host, routing::IpAddress address, Deadlines& deadlines, TlsContext& tls,
                             Deadline deadline) {
  ConnectOptions options;
  options.to = address;
  options.port = https_port;
  options.deadline = std::min(deadline, in(connect_timeout));
  const ConnectResult connected = co_await connect(options, deadlines);
  if (connected.error)
    co_return Attempt{failure("connecting to " + address.to_string() + " failed: " + connected.error.message())};
  Stream& stream = *connected.stream;
  stream.expires_at(deadline);
  const error_code shaken = co_await stream.handshake(tls, host, nullptr);
  if (shaken)
    co_return Attempt{failure(stream.timed_out() ? "timeout" : "TLS with " + address.to_string() + ": " + shaken.message())};
  const std::string request = request_for(host);
  const error_code written = co_await write_all(stream, request);
  if (written) co_return Attempt{failure(stream.timed_out() ? "timeout" : "writing failed: " + written.message())};
  Parser parser;
  std::string trouble = co_await read_response(stream, parser);
  if (!trouble.empty()) co_return Attempt{failure(std::move(trouble))};
  co_return Attempt{judge(parser), true};
}

}  // namespace

asio::awaitable<StsFetch> fetch_sts_policy(std::string domain, Resolver& resolver, Deadlines& deadlines, TlsContext& tls,
                                           bool allow_private, Deadline deadline) {
  const std::string host = "mta-sts." + domain;
  StsFetch last = failure("the policy host has no address");
  for (const DnsType type : {DnsType::a, DnsType::aaaa}) {
    DnsReply reply = co_await resolver.query(host, type);
    if (reply.status == DnsReply::Status::failed) last = failure("address look-up failed: " + reply.error);
    if (reply.addresses.size() > max_addresses) reply.addresses.resize(max_addresses);
    for (const routing::IpAddress& address : reply.addresses) {
      if (std::chrono::steady_clock::now() >= deadline) co_return failure("timeout");
      if (!allow_private && address.special()) {
        last = failure("the policy host has a private address: " + address.to_string());
        continue;
      }
      Attempt attempt = co_await ask(host, address, deadlines, tls, deadline);
      last = std::move(attempt.fetch);
      if (attempt.answered) co_return last;
    }
  }
  co_return last;
}

}  // namespace egret::relay
