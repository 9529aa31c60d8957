#include "relay/reputation/source_check.hpp"

#include <algorithm>
#include <array>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "smtp/text.hpp"

namespace egret::relay {
namespace {

constexpr routing::Duration round = std::chrono::hours(1);
constexpr routing::Duration first_gap = std::chrono::milliseconds(200);  // between two sources of the first round
constexpr std::size_t max_names = 5;                                     // of one address: more is nobody's mail server

using Status = DnsReply::Status;

bool has(const DnsReply& reply, const routing::IpAddress& address) {
  return std::ranges::find(reply.addresses, address) != reply.addresses.end();
}

/// The runs of digits in a name, in order.
std::vector<std::string> numbers(std::string_view name) {
  std::vector<std::string> out;
  bool inside = false;
  for (const char c : name) {
    const bool digit = c >= '0' && c <= '9';
    if (digit && !inside) out.emplace_back();
    if (digit) out.back() += c;
    inside = digit;
  }
  for (auto& number : out) number.erase(0, std::min(number.find_first_not_of('0'), number.size() - 1));
  return out;
}

/// What DNS did not answer now stays as it was known: an outage is no change.
void keep_known(SourceFacts& now, const SourceFacts& before) {
  if (now.ptr.status == Status::failed) {
    now.ptr = before.ptr;
    now.forwards = before.forwards;
  }
  for (auto& [name, reply] : now.forwards)
    if (reply.status == Status::failed)
      for (const auto& [known, old] : before.forwards)
        if (known == name) reply = old;
  if (now.ehlo_addresses.status == Status::failed) now.ehlo_addresses = before.ehlo_addresses;
}

bool contains_run(const std::vector<std::string>& all, const std::vector<std::string>& part) {
  return std::ranges::search(all, part).begin() != all.end();
}

std::string join(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

/// An EHLO name may be an address literal: it must be this one.
std::optional<bool> literal_matches(std::string_view ehlo, const routing::IpAddress& address) {
  if (!ehlo.starts_with('[') || !ehlo.ends_with(']')) return std::nullopt;
  std::string_view inner = ehlo.substr(1, ehlo.size() - 2);
  if (smtp::istarts_with(inner, "IPv6:")) inner.remove_prefix(5);
  const auto parsed = routing::IpAddress::parse(inner);
  return parsed && parsed->unmapped() == address;
}

void judge_ptr(const SourceFacts& facts, SourceDns& out) {
  const std::string address = facts.address.to_string();
  if (facts.ptr.status == Status::failed) return;
  out.ptr = facts.ptr.texts;
  if (out.ptr.empty()) {
    out.forward = false;
    out.problems.push_back(address + " has no PTR record");
    return;
  }
  bool unknown = false, matches = false;
  for (const auto& [name, reply] : facts.forwards) {
    matches = matches || has(reply, facts.address);
    unknown = unknown || reply.status == Status::failed;
  }
  if (matches || !unknown) out.forward = matches;
  if (out.forward == false) out.problems.push_back("PTR " + join(out.ptr) + " does not lead back to " + address);
  const auto generic = [&](const std::string& name) { return generic_name(name, facts.address); };
  if (std::ranges::all_of(out.ptr, generic))
    out.problems.push_back("PTR " + join(out.ptr) + " looks like that of a dynamic or unconfigured address");
}

void judge_ehlo(const SourceFacts& facts, SourceDns& out) {
  const std::string address = facts.address.to_string();
  out.ehlo = literal_matches(facts.ehlo, facts.address);
  if (!out.ehlo && facts.ehlo_addresses.status != Status::failed) out.ehlo = has(facts.ehlo_addresses, facts.address);
  if (out.ehlo != false) return;
  const bool none = facts.ehlo_addresses.addresses.empty();
  out.problems.push_back("EHLO name " + facts.ehlo + (none ? " has no address" : " leads elsewhere than to " + address));
}

}  // namespace

bool generic_name(std::string_view given, const routing::IpAddress& given_address) {
  const std::string name = smtp::lower(given);
  const routing::IpAddress address = given_address.unmapped();
  if (!address.v6) {
    std::vector<std::string> octets;
    for (int i = 0; i < 4; ++i) octets.push_back(std::to_string(address.bytes[static_cast<std::size_t>(i)]));
    std::vector<std::string> backwards(octets.rbegin(), octets.rend());
    const auto found = numbers(name);
    if (contains_run(found, octets) || contains_run(found, backwards)) return true;
    constexpr std::string_view digits = "0123456789abcdef";
    std::string hex;
    for (std::size_t i = 0; i < 4; ++i) (hex += digits[address.bytes[i] >> 4]) += digits[address.bytes[i] & 15];
    if (name.find(hex) != std::string::npos) return true;
  }
  static constexpr std::array words{"dynamic", "dyn",  "dhcp",      "dialup",     "dial",   "ppp",
                                    "pppoe",   "dsl",  "adsl",      "vdsl",       "cable",  "pool",
                                    "dip",     "cust", "broadband", "unassigned", "unused", "residential"};
  // Only below the registered domain: dyn.com is a company. Two labels are taken for it.
  std::string_view rest = name;
  while (std::ranges::count(rest, '.') >= 2) {
    const std::string_view label = rest.substr(0, rest.find('.'));
    std::string_view part = label;
    while (!part.empty()) {
      const std::string_view word = part.substr(0, part.find('-'));
      const std::string_view bare = word.substr(0, word.find_first_of("0123456789"));
      if (std::ranges::find(words, bare) != words.end()) return true;
      part.remove_prefix(std::min(part.size(), word.size() + 1));
    }
    rest.remove_prefix(label.size() + 1);
  }
  return false;
}

SourceDns judge_source(const SourceFacts& facts) {
  SourceDns out;
  judge_ptr(facts, out);
  judge_ehlo(facts, out);
  return out;
}

boost::asio::awaitable<SourceFacts> look_up_source(Resolver* resolver, routing::SourceInfo source, const bool* stop) {
  const auto stopped = [stop] { return stop && *stop; };
  SourceFacts facts;
  facts.address = source.reputation.unmapped();
  facts.ehlo = source.ehlo;
  const DnsType type = facts.address.v6 ? DnsType::aaaa : DnsType::a;
  facts.ptr = co_await resolver->query(reverse_name(facts.address), DnsType::ptr);
  if (facts.ptr.texts.size() > max_names) facts.ptr.texts.resize(max_names);
  for (const auto& name : facts.ptr.texts) {
    if (stopped()) co_return facts;
    DnsReply reply = co_await resolver->query(name, type);
    facts.forwards.emplace_back(name, std::move(reply));
  }
  if (stopped()) co_return facts;
  if (!facts.ehlo.starts_with('[')) facts.ehlo_addresses = co_await resolver->query(facts.ehlo, type);
  co_return facts;
}

SourceChecks::SourceChecks(const boost::asio::any_io_executor& executor, std::shared_ptr<const config::Config> config,
                           Events& events)
    : config_(std::move(config)),
      events_(events),
      resolver_(executor, config_->dns),
      results_(config_->topology.sources.size()),
      facts_(config_->topology.sources.size()),
      timer_(executor),
      random_(std::random_device{}()),
      tasks_(executor) {}

void SourceChecks::inherit(const SourceChecks& former) {
  for (std::size_t i = 0; i < former.results_.size() && i < results_.size(); ++i) {
    if (config_->topology.sources[i].ehlo != former.config_->topology.sources[i].ehlo) continue;
    results_[i] = former.results_[i];
    facts_[i] = former.facts_[i];
  }
}

void SourceChecks::start() {
  tasks_.spawn(run(), "source checks");
}

boost::asio::awaitable<void> SourceChecks::stop() {
  stopping_ = true;
  timer_.cancel();
  resolver_.cancel();
  co_await tasks_.wait();
}

boost::asio::awaitable<bool> SourceChecks::sleep(routing::Duration duration) {
  if (stopping_) co_return false;
  const double factor = std::uniform_real_distribution<double>(0.8, 1.2)(random_);
  timer_.expires_after(routing::Duration(static_cast<std::int64_t>(static_cast<double>(duration.count()) * factor)));
  boost::system::error_code error;
  co_await timer_.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, error));
  co_return !stopping_;
}

