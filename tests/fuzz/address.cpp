// Addresses in paths, host names, and IP addresses and networks: what is taken is read again as the same.
#include "smtp/address.hpp"

#include "routing/address.hpp"
#include "smtp/text.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace egret::fuzz {
namespace {

using namespace smtp;

void check_mailbox(std::string_view text, bool utf8) {
  const auto address = parse_mailbox(text, utf8);
  if (!address) return;
  require(!address->null() && address->local.size() <= 64 && address->domain.size() <= 253, "an address has bounded parts");
  const std::string written = address->to_string();
  require(written.size() <= 254 && one_line(written) && valid_utf8(written), "an address is clean text");
  require(utf8 || address->ascii(), "only ASCII without SMTPUTF8");
  require(valid_domain(address->domain, utf8) || valid_address_literal(address->domain), "a domain is a name or a literal");
  require(parse_mailbox(written, utf8) == address, "an address is read as it was written");
  require(parse_mailbox(written, true) == address, "what is taken without SMTPUTF8 is taken with it");
}

void check_path(std::string_view text, bool utf8) {
  std::string_view rest = text;
  const auto address = parse_path(rest, utf8);
  require(address || rest == text, "what is no path stays");
  if (!address) return;
  require(text.ends_with(rest) && rest.size() + 2 <= text.size(), "a path is taken off the front");
  require(text[text.size() - rest.size() - 1] == '>', "a path ends in its bracket");
  const std::string written = "<" + address->to_string() + "> X=<y>";
  std::string_view again = written;
  require(parse_path(again, utf8) == address && again == " X=<y>", "a path is read as it was written");
}

void check_domain(std::string_view text) {
  if (!valid_domain(text, true)) {
    require(!valid_domain(text, false), "what is taken without UTF-8 is taken with it");
    return;
  }
  require(text.size() <= 253 && one_line(text) && valid_utf8(text), "a host name is clean text");
  require(text.front() != '.' && text.back() != '.' && text.find("..") == std::string_view::npos,
          "a host name has no empty label");
  require(!valid_domain(std::string(text) + "\r\n", true), "a host name ends where it ends");
}

void check_ip(std::string_view text) {
  using routing::IpAddress, routing::Network;
  if (const auto address = IpAddress::parse(text)) {
    require(IpAddress::parse(address->to_string()) == address, "an IP address is read as it was written");
    require(address->unmapped().unmapped() == address->unmapped(), "a mapped address is mapped once");
    const auto host = Network::parse(text);
    require(host && host->contains(*address), "an address is a network of one");
  }
  std::string why;
  const auto network = Network::parse(text, &why);
  require(network.has_value() == why.empty(), "what is wrong with a network is said");
  if (!network) return;
  const auto again = Network::parse(network->to_string());
  require(again && again->base == network->base && again->prefix == network->prefix, "a network is read as it was written");
  require(network->contains(network->base), "a network contains its base");
}

}  // namespace
}  // namespace egret::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace egret::fuzz;
  // A heap buffer of exactly this size.
  const std::unique_ptr<char[]> exact(new char[size]);
  std::copy(data, data + size, exact.get());
  const std::string_view text(exact.get(), size);
  for (const bool utf8 : {false, true}) {
    check_mailbox(text, utf8);
    check_path(text, utf8);
  }
  check_domain(text);
  check_ip(text);
  egret::smtp::valid_address_literal(text);
  return 0;
}
