#include "relay/tls_policy/sts_fetch.hpp"

#include "relay/net/http_exchange.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;

constexpr std::size_t max_addresses = 4;  // of each family

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

StsFetch judge(const HttpAnswer& answer) {
  if (answer.status != 200) return failure("HTTP status " + std::to_string(answer.status));
  if (!plain_text(answer.content_type)) return failure("the policy is not text/plain");
  StsFetch out;
  std::string why;
  out.policy = routing::parse_sts_policy(answer.body, &why);
  if (!out.policy) out.error = "invalid policy: " + why;
  return out;
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
      HttpExchange exchange;
      exchange.to = address;
      exchange.tls = &tls;
      exchange.name = host;
      exchange.request = request_for(host);
      exchange.max_body = routing::max_sts_policy_size;
      exchange.deadline = deadline;
      const HttpAnswer answer = co_await http_exchange(std::move(exchange), deadlines);
      // Where there was a whole response, another address would say the same.
      if (answer.error.empty()) co_return judge(answer);
      last = failure(answer.error);
    }
  }
  co_return last;
}

}  // namespace egret::relay
