// MTA-STS records and policies from anybody's zone and web server, and our own file of policies when it was damaged.
#include "routing/mta_sts.hpp"

#include "smtp/address.hpp"
#include "smtp/text.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace egret::fuzz {
namespace {

using namespace routing;

constexpr Time now{std::chrono::hours(24 * 20'000)};
constexpr std::chrono::seconds max_life{31'557'600};

void check(const StsPolicy& policy) {
  require(policy.max_age.count() >= 0 && policy.max_age <= max_life, "a life is bounded");
  require(policy.mx.size() <= 256, "mail exchangers are bounded");
  for (const std::string& mx : policy.mx) {
    const bool wildcard = mx.starts_with("*.");
    require(smtp::valid_domain(mx.substr(wildcard ? 2 : 0), false), "a pattern is a host name or a wildcard of one");
    require(mx_matches(policy, wildcard ? "host" + mx.substr(1) : mx), "a policy allows what it names");
    if (wildcard) require(!mx_matches({policy.mode, policy.max_age, {mx}}, "a.host" + mx.substr(1)), "a wildcard is one label");
  }
}

void check_policy(std::string_view text) {
  std::string why;
  const auto policy = parse_sts_policy(text, &why);
  require(policy.has_value() == why.empty() && one_line(why) && why.size() < 100, "what is no policy has a reason");
  if (!policy) return;
  check(*policy);
  require(!policy->mx.empty() || policy->mode == StsMode::none, "a policy that binds names somebody");
  std::string written = "version: STSv1\nmode: " + std::string(to_string(policy->mode)) +
                        "\nmax_age: " + std::to_string(policy->max_age.count()) + "\n";
  for (const auto& mx : policy->mx) written += "mx: " + mx + "\n";
  require(parse_sts_policy(written) == policy, "a policy is read as it was written");
}

void check_record(std::string_view text) {
  std::vector<std::string> texts;
  while (!text.empty()) texts.emplace_back(next_line(text));
  const auto id = sts_record_id(texts);
  if (!id) return;
  const auto alnum = [](unsigned char c) { return c < 0x80 && std::isalnum(c); };
  require(!id->empty() && id->size() <= 32 && std::ranges::all_of(*id, alnum), "an id is 1 to 32 letters and digits");
  require(sts_record_id(std::vector<std::string>{"v=STSv1; id=" + *id + ";"}) == id, "an id is read as it was written");
  texts.emplace_back("v=STSv1; id=another;");
  require(!sts_record_id(texts), "two records are none");
}

void check_decisions(const StsCached& cached) {
  for (const auto age : {std::chrono::hours(0), std::chrono::hours(30), std::chrono::hours(24 * 400)})
    for (const auto status : {StsRecord::Status::found, StsRecord::Status::none, StsRecord::Status::failed}) {
      const Time then = now + age;
      const StsAction action = decide_sts(&cached, {}, {status, cached.id}, then);
      require(action != StsAction::use_cached || sts_fresh(cached, then), "only a fresh policy is used");
      require(action != StsAction::none || !sts_fresh(cached, then), "a fresh policy is not forgotten");
      require(age < std::chrono::hours(24 * 400) || !sts_fresh(cached, then), "no policy lives for ever");
    }
}

void check_file(std::string_view text) {
  const auto policies = decode_sts(text, now);
  if (!policies) return;
  for (const auto& [domain, cached] : *policies) {
    require(smtp::valid_domain(domain, false) && domain == smtp::lower(domain), "policies are of domains");
    require(cached.fetched <= now, "no policy is from the future");
    check(cached.policy);
    check_decisions(cached);
  }
  require(decode_sts(encode_sts(*policies), now) == policies, "policies are read as they were written");
}

}  // namespace
}  // namespace egret::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  egret::fuzz::check_policy(text);
  egret::fuzz::check_record(text);
  egret::fuzz::check_file(text);
  return 0;
}
