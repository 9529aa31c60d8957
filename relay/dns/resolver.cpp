#include "relay/dns/resolver.hpp"

#include <ares.h>
#include <arpa/nameser.h>
#include <sys/random.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <map>
#include <mutex>
#include <stdexcept>

#include "relay/runtime/operation.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;

constexpr int edns_size = 1232;  // octets: what passes everywhere without fragments

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
    case DnsType::tlsa:
      return ns_t_tlsa;
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
      out.error = "no answer from any DNS server (unreachable, SERVFAIL or REFUSED)";
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

class Resolver::Impl : public std::enable_shared_from_this<Resolver::Impl> {
 public:
  Impl(const asio::any_io_executor& executor, const config::Dns& options)
      : executor_(executor), dnssec_(options.dnssec), edns_(options.dnssec), timer_(executor) {
    static std::once_flag once;
    std::call_once(once, [] { ares_library_init(ARES_LIB_INIT_ALL); });
    ares_options raw{};
    raw.timeout = static_cast<int>(options.timeout.count());
    raw.tries = options.tries;
    raw.sock_state_cb = [](void* self, ares_socket_t fd, int readable, int writable) {
      static_cast<Impl*>(self)->watch(fd, readable, writable);
    };
    raw.sock_state_cb_data = this;
    raw.flags = ARES_FLAG_NOSEARCH | (edns_ ? ARES_FLAG_EDNS : 0);
    raw.ednspsz = edns_size;
    const int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB | ARES_OPT_FLAGS | ARES_OPT_EDNSPSZ;
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

  void start(std::string name, DnsType type, OperationPtr<DnsReply> operation) {
    const auto [waiting, first] = waiting_.try_emplace({smtp::lower(name), type});
    waiting->second.push_back(std::move(operation));
    if (!first) return;
    send(std::unique_ptr<Query>(new Query{this, std::move(name), type, edns_}));
    arm();
  }

  void cancel() { ares_cancel(channel_); }

  asio::any_io_executor executor_;

 private:
  struct Query {
    Impl* self;
    std::string name;
    DnsType type;
    bool edns;
  };

  using Descriptor = asio::posix::stream_descriptor;

  /// Builds the message here, because ares_query() has no way to set the AD bit.
  void send(std::unique_ptr<Query> query) {
    unsigned char* wire = nullptr;
    int size = 0;
    std::uint16_t id = 0;  // unpredictable: besides the port it is all that keeps a forged answer out
    if (getrandom(&id, sizeof id, 0) != sizeof id) return answered(query.release(), ARES_EFILE, 0, nullptr, 0);
    const int status = ares_create_query(query->name.c_str(), ns_c_in, record_type(query->type), id, 1, &wire, &size,
                                         query->edns ? edns_size : 0);
    if (status != ARES_SUCCESS) return answered(query.release(), status, 0, nullptr, 0);
    constexpr unsigned char ad_bit = 0x20;
    if (dnssec_) wire[3] |= ad_bit;
    ares_send(channel_, wire, size, &Impl::answered, query.release());
    ares_free_string(wire);
  }

  /// RFC 6891 section 7: FORMERR without an OPT record is from a server that does not know EDNS. c-ares asks again by
  /// itself only the first time, and passes later ones on: those of queries that were under way.
  static bool refuses_edns(const Query& query, const unsigned char* data, int size) {
    return query.edns && size >= NS_HFIXEDSZ && (data[3] & 0x0f) == ns_r_formerr && data[10] == 0 && data[11] == 0;
  }

  static void answered(void* argument, int status, int, unsigned char* data, int size) {
    std::unique_ptr<Query> query(static_cast<Query*>(argument));
    Impl* self = query->self;
    if (data && refuses_edns(*query, data, size)) {
      self->edns_ = query->edns = false;
      return self->send(std::move(query));
    }
    DnsReply reply = data && size > 0 ? parse_dns(data, static_cast<std::size_t>(size), query->type) : from_status(status);
    reply.secure = reply.secure && self->dnssec_;
    auto waiting = self->waiting_.extract({smtp::lower(query->name), query->type});
    // c-ares calls from within its own functions: the waiting coroutines must not run inside them.
    for (auto& operation : waiting.mapped())
      asio::post(self->executor_, [operation = std::move(operation), reply]() mutable { operation->complete(std::move(reply)); });
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
    timer_.async_wait([this, weak = weak_from_this()](const boost::system::error_code& error) {
      const auto alive = weak.lock();
      if (error || !alive) return;
      ares_process_fd(channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
      arm();
    });
  }

  bool dnssec_;
  bool edns_;
  asio::steady_timer timer_;
  ares_channel channel_ = nullptr;
  std::map<ares_socket_t, std::shared_ptr<Descriptor>> sockets_;
  std::map<std::pair<std::string, DnsType>, std::vector<OperationPtr<DnsReply>>> waiting_;  ///< for the answers in flight
};

Resolver::Resolver(const asio::any_io_executor& executor, const config::Dns& options)
    : executor_(executor), options_(options), impl_(std::make_shared<Impl>(executor, options)) {}
Resolver::~Resolver() = default;

asio::awaitable<DnsReply> Resolver::query(std::string name, DnsType type) {
  const std::shared_ptr<Impl> impl = impl_;
  DnsReply reply =
      co_await await_operation<DnsReply>([raw = impl.get(), name = std::move(name), type](OperationPtr<DnsReply> operation) {
        raw->start(name, type, std::move(operation));
      });
  co_return reply;
}

void Resolver::configure(const config::Dns& options) {
  if (options == options_) return;
  auto next = std::make_shared<Impl>(executor_, options);
  std::erase_if(former_, [](const auto& one) { return one.expired(); });
  former_.push_back(std::exchange(impl_, std::move(next)));
  options_ = options;
}

void Resolver::cancel() {
  impl_->cancel();
  for (const auto& one : former_)
    if (const auto impl = one.lock()) impl->cancel();
}

}  // namespace egret::relay
