// The PROXY protocol: judged the same as soon as it can be judged, bounded, and read as it is written.
#include "smtp/proxy_protocol.hpp"

#include "tests/fuzz/fuzz.hpp"

namespace egret::fuzz {
namespace {

using namespace smtp;

struct Parsed {
  ProxyParse result = ProxyParse::incomplete;
  std::size_t used = 0;
  ProxyHeader header;

  bool operator==(const Parsed&) const = default;
};

Parsed parse(std::string_view octets) {
  // In a buffer of exactly this size.
  const std::unique_ptr<char[]> exact(new char[octets.size()]);
  std::copy(octets.begin(), octets.end(), exact.get());
  Parsed out;
  out.result = parse_proxy_header({exact.get(), octets.size()}, out.used, out.header);
  return out;
}

void check_complete(const Parsed& parsed, std::size_t size) {
  const ProxyHeader& header = parsed.header;
  require(parsed.used > 0 && parsed.used <= size && parsed.used <= 16 + 4096, "a header is bounded");
  require(!header.local || header == ProxyHeader{true, "", "", 0, 0}, "a proxy that speaks for itself names nobody");
  const std::string written = encode_proxy_v2(header);
  const Parsed again = parse(written + "EHLO");
  require(again.result == ProxyParse::complete && again.used == written.size() && again.header == header,
          "a header is read as it was written");
}

}  // namespace
}  // namespace egret::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace egret::fuzz;
  using egret::smtp::ProxyParse;
  const std::string_view octets(reinterpret_cast<const char*>(data), size);
  const Parsed whole = parse(octets);
  if (whole.result == ProxyParse::complete) check_complete(whole, size);
  const bool first = octets.starts_with("PROXY ");
  require(whole.result != ProxyParse::incomplete || size < (first ? 107 : 16 + 4096), "no more is asked for than a header has");
  // Every beginning is judged alike, once it is judged.
  for (std::size_t length = 0; length < std::min<std::size_t>(size, 300); ++length) {
    const Parsed beginning = parse(octets.substr(0, length));
    if (beginning.result != ProxyParse::incomplete) {
      require(beginning == whole, "what follows a header changes nothing");
      break;
    }
    require(whole.result != ProxyParse::complete || length < whole.used, "a header is complete at its end");
  }
  return 0;
}
