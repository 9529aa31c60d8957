#include "relay/alerts/webhook.hpp"

#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cmath>

#include "relay/net/http_exchange.hpp"
#include "relay/runtime/log.hpp"

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

WebhookTarget::WebhookTarget(const asio::any_io_executor& executor, const config::Config& config, const config::Webhook& webhook,
                             AlertCounters& counters)
    : config_(config),
      webhook_(webhook),
      counters_(counters),
      deadlines_(executor),
      resolver_(executor, config.dns),
      wake_(executor),
      random_(std::random_device{}()) {
  if (webhook.url.tls) tls_ = TlsContext::client(true, webhook.ca);
}

void WebhookTarget::add(const Notice& notice) {
  if (broken_off_) return;
  if (queue_.size() >= max_queue) {
    drop(queue_.front(), "too many alerts wait");
    queue_.pop_front();
  }
  const Alert& alert = notice.alert;
  queue_.push_back({alert.event.kind + ' ' + alert.id + '/' + std::to_string(alert.sequence), to_json(notice, config_.hostname),
                    in(webhook_.max_age), 0});
  wake_.cancel();
}

asio::awaitable<void> WebhookTarget::run() {
  while (!broken_off_ && (!stopping_ || !queue_.empty())) {
    if (queue_.empty()) {
      co_await sleep_until(Deadline::max());
      continue;
    }
    Item item = std::move(queue_.front());
    queue_.pop_front();
    co_await post(&item);
  }
  for (const Item& item : queue_) drop(item, "the program stops");
  queue_.clear();
}

/// Until it is taken or dropped.
asio::awaitable<void> WebhookTarget::post(Item* item) {
  for (;;) {
    WebhookVerdict verdict = WebhookVerdict::again;
    const bool last = stopping_;
    const std::string trouble = co_await attempt(item, &verdict);
    ++item->attempts;
    if (verdict == WebhookVerdict::taken) {
      counters_.sent.add();
      log::debug("alert sent", {{"to", webhook_.url.origin()}, {"alert", item->name}});
      co_return;
    }
    if (verdict == WebhookVerdict::refused) co_return drop(*item, trouble);
    if (broken_off_ || last) co_return drop(*item, trouble + "; the program stops");
    const double draw = std::uniform_real_distribution<double>(0, 1)(random_);
    const Deadline next = in(webhook_pause(item->attempts, draw));
    if (next >= item->dropped_at) co_return drop(*item, trouble + "; tried " + std::to_string(item->attempts) + " times");
    log::warn("alert not taken, tried again", {{"to", webhook_.url.origin()},
                                               {"alert", item->name},
                                               {"attempts", std::to_string(item->attempts)},
                                               {"reason", trouble}});
    while (!stopping_ && std::chrono::steady_clock::now() < next) co_await sleep_until(next);
    counters_.retried.add();
  }
}

/// Empty where the receiver took it; else what went wrong, fit for logs.
asio::awaitable<std::string> WebhookTarget::attempt(const Item* item, WebhookVerdict* verdict) {
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
    exchange.request = request(item->body);
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

asio::awaitable<std::vector<routing::IpAddress>> WebhookTarget::addresses(std::string* error) {
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
std::string WebhookTarget::request(const std::string& body) const {
  const auto time = std::chrono::duration_cast<std::chrono::seconds>(now().time_since_epoch());
  const std::string timestamp = std::to_string(time.count());
  std::string out = "POST " + webhook_.url.target + " HTTP/1.1\r\nHost: " + webhook_.url.authority();
  out += "\r\nUser-Agent: Egret\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size());
  out += "\r\nX-Egret-Timestamp: " + timestamp;
  out += "\r\nX-Egret-Signature: " + webhook_signature(webhook_.secret, timestamp, body);
  out += "\r\nConnection: close\r\n\r\n" + body;
  return out;
}

asio::awaitable<void> WebhookTarget::sleep_until(Deadline when) {
  wake_.expires_at(when);
  boost::system::error_code ignored;
  co_await wake_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

void WebhookTarget::stop() {
  stopping_ = true;
  wake_.cancel();
}

void WebhookTarget::break_off() {
  stopping_ = broken_off_ = true;
  resolver_.cancel();
  deadlines_.expire_all();
  wake_.cancel();
}

void WebhookTarget::drop(const Item& item, const std::string& reason) {
  counters_.dropped.add();
  log::error("alert dropped", {{"to", webhook_.url.origin()}, {"alert", item.name}, {"reason", reason}});
}

}  // namespace egret::relay
