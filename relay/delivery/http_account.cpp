#include "relay/delivery/http_account.hpp"

#include <algorithm>

#include "config/http_api.hpp"
#include "relay/delivery/http_request.hpp"
#include "routing/esp_api.hpp"

namespace egret::relay {
namespace {

constexpr std::size_t max_addresses = 4;

boost::asio::awaitable<std::vector<routing::IpAddress>> addresses(const std::string* host, Resolver* resolver) {
  std::vector<routing::IpAddress> out;
  if (const auto literal = routing::IpAddress::parse(*host)) {
    out.push_back(*literal);
    co_return out;
  }
  for (const DnsType type : {DnsType::a, DnsType::aaaa}) {
    const DnsReply reply = co_await resolver->query(*host, type);
    for (const auto& address : reply.addresses)
      if (out.size() < max_addresses) out.push_back(address);
  }
  co_return out;
}

}  // namespace

boost::asio::awaitable<HttpAnswer> ask_account(const config::Smarthost* host, Resolver* resolver, Deadlines* deadlines,
                                               Deadline deadline) {
  const config::HttpApi& api = *host->api;
  HttpAnswer out;
  out.error = api.host + " has no address, or DNS did not answer";
  const std::vector<routing::IpAddress> all = co_await addresses(&api.host, resolver);
  std::unique_ptr<TlsContext> tls;
  try {
    if (api.tls) tls = TlsContext::client(true, host->ca);
  } catch (const std::runtime_error& e) {
    out.error = e.what();
    co_return out;
  }
  for (const auto& address : all) {
    HttpExchange exchange;
    exchange.to = address;
    exchange.port = api.port;
    exchange.tls = tls.get();
    exchange.name = api.host;
    exchange.request = account_request(api, now());
    exchange.deadline = deadline;
    out = co_await http_exchange(std::move(exchange), *deadlines);
    if (out.error.empty() || std::chrono::steady_clock::now() >= deadline) co_return out;
  }
  co_return out;
}

std::string account_refusal(const config::Smarthost& host, const HttpAnswer& answer) {
  const std::string body = without_secret(*host.api, answer.body), error_type = without_secret(*host.api, answer.error_type);
  return routing::read_api_answer(host.provider, {answer.status, error_type, "", body}, 1).outcome.reply.text();
}

}  // namespace egret::relay
