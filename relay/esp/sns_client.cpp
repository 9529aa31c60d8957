#include "relay/esp/sns_client.hpp"

#include "relay/net/http_exchange.hpp"
#include "relay/runtime/clock.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;

constexpr auto exchange_timeout = 8s;  // SNS waits 15 s for our answer
constexpr auto kept_for = 24h;
constexpr auto pause_after_failure = 5s;
constexpr std::size_t max_kept = 8;
constexpr std::size_t max_addresses = 2;  // of each family
constexpr std::uint64_t max_page = 32 * 1024;

long long seconds_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(now().time_since_epoch()).count();
}

}  // namespace

SnsClient::SnsClient(const asio::any_io_executor& executor, const config::Dns& dns)
    : deadlines_(executor), resolver_(executor, dns), tls_(TlsContext::client(true, "")) {}

asio::awaitable<SnsClient::Page> SnsClient::get(std::string host, std::string target) {
  const Deadline deadline = in(exchange_timeout);
  Page out;
  out.error = host + " has no address";
  for (const DnsType type : {DnsType::a, DnsType::aaaa}) {
    DnsReply reply = co_await resolver_.query(host, type);
    if (reply.status == DnsReply::Status::failed) out.error = "address look-up failed: " + reply.error;
    if (reply.addresses.size() > max_addresses) reply.addresses.resize(max_addresses);
    for (const routing::IpAddress& address : reply.addresses) {
      if (broken_off_ || std::chrono::steady_clock::now() >= deadline) co_return out;
      HttpExchange exchange;
      exchange.to = address;
      exchange.tls = tls_.get();
      exchange.name = host;
      exchange.request = "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: Egret\r\nConnection: close\r\n\r\n";
      exchange.max_body = max_page;
      exchange.deadline = deadline;
      const HttpAnswer answer = co_await http_exchange(std::move(exchange), deadlines_);
      out.error = answer.error;
      if (!answer.error.empty()) continue;
      if (answer.status != 200) out.error = host + ": HTTP status " + std::to_string(answer.status);
      out.body = answer.body;
      co_return out;
    }
  }
  co_return out;
}

asio::awaitable<SnsClient::Key> SnsClient::key(std::string region, std::string target) {
  const std::string name = region + target;
  const Deadline time = std::chrono::steady_clock::now();
  if (const auto found = kept_.find(name); found != kept_.end() && time < found->second.until) {
    if (smtp::certificate_valid_at(found->second.pem, seconds_now())) co_return Key{found->second.key, ""};
    kept_.erase(found);
  }
  Key out;
  out.why = "the last certificate could not be had: the next try is in a moment";
  if (time < not_before_) co_return out;
  not_before_ = in(exchange_timeout);  // one at a time
  const Page page = co_await get(smtp::sns_host(region), target);
  not_before_ = in(pause_after_failure);
  out.why = page.error;
  if (!page.error.empty()) co_return out;
  out.key = smtp::VerifyingKey::certificate(page.body, out.why);
  if (!out.key) co_return out;
  if (!smtp::certificate_valid_at(page.body, seconds_now())) {
    out.key = nullptr;
    out.why = "the certificate is not in its time";
    co_return out;
  }
  not_before_ = Deadline::min();
  if (kept_.size() >= max_kept) kept_.clear();
  kept_[name] = {page.body, out.key, in(kept_for)};
  co_return out;
}

asio::awaitable<std::string> SnsClient::confirm(std::string region, std::string target) {
  const Page page = co_await get(smtp::sns_host(region), target);
  co_return page.error;
}

void SnsClient::break_off() {
  broken_off_ = true;
  resolver_.cancel();
  deadlines_.expire_all();
}

}  // namespace egret::relay
