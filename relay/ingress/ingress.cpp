#include "relay/ingress/ingress.hpp"

#include <algorithm>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstring>
#include <stdexcept>

#include "relay/runtime/log.hpp"
#include "smtp/text.hpp"
#include "smtp/trace.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using namespace std::chrono_literals;

constexpr auto command_timeout = 5min;  // RFC 5321 section 4.5.3.2.7
constexpr auto data_timeout = 3min;     // for each block of data
constexpr std::size_t command_buffer = 4096;
constexpr std::size_t data_buffer = 64 * 1024;
constexpr std::uint64_t chunk_size = 1u << 20;  // a larger body goes to the spool while it comes in

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

tcp::endpoint endpoint_of(const config::Listener& listener) {
  return {asio::ip::make_address(listener.ip.to_string()), listener.port};
}

bool in_any(const std::vector<routing::Network>& networks, const routing::IpAddress& address) {
  return std::ranges::any_of(networks, [&](const auto& network) { return network.contains(address); });
}

tcp::acceptor open_one(const asio::any_io_executor& executor, const config::Listener& listener, bool shared) {
  boost::system::error_code error;
  const auto check = [&] {
    if (error) throw std::runtime_error("cannot listen on " + listener.address + ": " + error.message());
  };
  tcp::acceptor out(executor);
  const auto endpoint = endpoint_of(listener);
  out.open(endpoint.protocol(), error);
  check();
  out.set_option(tcp::acceptor::reuse_address(true), error);
  if (listener.ip.v6) out.set_option(asio::ip::v6_only(true), error);
  const int on = 1;
  if (shared) setsockopt(out.native_handle(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  out.bind(endpoint, error);
  check();
  out.listen(4096, error);
  check();
  return out;
}

}  // namespace

// ---- admission ---------------------------------------------------------------------------------------------------

std::string Admission::enter(const routing::IpAddress& client) {
  const std::lock_guard lock(mutex_);
  if (total_ >= limits_.connections) return "4.3.2 too many connections, try again later";
  int& mine = clients_[client];
  if (mine >= limits_.connections_per_client) {
    return "4.7.0 too many connections from " + client.to_string();
  }
  ++mine;
  ++total_;
  return {};
}

void Admission::leave(const routing::IpAddress& client) {
  const std::lock_guard lock(mutex_);
  --total_;
  const auto it = clients_.find(client);
  if (it != clients_.end() && --it->second <= 0) clients_.erase(it);
}

std::vector<tcp::acceptor> open_listeners(const asio::any_io_executor& executor, const config::Config& config) {
  std::vector<tcp::acceptor> out;
  for (const auto& listener : config.listeners) out.push_back(open_one(executor, listener, true));
  return out;
}

void check_ports_free(const config::Config& config) {
  asio::io_context context;
  for (const auto& listener : config.listeners) open_one(context.get_executor(), listener, false);
}

// ---- one session -------------------------------------------------------------------------------------------------

class Ingress::Session final : private smtp::ServerPolicy {
 public:
  Session(Ingress& ingress, std::unique_ptr<Stream> stream, const smtp::ServerOptions& options, const config::Listener& listener,
          const routing::IpAddress& client)
      : ingress_(ingress),
        stream_(std::move(stream)),
        listener_(listener),
        client_(client.to_string()),
        session_(options, *this, {client_, in_any(listener.allow, client)}) {
    ingress_.sessions_.insert(this);
  }
  ~Session() override {
    ingress_.shared_.spool.abandon(std::move(extents_));
    ingress_.sessions_.erase(this);
  }

  asio::awaitable<void> run() {
    session_.greet();
    std::vector<char> buffer(command_buffer);
    std::size_t filled = 0;
    while (true) {
      std::string_view view(buffer.data(), filled);
      const auto action = session_.process(view);
      const std::size_t used = filled - view.size();
      std::memmove(buffer.data(), buffer.data() + used, filled - used);
      filled -= used;
      const bool spilled = co_await spill(action);
      if (!spilled) break;
      if (action == smtp::ServerSession::Action::commit) {
        co_await commit();
        continue;
      }
      if (action == smtp::ServerSession::Action::read && ingress_.stopping_ && session_.idle() && filled == 0)
        session_.shut("4.3.2 shutting down");
      const bool written = co_await flush();
      if (!written || action == smtp::ServerSession::Action::close) break;
      if (ingress_.stopping_ && session_.idle() && filled == 0) break;
      resize(buffer, filled);
      stream_->expires_at(in(session_.in_data() ? data_timeout : command_timeout));
      const ReadResult got = co_await stream_->read_some(asio::buffer(buffer.data() + filled, buffer.size() - filled));
      if (got.error && stream_->timed_out()) break;
      if (got.error && !(ingress_.stopping_ && got.error == asio::error::operation_aborted)) break;
      filled += got.size;
    }
    stream_->close();
  }

  /// The program stops: whoever is between messages is told so now.
  void interrupt() {
    if (session_.idle()) stream_->interrupt();
  }

 private:
  std::optional<smtp::CommandError> admit(std::uint64_t) override {
    if (ingress_.stopping_) return smtp::CommandError{421, "4.3.2 shutting down"};
    switch (ingress_.shared_.spool.trouble()) {
      case spool::Trouble::none:
        return std::nullopt;
      case spool::Trouble::no_space:
        return smtp::CommandError{452, "4.3.1 insufficient storage, try again later"};
      case spool::Trouble::broken:
        return smtp::CommandError{421, "4.3.0 the queue cannot be written, try again later"};
    }
    return std::nullopt;
  }

  std::string trace(const smtp::Transaction& transaction, std::string_view helo, bool esmtp) override {
    id_ = ingress_.shared_.spool.next_id();
    smtp::TraceInfo info;
    info.helo = helo;
    info.client = client_;
    info.hostname = ingress_.shared_.config->hostname;
    info.id = id_;
    info.esmtp = esmtp;
    info.utf8 = transaction.mail.smtputf8;
    if (transaction.recipients.size() == 1) info.recipient = transaction.recipients.front().to_string();
    info.time = std::chrono::system_clock::now();
    return smtp::received_field(info);
  }

  void resize(std::vector<char>& buffer, std::size_t filled) const {
    const std::size_t wanted = session_.in_data() ? data_buffer : command_buffer;
    if (buffer.size() == wanted || filled >= wanted) return;
    buffer.resize(wanted);
    if (wanted == command_buffer) buffer.shrink_to_fit();
  }

  asio::awaitable<bool> flush() {
    if (session_.output().empty()) co_return true;
    stream_->expires_at(in(command_timeout));
    const std::string out = std::move(session_.output());
    session_.output().clear();
    const error_code error = co_await write_all(*stream_, out);
    co_return !error;
  }

  /// Moves what has come in of a large body to the spool, so that a session's memory is bounded.
  asio::awaitable<bool> spill(smtp::ServerSession::Action action) {
    if (!session_.in_data() && action != smtp::ServerSession::Action::commit && !extents_.empty()) {
      ingress_.shared_.spool.abandon(std::move(extents_));  // the message was refused at its end
      extents_.clear();
      spilled_ = 0;
    }
    smtp::Body& body = session_.transaction().body;
    if (!session_.in_data() || body.size() - spilled_ < chunk_size) co_return true;
    std::string octets;
    octets.reserve(body.size() - spilled_);
    for (const auto& chunk : body.release_chunks()) octets += chunk;
    spilled_ += octets.size();
    const auto stored = co_await ingress_.shared_.spool.chunk(std::move(octets));
    if (stored.trouble == spool::Trouble::none) {
      extents_.push_back(stored.extent);
      co_return true;
    }
    session_.shut(stored.trouble == spool::Trouble::no_space ? "4.3.1 insufficient storage, try again later"
                                                             : "4.3.0 the queue cannot be written, try again later");
    co_await flush();
    co_return false;
  }

  std::shared_ptr<spool::Message> message() {
    smtp::Transaction& t = session_.transaction();
    const config::Config& config = *ingress_.shared_.config;
    auto out = std::make_shared<spool::Message>();
    out->id = id_;
    routing::MessageFacts facts;
    const std::string domain = t.mail.reverse_path.domain;
    facts.sender_domain = domain;
    facts.headers = &t.headers;
    const routing::Classified classified = config.classifier->classify(facts);
    if (!classified.unknown_class.empty())
      log::warn("a header names a class that does not exist",
                {{"id", smtp::to_string(id_)}, {"class", classified.unknown_class}});
    out->class_name = classified.class_name.value_or(config.classes[listener_.message_class].name);
    out->sender = std::move(t.mail.reverse_path);
    out->recipients = std::move(t.recipients);
    out->eight_bit = t.eight_bit;
    out->utf8 = t.mail.smtputf8;
    out->accepted = now();
    out->header_end = t.header_end;
    out->cuts = std::move(t.cuts);
    out->client = client_;
    out->body_size = t.body.size();
    out->extents = std::move(extents_);
    out->tail = t.body.release_chunks();
    extents_.clear();
    spilled_ = 0;
    return out;
  }

  asio::awaitable<void> commit() {
    Metrics& metrics = ingress_.shared_.metrics;
    const auto stored = message();
    const spool::Trouble trouble = co_await ingress_.shared_.spool.accept(stored);
    if (trouble != spool::Trouble::none) {
      metrics.messages_unstored.add();
      ingress_.shared_.spool.abandon(stored->extents);
      if (trouble == spool::Trouble::no_space)
        session_.finish(452, "4.3.1 insufficient storage, try again later");
      else
        session_.finish(421, "4.3.0 the queue cannot be written, try again later");
      co_return;
    }
    metrics.messages_accepted.add();
    metrics.recipients_accepted.add(stored->recipients.size());
    metrics.bytes_accepted.add(stored->body_size);
    const std::string id = smtp::to_string(stored->id);
    session_.finish(250, "2.0.0 queued as " + id);
    if (log::enabled(log::Level::info))
      log::info("accepted", {{"id", id},
                             {"client", client_},
                             {"helo", session_.helo()},
                             {"from", stored->sender.to_string()},
                             {"recipients", std::to_string(stored->recipients.size())},
                             {"size", std::to_string(stored->body_size)},
                             {"class", stored->class_name}});
    ingress_.dispatcher_.submit(stored);
  }

  Ingress& ingress_;
  std::unique_ptr<Stream> stream_;
  const config::Listener& listener_;
  std::string client_;
  smtp::ServerSession session_;
  smtp::MessageId id_{};
  std::vector<spool::Extent> extents_;
  std::uint64_t spilled_ = 0;
};

// ---- the listeners -----------------------------------------------------------------------------------------------

Ingress::Ingress(const asio::any_io_executor& executor, DeliveryShared& shared, Dispatcher& dispatcher, Deadlines& deadlines,
                 Admission& admission)
    : executor_(executor),
      shared_(shared),
      dispatcher_(dispatcher),
      deadlines_(deadlines),
      admission_(admission),
      tasks_(executor) {
  smtp::ServerOptions options;
  options.hostname = shared.config->hostname;
  options.max_recipients = static_cast<std::size_t>(shared.config->limits.recipients);
  options.data.max_size = shared.config->limits.message_size;
  options.data.wanted = shared.config->classifier->headers();
  options.data.strip = shared.config->strip;
  for (std::size_t i = 0; i < shared.config->listeners.size(); ++i) {
    options.data.repair = false;
    options_.push_back(options);
    options.data.repair = true;
    repairing_.push_back(options);
  }
}

Ingress::~Ingress() = default;

void Ingress::start(std::vector<tcp::acceptor> acceptors) {
  acceptors_ = std::move(acceptors);
  for (std::size_t i = 0; i < acceptors_.size(); ++i) tasks_.spawn(accept(i), "listener");
}

asio::awaitable<void> Ingress::accept(std::size_t listener) {
  while (!stopping_) {
    boost::system::error_code error;
    tcp::socket socket = co_await acceptors_[listener].async_accept(asio::redirect_error(asio::use_awaitable, error));
    if (stopping_) break;
    if (error) {
      // Out of descriptors or memory: what is open goes on, and new connections wait a moment.
      log::warn("cannot accept a connection",
                {{"listener", shared_.config->listeners[listener].address}, {"reason", error.message()}});
      asio::steady_timer pause(executor_, 100ms);
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
      continue;
    }
    shared_.metrics.connections.add();
    tasks_.spawn(serve(std::move(socket), listener), "session");
  }
}

asio::awaitable<void> Ingress::serve(tcp::socket socket, std::size_t listener) {
  boost::system::error_code error;
  const auto peer = socket.remote_endpoint(error);
  if (error) co_return;
  const routing::IpAddress client = from_asio(peer.address());
  const std::string refusal = admission_.enter(client);
  auto stream = make_stream(std::move(socket), deadlines_);
  if (!refusal.empty()) {
    shared_.metrics.connections_refused.add();
    stream->expires_at(in(2s));
    const std::string reply = "421 " + refusal + "\r\n";
    co_await write_all(*stream, reply);
    co_return;
  }
  const config::Listener& settings = shared_.config->listeners[listener];
  const bool repair = in_any(settings.normalize, client);
  shared_.metrics.sessions.fetch_add(1);
  try {
    Session session(*this, std::move(stream), repair ? repairing_[listener] : options_[listener], settings, client);
    co_await session.run();
  } catch (const std::exception& e) {
    log::error("session failed", {{"client", client.to_string()}, {"error", e.what()}});
  }
  shared_.metrics.sessions.fetch_sub(1);
  admission_.leave(client);
}

asio::awaitable<void> Ingress::stop(Deadline deadline) {
  stopping_ = true;
  boost::system::error_code ignored;
  for (auto& acceptor : acceptors_) acceptor.close(ignored);
  const auto sessions = sessions_;
  for (Session* session : sessions) session->interrupt();
  co_await tasks_.wait_or(deadline, [this] { deadlines_.expire_all(); });
}

}  // namespace egret::relay
