#include "relay/net/via.hpp"

#include <array>

#include "smtp/proxy_protocol.hpp"
#include "smtp/socks5.hpp"

namespace egret::relay {
namespace {

ConnectResult fault(ConnectResult out, std::string text) {
  out.stream.reset();
  out.local_fault = true;
  out.text = std::move(text);
  if (!out.error) out.error = boost::asio::error::connection_aborted;
  return out;
}

boost::asio::awaitable<ConnectResult> socks(ConnectResult connected, config::Via via, routing::IpAddress to, std::uint16_t port) {
  using Action = smtp::Socks5Client::Action;
  smtp::Socks5Client client(to.to_string(), port, via.login);
  Action action = client.action();
  std::string input;
  while (action == Action::read) {
    const std::string out = std::move(client.output());
    client.output().clear();
    if (!out.empty()) {
      const error_code error = co_await write_all(*connected.stream, out);
      if (error) co_return fault(std::move(connected), "the proxy closed the connection");
    }
    std::array<char, 512> buffer;
    const ReadResult got = co_await connected.stream->read_some(boost::asio::buffer(buffer));
    if (got.error) {
      const bool late = connected.stream->timed_out();
      co_return fault(std::move(connected), late ? "the proxy did not answer in time" : "the proxy closed the connection");
    }
    input.append(buffer.data(), got.size);
    std::string_view view = input;
    action = client.on_bytes(view);
    input.erase(0, input.size() - view.size());
  }
  if (action == Action::connected) {
    connected.received = std::move(input);
    co_return connected;
  }
  if (client.proxy_fault()) co_return fault(std::move(connected), client.failure());
  connected.stream.reset();
  connected.error = boost::asio::error::host_unreachable;
  connected.text = client.failure();
  co_return connected;
}

}  // namespace

boost::asio::awaitable<ConnectResult> connect_via(config::Via via, routing::IpAddress from, ConnectOptions options,
                                                  Deadlines& deadlines) {
  const routing::IpAddress to = options.to;
  const std::uint16_t port = options.port;
  options.to = via.ip;
  options.port = via.port;
  options.from.reset();
  const Deadline deadline = options.deadline;
  ConnectResult connected = co_await connect(options, deadlines);
  if (!connected.stream && connected.shortage) co_return connected;
  if (!connected.stream) {
    const std::string why = connected.error.message();
    co_return fault(std::move(connected), "the proxy cannot be reached: " + why);
  }
  connected.stream->expires_at(deadline);
  if (via.kind == config::Via::Kind::socks5) co_return co_await socks(std::move(connected), std::move(via), to, port);
  smtp::ProxyHeader header;
  header.source = from.to_string();
  header.destination = to.to_string();
  header.destination_port = port;
  const std::string octets = smtp::encode_proxy_v2(header);
  const error_code error = co_await write_all(*connected.stream, octets);
  if (error) co_return fault(std::move(connected), "the proxy closed the connection");
  co_return connected;
}

}  // namespace egret::relay
