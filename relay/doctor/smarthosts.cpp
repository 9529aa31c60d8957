#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>

#include "config/http_api.hpp"
#include "relay/auth/nonce.hpp"
#include "relay/delivery/connection.hpp"
#include "relay/doctor/smarthost_api.hpp"
#include "relay/doctor/subjects.hpp"
#include "smtp/text.hpp"

namespace egret::relay::doctor {
namespace {

using namespace std::chrono_literals;

constexpr auto smarthost_time = 10s;     // for everything behind its addresses
constexpr auto least_connect_time = 2s;  // a port that drops packets must not take the time of the next one
constexpr std::size_t max_addresses = 2;

struct Door {
  routing::IpAddress address;
  std::uint16_t port = 0;

  std::string to_string() const { return "[" + address.to_string() + "]:" + std::to_string(port); }
};

/// What a door said: ready, or why not.
struct Visit {
  bool answered = false;  ///< a connection was made
  bool refused = false;   ///< the server itself said no: another port would not help
  std::string text;
  std::string advice;
  bool ready = false;
  std::optional<smtp::RecipientOutcome> failure;  ///< what it said, where it refused
};

/// A server's words never hold our password, whatever it sends back to us: as it is, and in the forms that AUTH gives it.
std::string without_secrets(std::string text, const std::optional<smtp::Credentials>& login) {
  if (!login || login->password.empty()) return text;
  const std::string plain = std::string(1, '\0') + login->username + std::string(1, '\0') + login->password;
  for (const std::string& secret : {smtp::base64_encode(plain), smtp::base64_encode(login->password), login->password})
    for (std::size_t at = 0; (at = text.find(secret, at)) != std::string::npos; at += 3) text.replace(at, secret.size(), "***");
  return text;
}

/// The phase in which a server said no decides what an operator can do about it.
std::string advice_for(const smtp::RecipientOutcome& failure) {
  switch (failure.phase) {
    case smtp::Phase::auth:
      if (failure.reply.permanent()) return "correct username and password: with these no mail can go by it";
      return "look at its text: the login may work later, or need another mechanism (auth)";
    case smtp::Phase::tls:
      return "correct tls or the port: without TLS no password is sent";
    case smtp::Phase::connect:
    case smtp::Phase::ehlo:
    case smtp::Phase::mail:
    case smtp::Phase::rcpt:
    case smtp::Phase::data:
    case smtp::Phase::final_dot:
      break;
  }
  return "it does not serve this host: ask its operator";
}

smtp::ClientOptions client_options(const config::Config& config, const config::Smarthost& host, bool implicit_tls) {
  smtp::ClientOptions out;
  out.helo = config.hostname;
  out.tls = host.tls;
  out.tls_active = implicit_tls;
  out.credentials = host.credentials;
  if (out.credentials) out.nonce = random_nonce();
  return out;
}

std::string describe(const Connection& connection, const config::Smarthost& host) {
  const smtp::Capabilities& peer = connection.session().capabilities();
  std::string out = connection.tls_summary();
  if (host.credentials)
    out += ", AUTH " + smtp::choose_mechanism(peer.auth, host.credentials->mechanisms) + " accepted";
  else
    out += ", no login configured";
  if (peer.size) out += peer.max_size ? ", SIZE " + std::to_string(peer.max_size) : ", SIZE without a limit";
  return out;
}

boost::asio::awaitable<Visit> talk(const config::Config* config, const config::Smarthost* host, Door door,
                                   ConnectResult connected) {
  Visit out;
  out.answered = true;
  Security security;
  security.context = TlsContext::client(true, host->ca);
  security.implicit_tls = std::ranges::find(host->implicit_tls, door.port) != host->implicit_tls.end();
  security.policy = host->tls == smtp::TlsMode::required ? "verified" : "opportunistic";
  const smtp::ClientOptions options = client_options(*config, *host, security.implicit_tls);
  Connection connection(std::move(connected.stream), options, host->host, security, std::move(connected.received));
  const Connection::Opened opened = co_await connection.open();
  switch (opened) {
    case Connection::Opened::ready:
      out.ready = true;
      out.text = describe(connection, *host);
      break;
    case Connection::Opened::refused: {
      const smtp::RecipientOutcome& failure = connection.session().failure();
      out.refused = true;
      out.text = std::string(failure.phase == smtp::Phase::auth ? "login refused: " : "refused: ") + failure.reply.to_string() +
                 " (" + std::string(smtp::to_string(failure.phase)) + ")";
      std::ranges::replace(out.text, '\n', ' ');
      out.advice = advice_for(failure);
      out.failure = failure;
      break;
    }
    case Connection::Opened::tls_failed:
      out.text = connection.error();
      out.advice = "its certificate must name " + host->host + " and come from an authority that is trusted here (ca)";
      break;
    case Connection::Opened::lost:
      out.text = connection.error() + " (" + std::string(smtp::to_string(connection.session().phase())) + ")";
      out.advice = "ask its operator, or try another port";
      break;
  }
  out.text = without_secrets(std::move(out.text), host->credentials);
  co_await connection.quit();
  co_return out;
}

boost::asio::awaitable<Visit> visit(const config::Config* config, const config::Smarthost* host, Door door, Deadline connect_by,
                                    Deadlines* deadlines) {
  const ConnectOptions options{door.address, door.port, {}, connect_by};
  ConnectResult connected = co_await connect(options, *deadlines);
  if (connected.stream) co_return co_await talk(config, host, door, std::move(connected));
  Visit out;
  out.text = connected.error.message();
  out.advice = "a firewall or a cloud's port block may be in the way: allow the port, or name another one in address";
  co_return out;
}

/// The doors in the order in which delivery tries them.
std::vector<Door> doors(const config::Smarthost& host, std::vector<routing::IpAddress> addresses) {
  if (addresses.size() > max_addresses) addresses.resize(max_addresses);
  std::vector<Door> out;
  for (const std::uint16_t port : host.ports)
    for (const auto& address : addresses) out.push_back({address, port});
  return out;
}

struct Addresses {
  std::vector<routing::IpAddress> list;
  std::string problem;
  bool unanswered = false;
};

/// IPv6 only where there is no IPv4, as delivery does it.
boost::asio::awaitable<Addresses> resolve(Resolver* resolver, std::string host) {
  Addresses out;
  if (const auto literal = routing::IpAddress::parse(host)) {
    out.list.push_back(*literal);
    co_return out;
  }
  const DnsReply v4 = co_await resolver->query(host, DnsType::a);
  out.list = v4.addresses;
  if (!out.list.empty()) co_return out;
  const DnsReply v6 = co_await resolver->query(host, DnsType::aaaa);
  out.list = v6.addresses;
  const bool failed = v4.status == DnsReply::Status::failed || v6.status == DnsReply::Status::failed;
  out.unanswered = out.list.empty() && failed;
  if (out.list.empty())
    out.problem = host + (failed ? ": DNS did not answer: " + (v4.error.empty() ? v6.error : v4.error) : " has no address");
  co_return out;
}

/// Tries door after door until one is ready or says no.
boost::asio::awaitable<Knock> knock(const config::Config* config, const config::Smarthost* host, std::vector<Door> all,
                                    Deadline end, Deadlines* deadlines) {
  Knock out;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Deadline time = std::chrono::steady_clock::now();
    if (time >= end) break;
    const auto share = (end - time) / static_cast<int>(all.size() - i);
    const Deadline connect_by = std::min(end, time + std::max<std::chrono::steady_clock::duration>(share, least_connect_time));
    const Visit visited = co_await visit(config, host, all[i], connect_by, deadlines);
    const std::string found = host->host + " " + all[i].to_string() + ": " + visited.text;
    if (visited.ready) {
      out.ready = true;
      out.text = found + (out.text.empty() ? "" : "; before that " + out.text);
      out.advice.clear();
      co_return out;
    }
    // What a server says tells more than a port that is closed.
    if (out.advice.empty() || visited.answered) out.advice = visited.advice;
    if (visited.refused) {
      out.text = found;
      out.refusal = visited.failure;
      co_return out;
    }
    out.text += (out.text.empty() ? "" : ", ") + found;
  }
  if (out.text.empty()) out.text = "no port could be tried in time";
  co_return out;
}

}  // namespace

