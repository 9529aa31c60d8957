#include <algorithm>
#include <array>
#include <boost/asio/this_coro.hpp>

#include "relay/doctor/subjects.hpp"

namespace egret::relay::doctor {
namespace {

constexpr std::size_t max_signed_tries = 5;

std::string name_of(const config::Dns& dns) {
  if (dns.servers.empty()) return "dns (the system's servers)";
  const config::HostPort& server = dns.servers.front();
  const bool v6 = server.host.find(':') != std::string::npos;
  return "dns " + (v6 ? "[" + server.host + "]" : server.host) + ":" + std::to_string(server.port);
}

/// Whether the server validates shows at a name that is signed. The root is, in public DNS; a private one may sign its own names.
boost::asio::awaitable<Check> check_dnssec(Resolver* resolver, std::string subject, std::vector<std::string> names) {
  std::string asked;
  for (const std::string& name : names) {
    const DnsReply reply = co_await resolver->query(name, DnsType::a);
    if (reply.secure)
      co_return make_check("dnssec", subject, Result::ok, "answers for " + name + " are marked as validated (AD)");
    asked += (asked.empty() ? "" : ", ") + name;
  }
  co_return make_check("dnssec", subject, Result::warn,
                       "unknown whether it validates: no AD bit in the answers for " + asked + " (are they signed?)",
                       "use a resolver that validates, or take dns.dnssec away: without AD bits DANE protects nothing");
}

/// One server (or the system's, all together).
boost::asio::awaitable<Checks> check_server(config::Dns dns, std::vector<std::string> names) {
  Checks out;
  const auto executor = co_await boost::asio::this_coro::executor;
  const std::string subject = name_of(dns);
  Resolver resolver(executor, dns);
  const std::string& name = names[1];
  const DnsReply reply = co_await resolver.query(name, DnsType::a);
  if (reply.status == DnsReply::Status::failed) {
    out.push_back(make_check("dns", subject, Result::fail, "no usable answer for " + name + ": " + reply.error,
                             "check that it runs and serves this host, or take it out of dns.servers"));
    co_return out;
  }
  out.push_back(make_check("dns", subject, Result::ok, "answers"));
  if (dns.dnssec) {
    Check found = co_await check_dnssec(&resolver, subject, names);
    out.push_back(std::move(found));
  }
  co_return out;
}

}  // namespace

boost::asio::awaitable<Checks> check_dns(World world, std::vector<std::string> domains) {
  std::vector<std::string> names{".", world.config.hostname};
  for (const auto& domain : domains)
    if (names.size() < max_signed_tries) names.push_back(domain);
  Checks out;
  std::vector<config::Dns> servers;
  config::Dns one = world.config.dns;
  if (one.servers.empty()) servers.push_back(one);
  for (const auto& server : world.config.dns.servers) {
    one.servers = {server};
    servers.push_back(one);
  }
  for (const auto& server : servers) {
    const Checks found = co_await check_server(server, names);
    out.insert(out.end(), found.begin(), found.end());
  }
  // One server out of several costs time, not answers.
  const auto failed = [](const Check& check) { return check.result == Result::fail; };
  const auto answers = [](const Check& check) { return check.check == "dns" && check.result == Result::ok; };
  if (std::ranges::any_of(out, answers))
    for (Check& check : out)
      if (failed(check)) check.result = Result::warn;
  co_return out;
}

}  // namespace egret::relay::doctor
