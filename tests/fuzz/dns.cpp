// Answers from the wire: whatever arrives, what is believed is bounded, clean and of the type that was asked for.
#include "relay/dns/resolver.hpp"
#include "smtp/address.hpp"
#include "smtp/text.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace egret::fuzz {
namespace {

using namespace relay;
using Status = DnsReply::Status;

void check_records(const DnsReply& reply, DnsType type) {
  const bool address = type == DnsType::a || type == DnsType::aaaa;
  require(reply.addresses.empty() || address, "addresses were asked for");
  require(reply.mx.empty() || type == DnsType::mx, "mail exchangers were asked for");
  require(reply.texts.empty() || type == DnsType::txt || type == DnsType::ptr, "texts were asked for");
  require(reply.tlsa.empty() || type == DnsType::tlsa, "TLSA records were asked for");
  for (const auto& a : reply.addresses)
    require(a.v6 == (type == DnsType::aaaa), "an address is of the family that was asked for");
  for (const auto& mx : reply.mx)
    require(mx.host.empty() || (smtp::valid_domain(mx.host, false) && mx.host == smtp::lower(mx.host)), "an MX is a host name");
  for (const auto& text : reply.texts) {
    require(text.size() <= 2048 && smtp::printable(text) == text, "a text is bounded and clean");
    require(type != DnsType::ptr || (smtp::valid_domain(text, false) && text == smtp::lower(text)), "a PTR is a host name");
  }
  require(reply.canonical.empty() || ((address || type == DnsType::txt) && smtp::valid_domain(reply.canonical, false)),
          "a canonical name is a host name");
}

void check(const DnsReply& reply, DnsType type) {
  const std::size_t records = reply.addresses.size() + reply.mx.size() + reply.texts.size() + reply.tlsa.size();
  require(records <= 100, "records are bounded");
  require(reply.status == Status::failed || reply.error.empty(), "an answer is no error");
  require(reply.ttl <= 0x7fffffff, "a TTL has 31 bits");
  switch (reply.status) {
    case Status::ok:
      require(records > 0, "an answer has records");
      break;
    case Status::nodata:
    case Status::nxdomain:
      require(records == 0 && reply.ttl == 0 && reply.canonical.empty(), "where there is nothing there is nothing");
      break;
    case Status::failed:
      require(!reply.error.empty() && one_line(reply.error) && !reply.secure, "a failure has a reason and proves nothing");
      break;
  }
  if (reply.status != Status::failed) check_records(reply, type);
}

}  // namespace
}  // namespace egret::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using egret::relay::DnsType;
  for (const DnsType type : {DnsType::a, DnsType::aaaa, DnsType::mx, DnsType::txt, DnsType::ptr, DnsType::tlsa})
    egret::fuzz::check(egret::relay::parse_dns(data, size, type), type);
  return 0;
}
