#include "relay/doctor/doctor.hpp"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <deque>
#include <exception>
#include <utility>

#include "relay/doctor/subjects.hpp"
#include "smtp/text.hpp"

namespace egret::relay::doctor {
namespace {

namespace asio = boost::asio;

/// Runs checks side by side and keeps their findings in the order in which they were begun.
class Runner {
 public:
  explicit Runner(asio::io_context& context) : context_(context) {}

  void start(std::string subject, asio::awaitable<Checks> task) {
    Part& part = parts_.emplace_back();
    asio::co_spawn(context_, std::move(task), [&part, subject = std::move(subject)](std::exception_ptr failure, Checks found) {
      part = std::move(found);
      if (failure) part.push_back(make_check("internal", subject, Result::fail, "the check broke off: " + what(failure)));
    });
  }

  Checks take() {
    Checks out;
    for (Part& part : parts_) std::ranges::move(part, std::back_inserter(out));
    return out;
  }

 private:
  using Part = Checks;

  static std::string what(std::exception_ptr failure) {
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& e) {
      return e.what();
    } catch (...) {
      return "unknown";
    }
  }

  asio::io_context& context_;
  std::deque<Part> parts_;  // a deque, because running checks refer to its elements
};

std::vector<std::string> sender_domains(const config::Config& config, const std::vector<std::string>& given) {
  std::vector<std::string> out;
  const auto add = [&](const std::string& domain) {
    if (std::ranges::find(out, domain) == out.end()) out.push_back(domain);
  };
  for (const auto& domain : given) add(smtp::lower(domain));
  for (const auto& signer : config.dkim) add(smtp::lower(signer.domain));
  return out;
}

/// One list out of service is that list's trouble; all of them are ours: no listing would be noticed.
void judge_all_lists(Checks& checks) {
  std::size_t lists = 0, down = 0;
  for (const Check& check : checks) {
    if (check.check != "blocklist") continue;
    ++lists;
    down += check.result != Result::ok;
  }
  if (lists > 0 && lists == down)
    checks.push_back(
        make_check("blocklists", "blocklists", Result::fail, "none of the blocklists in use can be believed",
                   "look at the DNS servers: public resolvers are refused by most lists; use a resolver of your own"));
}

}  // namespace

Checks run(const config::Config& config, const std::vector<std::string>& given) {
  const std::vector<std::string> domains = sender_domains(config, given);
  asio::io_context context{1};
  Resolver resolver(context.get_executor(), config.dns);
  Pace pace(config.blocklist_queries);
  std::deque<Deadlines> deadlines;
  const World world{config, resolver, pace, deadlines};
  Runner runner(context);
  runner.start("dns", check_dns(world, domains));
  for (std::uint32_t i = 0; i < config.topology.sources.size(); ++i)
    if (!config.topology.sources[i].removed) runner.start(source_subject(config.topology.sources[i]), check_source(world, i));
  for (const auto& [name, list] : config.blocklists)
    if (list.enabled && !list.names) runner.start("blocklist " + name, check_blocklist(world, &list));
  for (std::uint32_t i = 0; i < config.smarthosts.size(); ++i)
    if (!config.smarthosts[i].removed) runner.start("smarthost " + config.smarthosts[i].name, check_smarthost(world, i));
  for (const auto& domain : domains) runner.start("domain " + domain, check_domain(world, domain));
  context.run();
  Checks checks = runner.take();
  judge_all_lists(checks);
  return checks;
}

}  // namespace egret::relay::doctor
