#include "relay/alerts/webhook_post.hpp"

#include <algorithm>
#include <cmath>

#include "relay/alerts/render.hpp"
#include "relay/net/http_exchange.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;

constexpr std::size_t max_addresses = 4;
constexpr std::uint64_t max_answer = 4096;  // octets of a body that nobody reads

}  // namespace

WebhookVerdict judge_webhook(unsigned status) {
  if (status >= 200 && status < 300) return WebhookVerdict::taken;
  // Request Timeout, Too Early, Too Many Requests: the receiver says itself that later is better.
  const bool later = status == 408 || status == 425 || status == 429;
  return status >= 300 && status < 500 && !later ? WebhookVerdict::refused : WebhookVerdict::again;
}

std::chrono::milliseconds webhook_pause(std::uint32_t attempts, double draw) {
  const double seconds = std::min(300.0, std::ldexp(1.0, static_cast<int>(std::min(attempts, 20u)) - 1));
  return std::chrono::milliseconds(std::llround(seconds * 1000 * (0.75 + 0.5 * draw)));
}

WebhookPost::WebhookPost(const asio::any_io_executor& executor, const config::Dns& dns, const config::Webhook& webhook)
    : webhook_(webhook), deadlines_(executor), resolver_(executor, dns) {
  if (webhook.url.tls) tls_ = TlsContext::client(true, webhook.ca);
}

/// Empty where the receiver took it; else what went wrong, fit for logs.
asio::awaitable<std::string> WebhookPost::attempt(const std::string* body, WebhookVerdict* verdict) {
  const Deadline deadline = in(webhook_.timeout);
  std::string error = "the host has no address";
  const std::vector<routing::IpAddress> all = co_await addresses(&error);
  if (!all.empty()) error.clear();
  for (const routing::IpAddress& address : all) {
    if (broken_off_ || std::chrono::steady_clock::now() >= deadline) break;
    HttpExchange exchange;
    exchange.to = address;
    exchange.port = webhook_.url.port;
    exchange.tls = tls_.get();
    exchange.name = webhook_.url.host;
    exchange.request = request(*body);
    exchange.max_body = max_answer;
    exchange.body_wanted = false;
    exchange.deadline = deadline;
    const HttpAnswer answer = co_await http_exchange(std::move(exchange), deadlines_);
    if (answer.error.empty()) {
      *verdict = judge_webhook(answer.status);
      co_return *verdict == WebhookVerdict::taken ? std::string() : "HTTP status " + std::to_string(answer.status);
    }
    // Of all addresses: a refused connection to the last must not hide a wrong certificate of the first.
    error += (error.empty() ? "" : "; ") + answer.error;
  }
  co_return error.empty() ? "timeout" : error;
}

asio::awaitable<std::vector<routing::IpAddress>> WebhookPost::addresses(std::string* error) {
  const std::string& host = webhook_.url.host;
  std::vector<routing::IpAddress> out;
  if (const auto literal = routing::IpAddress::parse(host)) {
    out.push_back(*literal);
  } else if (host == "localhost") {  // never asked of the DNS (RFC 6761 section 6.3)
    out = {routing::IpAddress::v4(127, 0, 0, 1), *routing::IpAddress::parse("::1")};
  } else {
    for (const DnsType type : {DnsType::a, DnsType::aaaa}) {
      DnsReply reply = co_await resolver_.query(host, type);
      if (reply.status == DnsReply::Status::failed) *error = "address look-up failed: " + reply.error;
      if (reply.addresses.size() > max_addresses) reply.addresses.resize(max_addresses);
      out.insert(out.end(), reply.addresses.begin(), reply.addresses.end());
    }
  }
  co_return out;
}

/// Signed anew for each try, so that a receiver may refuse old timestamps.
std::string WebhookPost::request(const std::string& body) const {
  const auto time = std::chrono::duration_cast<std::chrono::seconds>(now().time_since_epoch());
  const std::string timestamp = std::to_string(time.count());
  std::string out = "POST " + webhook_.url.target + " HTTP/1.1\r\nHost: " + webhook_.url.authority();
  out += "\r\nUser-Agent: Egret\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size());
  out += "\r\nX-Egret-Timestamp: " + timestamp;
  out += "\r\nX-Egret-Signature: " + webhook_signature(webhook_.secret, timestamp, body);
  out += "\r\nConnection: close\r\n\r\n" + body;
  return out;
}

void WebhookPost::break_off() {
  broken_off_ = true;
  resolver_.cancel();
  deadlines_.expire_all();
}

}  // namespace egret::relay
