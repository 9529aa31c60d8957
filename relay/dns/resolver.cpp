#include "relay/dns/resolver.hpp"

#include <ares.h>
#include <arpa/nameser.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <map>
#include <mutex>
#include <stdexcept>

#include "relay/runtime/operation.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;

int record_type(DnsType type) {
  switch (type) {
    case DnsType::a:
      return ns_t_a;
    case DnsType::aaaa:
      return ns_t_aaaa;
    case DnsType::mx:
      return ns_t_mx;
    case DnsType::txt:
      return ns_t_txt;
    case DnsType::ptr:
      return ns_t_ptr;
  }
  return ns_t_a;
}

std::string server_list(const config::Dns& options) {
  std::string out;
  for (const auto& server : options.servers) {
    if (!out.empty()) out += ',';
    out += server.host.find(':') != std::string::npos ? "[" + server.host + "]" : server.host;
    out += ':' + std::to_string(server.port);
  }
  return out;
}

DnsReply from_status(int status) {
  DnsReply out;
  switch (status) {
    case ARES_ENOTFOUND:
      out.status = DnsReply::Status::nxdomain;
      break;
    case ARES_ENODATA:
      out.status = DnsReply::Status::nodata;
      break;
    case ARES_ESERVFAIL:
      out.error = "SERVFAIL";
      break;
    case ARES_EREFUSED:
      out.error = "REFUSED";
      break;
    case ARES_ETIMEOUT:
      out.error = "timeout";
      break;
    case ARES_EBADNAME:
      out.error = "not a name";
      break;
    case ARES_ECONNREFUSED:
      out.error = "no DNS server answers";
      break;
    case ARES_EBADRESP:
      out.error = "malformed answer";
      break;
    case ARES_ECANCELLED:
    case ARES_EDESTRUCTION:
      out.error = "cancelled";
      break;
    default:
      out.error = ares_strerror(status);
  }
  return out;
}

}  // namespace

class Resolver::Impl {
 public:
  Impl(const asio::any_io_executor& executor, const config::Dns& options) : executor_(executor), timer_(executor) {
    static std::once_flag once;
    std::call_once(once, [] { ares_library_init(ARES_LIB_INIT_ALL); });
    ares_options raw{};
    raw.timeout = static_cast<int>(options.timeout.count());
    raw.tries = options.tries;
    raw.sock_state_cb = [](void* self, ares_socket_t fd, int readable, int writable) {
      static_cast<Impl*>(self)->watch(fd, readable, writable);
    };
    raw.sock_state_cb_data = this;
    raw.flags = ARES_FLAG_NOSEARCH;
    const int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB | ARES_OPT_FLAGS;
    if (const int status = ares_init_options(&channel_, &raw, mask); status != ARES_SUCCESS)
      throw std::runtime_error(std::string("DNS: ") + ares_strerror(status));
    const std::string servers = server_list(options);
    if (!servers.empty())
      if (const int status = ares_set_servers_ports_csv(channel_, servers.c_str()); status != ARES_SUCCESS)
        throw std::runtime_error(std::string("dns.servers: ") + ares_strerror(status));
  }

  ~Impl() {
    ares_destroy(channel_);
    for (auto& [fd, socket] : sockets_) socket->release();
  }

  void start(const std::string& name, DnsType type, OperationPtr<DnsReply> operation) {
    auto* query = new Query{this, type, std::move(operation)};
    ares_query(channel_, name.c_str(), ns_c_in, record_type(type), &Impl::answered, query);
    arm();
  }

  void cancel() { ares_cancel(channel_); }

  asio::any_io_executor executor_;

 private:
  struct Query {
    Impl* self;
    DnsType type;
    OperationPtr<DnsReply> operation;
  };

  using Descriptor = asio::posix::stream_descriptor;

  static void answered(void* argument, int status, int, unsigned char* data, int size) {
    std::unique_ptr<Query> query(static_cast<Query*>(argument));
    DnsReply reply = data && size > 0 ? parse_dns(data, static_cast<std::size_t>(size), query->type) : from_status(status);
    // c-ares calls from within its own functions: the waiting coroutine must not run inside them.
    asio::post(query->self->executor_, [operation = std::move(query->operation), reply = std::move(reply)]() mutable {
      operation->complete(std::move(reply));
    });
  }

  /// c-ares tells which of its sockets wait for what; it closes them itself, so they are only borrowed.
  void watch(ares_socket_t fd, int readable, int writable) {
    auto it = sockets_.find(fd);
    if (!readable && !writable) {
      if (it != sockets_.end()) {
        it->second->release();
        sockets_.erase(it);
      }
      return;
    }
    if (it == sockets_.end()) it = sockets_.emplace(fd, std::make_shared<Descriptor>(executor_, fd)).first;
    if (readable) wait(it->second, fd, Descriptor::wait_read);
    if (writable) wait(it->second, fd, Descriptor::wait_write);
  }

  void wait(const std::shared_ptr<Descriptor>& socket, ares_socket_t fd, Descriptor::wait_type what) {
    socket->async_wait(what, [this, weak = std::weak_ptr(socket), fd, what](const boost::system::error_code& error) {
      const auto alive = weak.lock();
      if (error || !alive || !alive->is_open()) return;
      const bool reading = what == Descriptor::wait_read;
      ares_process_fd(channel_, reading ? fd : ARES_SOCKET_BAD, reading ? ARES_SOCKET_BAD : fd);
      arm();
      // Still watched after c-ares had its turn: wait for the next time.
      if (const auto it = sockets_.find(fd); it != sockets_.end() && it->second == alive && reading) wait(alive, fd, what);
    });
  }

  void arm() {
    timeval value{};
    if (!ares_timeout(channel_, nullptr, &value)) return;
    const auto delay = std::chrono::seconds(value.tv_sec) + std::chrono::microseconds(value.tv_usec);
    timer_.expires_after(std::max<std::chrono::steady_clock::duration>(delay, std::chrono::milliseconds(5)));
    timer_.async_wait([this](const boost::system::error_code& error) {
      if (error) return;
      ares_process_fd(channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
      arm();
    });
  }

  asio::steady_timer timer_;
  ares_channel channel_ = nullptr;
  std::map<ares_socket_t, std::shared_ptr<Descriptor>> sockets_;
};

Resolver::Resolver(const asio::any_io_executor& executor, const config::Dns& options)
    : impl_(std::make_unique<Impl>(executor, options)) {}
Resolver::~Resolver() = default;

asio::awaitable<DnsReply> Resolver::query(std::string name, DnsType type) {
  Impl* impl = impl_.get();
  co_return co_await await_operation<DnsReply>(
      [impl, name = std::move(name), type](OperationPtr<DnsReply> operation) { impl->start(name, type, std::move(operation)); });
}

void Resolver::cancel() {
  impl_->cancel();
}

}  // namespace egret::relay