/// One source after the other: the first round soon, each later one spread over its hour.
boost::asio::awaitable<void> SourceChecks::run() {
  std::vector<std::uint32_t> sources;
  for (std::uint32_t i = 0; i < results_.size(); ++i)
    if (!config_->topology.sources[i].removed) sources.push_back(i);
  if (sources.empty()) co_return;
  const auto count = static_cast<std::int64_t>(sources.size());
  const routing::Duration even = round / count;
  bool first = true;
  while (!stopping_) {
    for (const std::uint32_t source : sources) {
      co_await check(source);
      const bool going = co_await sleep(first ? std::min(first_gap, even) : even);
      if (!going) co_return;
    }
    if (first) {
      const bool going = co_await sleep(std::max(even, round - first_gap * count));
      if (!going) co_return;
    }
    first = false;
  }
}

boost::asio::awaitable<void> SourceChecks::check(std::uint32_t source) {
  SourceFacts facts = co_await look_up_source(&resolver_, config_->topology.sources[source], &stopping_);
  if (stopping_) co_return;
  keep_known(facts, facts_[source]);
  SourceDns found = judge_source(facts);
  tell(source, found);
  results_[source] = std::move(found);
  facts_[source] = std::move(facts);
}

void SourceChecks::tell(std::uint32_t source, const SourceDns& found) {
  const std::optional<SourceDns>& before = results_[source];
  const std::vector<std::string> known = before ? before->problems : std::vector<std::string>{};
  if (found.problems == known) return;
  const bool good = found.problems.empty();
  Event event;
  event.kind = good ? "dns-match" : "dns-mismatch";
  event.source = config_->topology.sources[source].name;
  event.rule = "source-dns";
  event.text = good ? "PTR, forward and EHLO name agree" : join(found.problems);
  if (!good)
    event.action = "nothing is changed by this; many receivers refuse such sources. Set the PTR record and the EHLO name";
  events_.add(std::move(event));
}

}  // namespace egret::relay
