#include "relay/esp/event_server.hpp"

#include <algorithm>
#include <array>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <optional>
#include <stdexcept>
#include <utility>

#include "relay/runtime/log.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using namespace std::chrono_literals;
using Parser = http::request_parser<http::string_body>;

constexpr std::uint32_t max_header = 16 * 1024;
constexpr auto handshake_timeout = 10s;
constexpr auto idle_timeout = 10s;
constexpr auto request_timeout = 10s;
constexpr auto crowded_timeout = 3s;  // of each of these, with three quarters of the connections taken
constexpr auto drain_timeout = 2s;
constexpr std::size_t max_drained = 4u << 20;
constexpr int max_requests = 1000;  // on one connection

std::string_view reason_of(unsigned status) {
  const auto text = http::obsolete_reason(static_cast<http::status>(status));
  return {text.data(), text.size()};
}

std::string response(const EventAnswer& answer, bool keep_alive) {
  std::string out = "HTTP/1.1 " + std::to_string(answer.status) + ' ' + std::string(reason_of(answer.status));
  out += "\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(answer.body.size());
  if (answer.status == 405) out += "\r\nAllow: POST";
  if (answer.status == 401) out += "\r\nWWW-Authenticate: Basic realm=\"events\"";
  if (answer.status == 503) out += "\r\nRetry-After: 30";
  out += keep_alive ? "\r\n\r\n" : "\r\nConnection: close\r\n\r\n";
  return out + answer.body;
}

EventRefusal refusal_of(const boost::system::error_code& error) {
  if (error == http::error::body_limit || error == http::error::header_limit || error == http::error::buffer_overflow)
    return EventRefusal::too_large;
  return EventRefusal::malformed;
}

}  // namespace

/// One connection.
struct EventServer::Exchange {
  routing::IpAddress client;
  boost::beast::flat_buffer buffer;
  int requests = 0;
};

EventServer::EventServer(const asio::any_io_executor& executor, std::shared_ptr<const config::EventListener> options,
                         EventDesk& desk, InheritedSockets* inherited)
    : executor_(executor),
      options_(std::move(options)),
      tls_(tls_of(*options_)),
      desk_(desk),
      deadlines_(executor),
      tasks_(executor) {
  const tcp::endpoint endpoint(asio::ip::make_address(options_->ip.to_string()), options_->port);
  boost::system::error_code error;
  const auto check = [&] {
    if (error) throw std::runtime_error("cannot listen on " + options_->address + " (esp_events): " + error.message());
  };
  if (inherited) acceptors_ = inherited->take(executor, options_->ip, options_->port);
  if (!acceptors_.empty()) return;
  tcp::acceptor& acceptor = acceptors_.emplace_back(executor);
  acceptor.open(endpoint.protocol(), error);
  check();
  acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (options_->ip.v6) acceptor.set_option(asio::ip::v6_only(true), error);
  acceptor.bind(endpoint, error);
  check();
  acceptor.listen(256, error);
  check();
}

std::shared_ptr<TlsContext> EventServer::tls_of(const config::EventListener& options) {
  return options.certificate.empty() ? nullptr : TlsContext::server(options.certificate, options.key, options.address);
}

void EventServer::start() {
  for (auto& acceptor : acceptors_) tasks_.spawn(accept(&acceptor), "events listener");
}

void EventServer::configure(std::shared_ptr<const config::EventListener> options, std::shared_ptr<TlsContext> tls) {
  options_ = std::move(options);
  tls_ = std::move(tls);
}

asio::awaitable<void> EventServer::stop(bool keep_open) {
  stopping_ = true;
  boost::system::error_code ignored;
  for (auto& acceptor : acceptors_)
    if (keep_open)
      acceptor.cancel(ignored);
    else
      acceptor.close(ignored);
  co_await tasks_.wait_or(in(1s), [this] { deadlines_.expire_all(); });
}

std::vector<int> EventServer::release() {
  std::vector<int> out;
  boost::system::error_code ignored;
  for (auto& acceptor : acceptors_)
    if (acceptor.is_open()) out.push_back(acceptor.release(ignored));
  return out;
}

