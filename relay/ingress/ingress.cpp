#include "relay/ingress/ingress.hpp"

#include <malloc.h>

#include <algorithm>
#include <array>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstring>
#include <stdexcept>

#include "relay/ingress/session.hpp"
#include "relay/runtime/log.hpp"
#include "smtp/proxy_protocol.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using namespace std::chrono_literals;

constexpr auto proxy_timeout = 3s;
constexpr auto relief = 10s;  // what a client gets for its next command while connections run out

routing::IpAddress from_asio(const asio::ip::address& address) {
  routing::IpAddress out;
  if (address.is_v6()) {
    out.v6 = true;
    const auto bytes = address.to_v6().to_bytes();
    std::memcpy(out.bytes.data(), bytes.data(), bytes.size());
    return out.unmapped();
  }
  const auto bytes = address.to_v4().to_bytes();
  std::memcpy(out.bytes.data(), bytes.data(), bytes.size());
  return out;
}

tcp::acceptor open_one(const asio::any_io_executor& executor, const ListenAddress& address, bool shared) {
  boost::system::error_code error;
  const auto check = [&] {
    if (error) throw std::runtime_error("cannot listen on " + to_string(address) + ": " + error.message());
  };
  tcp::acceptor out(executor);
  const tcp::endpoint endpoint{asio::ip::make_address(address.ip.to_string()), address.port};
  out.open(endpoint.protocol(), error);
  check();
  out.set_option(tcp::acceptor::reuse_address(true), error);
  if (address.ip.v6) out.set_option(asio::ip::v6_only(true), error);
  const int on = 1;
  if (shared) setsockopt(out.native_handle(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  out.bind(endpoint, error);
  check();
  out.listen(listen_backlog, error);
  check();
  return out;
}

smtp::ServerOptions options_of(const config::Config& config, const config::Listener& listener) {
  smtp::ServerOptions out;
  out.hostname = config.hostname;
  out.max_recipients = static_cast<std::size_t>(config.limits.recipients);
  out.starttls = listener.tls == config::ListenerTls::starttls;
  out.auth = config.users_file.empty() ? smtp::AuthRule::none : listener.auth;
  out.auth_in_clear = listener.tls == config::ListenerTls::none;
  out.submission = listener.submission;
  out.data.max_size = config.limits.message_size;
  out.data.wanted = config.classifier->headers();
  out.data.strip = config.strip;
  if (listener.submission) out.data.strip.emplace_back("Bcc");
  return out;
}

bool listens(const config::Config& config, const std::string& address) {
  return std::ranges::find(config.listeners, address, &config::Listener::address) != config.listeners.end();
}

}  // namespace

Doors open_listeners(const asio::any_io_executor& executor, const config::Config& config, const config::Config* previous) {
  Doors out;
  for (const auto& listener : config.listeners)
    if (!previous || !listens(*previous, listener.address))
      out.push_back(std::make_unique<Door>(Door{listener.address, open_one(executor, {listener.ip, listener.port}, true)}));
  return out;
}

Doors open_listeners(const asio::any_io_executor& executor, const config::Config& config, InheritedSockets& inherited,
                     std::size_t worker, std::size_t workers) {
  Doors out;
  for (const auto& listener : config.listeners) {
    auto passed = inherited.share(executor, listener.ip, listener.port, worker, workers);
    if (passed.empty()) passed.push_back(open_one(executor, {listener.ip, listener.port}, true));
    for (auto& acceptor : passed) out.push_back(std::make_unique<Door>(Door{listener.address, std::move(acceptor)}));
  }
  return out;
}

void check_ports_free(const config::Config& config, const config::Config* previous, const InheritedSockets& inherited) {
  const auto ours = [&](std::uint16_t port) {
    return inherited.has_port(port) ||
           (previous && std::ranges::find(previous->listeners, port, &config::Listener::port) != previous->listeners.end());
  };
  for (const auto& listener : config.listeners)
    if (!ours(listener.port)) check_port_free({listener.ip, listener.port});
}

void check_port_free(const ListenAddress& address) {
  asio::io_context context;
  open_one(context.get_executor(), address, false);
}

Ingress::Ingress(const asio::any_io_executor& executor, DeliveryShared& delivery, IngressShared& shared, Dispatcher& dispatcher,
                 Deadlines& deadlines)
    : executor_(executor),
      delivery_(delivery),
      shared_(shared),
      dispatcher_(dispatcher),
      deadlines_(deadlines),
      tasks_(executor) {
  shared_.all.push_back(this);
}

Ingress::~Ingress() = default;

void Ingress::renew_front() {
  auto next = std::make_shared<Front>(Front{.config = delivery_.config, .weights = ClassWeights(*delivery_.config)});
  next->queues = std::ranges::any_of(next->config->listeners, [](const auto& listener) { return !listener.pass_through; });
  next->header_rules = !next->config->classifier->headers().empty();
  next->tls = credentials_.tls;
  for (const auto& listener : next->config->listeners) {
    smtp::ServerOptions options = options_of(*next->config, listener);
    options.scram = credentials_.users && credentials_.users->scram_iterations() > 0;
    next->options.push_back(options);
    options.data.repair = true;
    next->repairing.push_back(std::move(options));
  }
  front_ = std::move(next);
}

void Ingress::set_credentials(Credentials credentials) {
  credentials_ = std::move(credentials);
  renew_front();
}

void Ingress::start(Doors doors) {
  doors_ = std::move(doors);
  for (const auto& door : doors_) tasks_.spawn(accept(door.get()), "listener");
}

void Ingress::configure(Credentials credentials, Doors fresh) {
  if (!stopping_)
    for (const auto& door : doors_)
      if (!listens(*delivery_.config, door->address)) close(*door);  // accept() ends, and takes it away
  former_front_ = front_;
  set_credentials(std::move(credentials));
  if (stopping_) return;
  for (auto& door : fresh) {
    tasks_.spawn(accept(door.get()), "listener");
    doors_.push_back(std::move(door));
  }
}

asio::awaitable<void> Ingress::accept(Door* door) {
  while (!stopping_) {
    boost::system::error_code error;
    tcp::endpoint peer;
    tcp::socket socket = co_await door->acceptor.async_accept(peer, asio::redirect_error(asio::use_awaitable, error));
    if (!error) welcome(*door, std::move(socket), peer);  // also one that came in at the very moment of a stop
    if (stopping_ || !door->acceptor.is_open()) break;
    if (error) {
      // Out of descriptors or memory: what is open goes on, and new connections wait a moment.
      log::warn("cannot accept a connection", {{"listener", door->address}, {"reason", error.message()}});
      asio::steady_timer pause(executor_, 100ms);
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
    }
  }
  if (!stopping_) std::erase_if(doors_, [door](const auto& one) { return one.get() == door; });
}

void Ingress::welcome(const Door& door, tcp::socket socket, const tcp::endpoint& peer) {
  // One that came in at the very moment of a reload may be of a listener that is gone.
  const auto& front = listens(*front_->config, door.address) ? front_ : former_front_;
  const auto& listeners = front->config->listeners;
  const auto listener = std::ranges::find(listeners, door.address, &config::Listener::address) - listeners.begin();
  delivery_.metrics.connections.add();
  tasks_.spawn(serve(std::move(socket), from_asio(peer.address()), front, static_cast<std::size_t>(listener)), "session");
}

/// The kernel resets the connections that still wait in the queue of a socket that closes: they are taken out first, and served.
void Ingress::close(Door& door) {
  boost::system::error_code error;
  door.acceptor.non_blocking(true, error);
  for (int taken = 0; !error && taken < listen_backlog; ++taken) {
    tcp::socket socket(executor_);
    tcp::endpoint peer;
    door.acceptor.accept(socket, peer, error);
    if (!error) welcome(door, std::move(socket), peer);
  }
  door.acceptor.close(error);
}

asio::awaitable<bool> Ingress::read_proxy_header(Stream* stream, routing::IpAddress* client, std::string* rest) {
  stream->expires_at(in(proxy_timeout));
  while (true) {
    std::size_t used = 0;
    smtp::ProxyHeader header;
    const auto parsed = smtp::parse_proxy_header(*rest, used, header);
    if (parsed == smtp::ProxyParse::malformed) co_return false;
    if (parsed == smtp::ProxyParse::complete) {
      rest->erase(0, used);
      if (!header.local)
        if (const auto address = routing::IpAddress::parse(header.source)) *client = address->unmapped();
      co_return true;
    }
    std::array<char, 512> buffer;
    const ReadResult got = co_await stream->read_some(asio::buffer(buffer));
    if (got.error) co_return false;
    rest->append(buffer.data(), got.size);
  }
}

/// At most once a second: whoever holds what runs out, a connection or memory, without using it is given a short time.
void Ingress::relieve() {
  const Deadline time = std::chrono::steady_clock::now();
  const bool stressed = shared_.admission.stressed();
  if ((!stressed && !shared_.intake.full(true)) || time - relieved_ < 1s) return;
  relieved_ = time;
  for (Session* session : sessions_)
    if (stressed || session->holds()) session->hurry(in(relief));
}

/// What runs out is held by the sessions of all workers, and those that accept nothing now would not notice.
void Ingress::relieve_all() {
  const Deadline time = std::chrono::steady_clock::now();
  if (time - relieved_all_ < 1s) return;
  relieved_all_ = time;
  for (Ingress* one : shared_.all) asio::post(one->executor_, [one] { one->relieve(); });
}

asio::awaitable<void> Ingress::serve(tcp::socket socket, routing::IpAddress peer, std::shared_ptr<const Front> front,
                                     std::size_t listener) {
  auto stream = make_stream(std::move(socket), deadlines_);
  const bool limited = front->queues && front->config->listeners[listener].pass_through;
  const std::string refusal = shared_.admission.enter(limited);
  if (!refusal.empty()) co_return co_await turn_away(std::move(stream), refusal);
  relieve();
  delivery_.metrics.sessions.fetch_add(1);
  try {
    co_await converse(std::move(stream), std::move(front), listener, peer);
  } catch (const std::exception& e) {
    log::error("session failed", {{"client", peer.to_string()}, {"error", e.what()}});
  }
  delivery_.metrics.sessions.fetch_sub(1);
  shared_.admission.leave(limited);
  trim();
}

asio::awaitable<void> Ingress::turn_away(std::unique_ptr<Stream> stream, std::string reason) {
  delivery_.metrics.connections_refused.add();
  stream->expires_at(in(2s));
  const std::string reply = "421 " + reason + "\r\n";
  co_await write_all(*stream, reply);
}

/// The client counts, not the load balancer that brings it.
asio::awaitable<void> Ingress::converse(std::unique_ptr<Stream> stream, std::shared_ptr<const Front> front, std::size_t listener,
                                        routing::IpAddress client) {
  const config::Listener& settings = front->config->listeners[listener];
  std::string received;
  if (routing::in_any(settings.proxy_protocol, client)) {
    const routing::IpAddress balancer = client;
    const bool named = co_await read_proxy_header(stream.get(), &client, &received);
    if (!named) {
      log::warn("no PROXY header", {{"listener", settings.address}, {"client", balancer.to_string()}});
      co_return;
    }
  }
  const std::string refusal = shared_.admission.enter(client);
  if (!refusal.empty()) co_return co_await turn_away(std::move(stream), refusal);
  const Admission::Place place(shared_.admission, client);
  Session session(*this, std::move(stream), std::move(front), listener, client, std::move(received));
  crowd_ = std::max(crowd_, sessions_.size());
  co_await session.run();
}

/// After a crowd has left, its memory goes back to the system.
void Ingress::trim() {
  if (crowd_ < 1000 || sessions_.size() > crowd_ / 10) return;
  crowd_ = sessions_.size();
  malloc_trim(0);
}

asio::awaitable<void> Ingress::stop(Deadline deadline, bool keep_doors) {
  stopping_ = true;
  boost::system::error_code ignored;
  for (const auto& door : doors_)
    if (keep_doors)
      door->acceptor.cancel(ignored);
    else
      close(*door);
  const auto sessions = sessions_;
  for (Session* session : sessions) session->interrupt();
  asio::steady_timer tick(executor_);
  while (tasks_.size() > waiting_) {
    if (std::chrono::steady_clock::now() >= deadline) {
      const auto late = sessions_;
      for (Session* session : late) session->break_off();
    }
    tick.expires_after(20ms);
    co_await tick.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
}

asio::awaitable<void> Ingress::finish(Deadline deadline) {
  co_await tasks_.wait_or(deadline, [this] {
    const auto late = sessions_;
    for (Session* session : late) {
      session->give_up();
      session->break_off();
    }
  });
}

void Ingress::dismiss() {
  static constexpr std::string_view goodbye = "421 4.3.2 shutting down\r\n";
  boost::system::error_code error;
  for (const auto& door : doors_) {
    const auto& listeners = front_->config->listeners;
    const auto listener = std::ranges::find(listeners, door->address, &config::Listener::address);
    const bool in_clear = listener != listeners.end() && listener->tls != config::ListenerTls::implicit;
    door->acceptor.non_blocking(true, error);
    for (int taken = 0; !error && taken < listen_backlog; ++taken) {
      tcp::socket socket(executor_);
      door->acceptor.accept(socket, error);
      if (error) break;
      boost::system::error_code ignored;
      socket.non_blocking(true, ignored);  // an empty send buffer takes it; nobody waits
      if (in_clear) socket.send(asio::buffer(goodbye), 0, ignored);
    }
  }
}

std::vector<int> Ingress::release() {
  std::vector<int> out;
  boost::system::error_code error;
  for (const auto& door : doors_) {
    const int descriptor = door->acceptor.release(error);
    if (!error) out.push_back(descriptor);
  }
  return out;
}

}  // namespace egret::relay
