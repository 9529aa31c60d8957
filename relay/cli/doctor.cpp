#include "relay/cli/doctor.hpp"

#include <algorithm>
#include <boost/json.hpp>
#include <iostream>
#include <stdexcept>

#include "relay/dns/idn.hpp"
#include "relay/doctor/doctor.hpp"
#include "smtp/address.hpp"

namespace egret::relay {
namespace {

namespace json = boost::json;

constexpr std::size_t max_domains = 100;

std::vector<std::string> ascii_domains(const std::vector<std::string>& given) {
  if (given.size() > max_domains) throw std::runtime_error("more than " + std::to_string(max_domains) + " domains");
  std::vector<std::string> out;
  for (const std::string& domain : given) {
    std::string ascii = to_a_labels(domain);
    if (!smtp::valid_domain(ascii, false)) throw std::runtime_error("not a domain: " + domain);
    out.push_back(std::move(ascii));
  }
  return out;
}

std::string line(const doctor::Check& check) {
  std::string out(doctor::to_string(check.result));
  out.resize(6, ' ');
  out += check.subject + ": " + check.text;
  if (!check.advice.empty()) out += "; " + check.advice;
  return out;
}

json::object object(const doctor::Check& check) {
  return {{"check", check.check},
          {"subject", check.subject},
          {"result", doctor::to_string(check.result)},
          {"text", check.text},
          {"advice", check.advice}};
}

}  // namespace

int doctor_command(const config::Config& config, const std::vector<std::string>& domains, bool as_json) {
  const doctor::Checks checks = doctor::run(config, ascii_domains(domains));
  json::array all;
  for (const auto& check : checks) {
    if (as_json)
      all.push_back(object(check));
    else
      std::cout << line(check) << "\n";
  }
  if (as_json) std::cout << json::serialize(json::object{{"checks", std::move(all)}}) << "\n";
  const bool failed = std::ranges::any_of(checks, [](const auto& check) { return check.result == doctor::Result::fail; });
  return failed ? 1 : 0;
}

}  // namespace egret::relay