asio::awaitable<void> EventServer::accept(tcp::acceptor* acceptor) {
  while (!stopping_) {
    boost::system::error_code error;
    tcp::socket socket = co_await acceptor->async_accept(asio::redirect_error(asio::use_awaitable, error));
    if (stopping_ && error) break;
    if (error) {
      asio::steady_timer pause(executor_, 100ms);
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
      continue;
    }
    const auto peer = socket.remote_endpoint(error);
    const auto client = error ? std::nullopt : routing::IpAddress::parse(peer.address().to_string());
    // ESPs try again: with all places taken, somebody else's turn is over within seconds.
    if (!client || connections_ >= max_connections) continue;
    tasks_.spawn(serve(make_stream(std::move(socket), deadlines_), client->unmapped()), "events");
  }
}

asio::awaitable<void> EventServer::serve(std::unique_ptr<Stream> stream, routing::IpAddress client) {
  struct Place {
    explicit Place(std::size_t& places) : taken(places) { ++taken; }
    ~Place() { --taken; }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    std::size_t& taken;
  };
  const Place place(connections_);
  const auto tls = tls_;  // the handshake's, whatever a reload does meanwhile
  if (tls) {
    stream->expires_at(in(connections_ > max_connections * 3 / 4 ? crowded_timeout : handshake_timeout));
    const error_code shaken = co_await stream->accept_handshake(*tls, "");
    if (shaken) co_return;
  }
  Exchange state;
  state.client = client;
  bool more = true;  // who came in at the very moment of a stop is answered too
  while (more && (!stopping_ || state.requests == 0) && state.requests < max_requests)
    more = co_await exchange(stream.get(), &state);
  co_await stream->shutdown();
}

/// One request and its answer. False: the connection has come to its end.
asio::awaitable<bool> EventServer::exchange(Stream* stream, Exchange* state) {
  ++state->requests;
  const bool crowded = connections_ > max_connections * 3 / 4;
  Parser parser;
  parser.header_limit(max_header);
  parser.body_limit(max_body);
  parser.eager(true);
  stream->expires_at(in(crowded ? crowded_timeout : idle_timeout));
  bool begun = state->buffer.size() > 0, expected = false;
  if (begun) stream->expires_at(in(crowded ? crowded_timeout : request_timeout));
  // Chunk headers and trailers are under no limit of the parser's.
  constexpr std::size_t max_received = 2 * max_header + 3 * max_body;
  std::size_t received = state->buffer.size();
  error_code error;
  while (true) {
    if (state->buffer.size() > 0) {
      state->buffer.consume(parser.put(state->buffer.data(), error));
      if (error == http::error::need_more) error = {};
    }
    if (!error && received > max_received) error = http::error::body_limit;
    if (error || parser.is_done()) break;
    if (parser.is_header_done() && !std::exchange(expected, true) &&
        smtp::iequals(std::string_view(parser.get()[http::field::expect].data(), parser.get()[http::field::expect].size()),
                      "100-continue")) {
      const error_code written = co_await write_all(*stream, "HTTP/1.1 100 Continue\r\n\r\n");
      if (written) co_return false;
    }
    const ReadResult got = co_await stream->read_some(state->buffer.prepare(16 * 1024));
    if (got.error) co_return false;
    if (!std::exchange(begun, true)) stream->expires_at(in(crowded ? crowded_timeout : request_timeout));
    received += got.size;
    state->buffer.commit(got.size);
  }
  const auto& head = parser.get();
  const std::string target(head.target().data(), head.target().size());  // empty where the first line was not understood
  EventAnswer answer;
  bool keep = false;
  if (error) {
    answer = desk_.refuse(target, refusal_of(error), state->client);
  } else if (head.method() != http::verb::post) {
    answer = desk_.refuse(target, EventRefusal::method, state->client);
  } else {
    keep = head.keep_alive() && !stopping_ && state->requests < max_requests;
    EventRequest request;
    request.client = state->client;
    for (const auto& field : head)
      request.fields.emplace_back(std::string(field.name_string().data(), field.name_string().size()),
                                  std::string(field.value().data(), field.value().size()));
    request.body = std::move(parser.get().body());
    answer = co_await desk_.handle(target, std::move(request));
  }
  stream->expires_at(in(request_timeout));
  const std::string out = response(answer, keep);
  const error_code written = co_await write_all(*stream, out);
  if (written || keep) co_return !written;
  if (error) {
    // A client that is still sending would otherwise lose the answer with the connection.
    stream->expires_at(in(drain_timeout));
    std::array<char, 16 * 1024> ignored;
    for (std::size_t drained = 0; drained < max_drained;) {
      const ReadResult got = co_await stream->read_some(asio::buffer(ignored));
      if (got.error) break;
      drained += got.size;
    }
  }
  co_return false;
}

}  // namespace egret::relay