boost::asio::awaitable<Knock> knock_at_smarthost(const config::Config* config, std::uint32_t index, Resolver* resolver,
                                                 Deadlines* deadlines) {
  const config::Smarthost& host = config->smarthosts[index];
  Addresses found = co_await resolve(resolver, host.host);
  if (found.list.empty()) {
    Knock out;
    out.text = found.problem;
    out.advice = "correct its address, or DNS";
    out.dns_unanswered = found.unanswered;
    co_return out;
  }
  const auto executor = co_await boost::asio::this_coro::executor;
  const Deadline end = in(smarthost_time);
  // A dialog has minutes for each reply; here everything that is open fails when the time is over.
  boost::asio::steady_timer watchdog(executor, end);
  watchdog.async_wait([deadlines](const boost::system::error_code& error) {
    if (!error) deadlines->expire_all();
  });
  co_return co_await knock(config, &host, doors(host, std::move(found.list)), end, deadlines);
}

boost::asio::awaitable<Checks> check_smarthost(World world, std::uint32_t index) {
  if (const auto& api = world.config.smarthosts[index].api; api && api->delivers)
    co_return co_await check_smarthost_api(world, index);
  const auto executor = co_await boost::asio::this_coro::executor;
  Deadlines& deadlines = world.deadlines.emplace_back(executor);
  const Knock found = co_await knock_at_smarthost(&world.config, index, &world.resolver, &deadlines);
  Checks out;
  out.push_back(make_check("smarthost", "smarthost " + world.config.smarthosts[index].name,
                           found.ready ? Result::ok : Result::fail, found.text, found.advice));
  co_return out;
}

}  // namespace egret::relay::doctor
