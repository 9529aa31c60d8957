#include <algorithm>
#include <boost/asio/this_coro.hpp>

#include "relay/doctor/subjects.hpp"
#include "relay/net/bind_test.hpp"
#include "relay/net/stream.hpp"
#include "relay/reputation/source_check.hpp"

namespace egret::relay::doctor {
namespace {

constexpr auto proxy_timeout = std::chrono::seconds(5);

std::string join(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

boost::asio::awaitable<Check> check_proxy(std::string subject, config::Via via, std::deque<Deadlines>* all) {
  const std::string proxy = (via.ip.v6 ? "[" + via.ip.to_string() + "]" : via.ip.to_string()) + ":" + std::to_string(via.port);
  const auto executor = co_await boost::asio::this_coro::executor;
  Deadlines& deadlines = all->emplace_back(executor);
  const ConnectOptions options{via.ip, via.port, {}, in(proxy_timeout)};
  const ConnectResult connected = co_await connect(options, deadlines);
  if (connected.stream) co_return make_check("source-address", subject, Result::ok, "its proxy " + proxy + " takes connections");
  co_return make_check("source-address", subject, Result::fail,
                       "its proxy " + proxy + " cannot be reached: " + connected.error.message(),
                       "start the proxy, or correct via");
}

Check check_address(const config::Config& config, const routing::SourceInfo& source, const std::string& subject) {
  const std::string address = source.address.to_string();
  if (const std::string why = bind_fault(source.address); !why.empty())
    return make_check("source-address", subject, Result::fail, address + " cannot be used on this host: " + why,
                      "add the address to an interface, or correct the source");
  if (source.reputation.special() && !config.delivery.allow_private)
    return make_check("source-address", subject, Result::warn, address + " is a private address: receivers see another one",
                      "set public to the address that they see, or nothing can be known of its reputation");
  return make_check("source-address", subject, Result::ok, address + " is usable on this host");
}

Check judge_ptr(const std::string& subject, const SourceFacts& facts, const SourceDns& found) {
  const std::string address = facts.address.to_string();
  const auto result = [&](Result r, std::string text, std::string advice = {}) {
    return make_check("source-ptr", subject, r, std::move(text), std::move(advice));
  };
  const std::string unknown = "ask again when DNS works";
  if (facts.ptr.status == DnsReply::Status::failed)
    return result(Result::warn, "PTR of " + address + " unknown: " + facts.ptr.error, unknown);
  if (found.ptr.empty())
    return result(Result::fail, address + " has no PTR record",
                  "have whoever owns the address set its PTR to " + facts.ehlo + ": many receivers refuse mail without one");
  const std::string names = "PTR " + join(found.ptr);
  if (!found.forward) return result(Result::warn, names + ": its address is unknown, DNS did not answer", unknown);
  if (!*found.forward)
    return result(Result::fail, names + " does not lead back to " + address,
                  "give that name the address, or set the PTR to " + facts.ehlo);
  const auto generic = [&](const std::string& name) { return generic_name(name, facts.address); };
  if (std::ranges::all_of(found.ptr, generic))
    return result(Result::warn, names + " looks like that of a dynamic or unconfigured address",
                  "set the PTR to a name of your own, such as " + facts.ehlo);
  return result(Result::ok, names + " leads back to " + address);
}

Check judge_ehlo(const std::string& subject, const SourceFacts& facts, const SourceDns& found) {
  const std::string address = facts.address.to_string();
  const std::string name = "EHLO name " + facts.ehlo;
  if (!found.ehlo)
    return make_check("source-ehlo", subject, Result::warn, name + ": unknown, DNS did not answer", "ask again when DNS works");
  if (*found.ehlo) return make_check("source-ehlo", subject, Result::ok, name + " leads to " + address);
  const std::string advice = "give " + facts.ehlo + " the address " + address + ", or set ehlo to the PTR's name";
  if (facts.ehlo_addresses.addresses.empty())
    return make_check("source-ehlo", subject, Result::fail, name + " has no " + (facts.address.v6 ? "IPv6" : "IPv4") + " address",
                      advice);
  return make_check("source-ehlo", subject, Result::warn, name + " leads elsewhere than to " + address, advice);
}

}  // namespace

std::string source_subject(const routing::SourceInfo& source) {
  return "source " + source.name + " (" + source.reputation.to_string() + ")";
}

boost::asio::awaitable<Checks> check_source(World world, std::uint32_t index) {
  const routing::SourceInfo& source = world.config.topology.sources[index];
  const std::string subject = source_subject(source);
  Checks out;
  if (world.config.via[index]) {
    Check proxy = co_await check_proxy(subject, *world.config.via[index], &world.deadlines);
    out.push_back(std::move(proxy));
  } else {
    out.push_back(check_address(world.config, source, subject));
  }
  const SourceFacts facts = co_await look_up_source(&world.resolver, source, nullptr);
  const SourceDns found = judge_source(facts);
  out.push_back(judge_ptr(subject, facts, found));
  out.push_back(judge_ehlo(subject, facts, found));
  co_return out;
}

}  // namespace egret::relay::doctor
