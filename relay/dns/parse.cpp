// DNS messages as they come from the wire (RFC 1035), read with the C library's parser.
#include <arpa/nameser.h>
#include <resolv.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "relay/dns/resolver.hpp"
#include "smtp/address.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

constexpr int max_records = 100;  // a zone with more is broken or hostile
constexpr std::size_t max_text = 2048;

std::optional<std::string> name_at(const ns_msg& message, const unsigned char* at) {
  std::array<char, NS_MAXDNAME> buffer{};
  if (ns_name_uncompress(ns_msg_base(message), ns_msg_end(message), at, buffer.data(), buffer.size()) < 0) return std::nullopt;
  std::string name = smtp::lower(buffer.data());
  if (name == ".") name.clear();
  return name;
}

void add_text(const unsigned char* data, std::size_t size, DnsReply& out) {
  std::string text;
  for (std::size_t at = 0; at < size;) {
    const std::size_t length = std::min<std::size_t>(data[at], size - at - 1);
    text.append(reinterpret_cast<const char*>(data) + at + 1, length);
    at += length + 1;
  }
  if (text.size() > max_text) text.resize(max_text);
  out.texts.push_back(smtp::printable(text));
}

/// The name that an address or text belongs to; names that are no host names are of no use to anybody.
void note_canonical(const ns_rr& rr, DnsReply& out) {
  if (out.canonical.empty() && smtp::valid_domain(ns_rr_name(rr), false)) out.canonical = smtp::lower(ns_rr_name(rr));
}

bool add_record(const ns_msg& message, const ns_rr& rr, DnsType type, DnsReply& out) {
  const unsigned char* data = ns_rr_rdata(rr);
  const std::size_t size = ns_rr_rdlen(rr);
  const auto wanted = ns_rr_type(rr);
  routing::IpAddress address;
  if (type == DnsType::a && wanted == ns_t_a && size == 4) {
    std::memcpy(address.bytes.data(), data, 4);
    out.addresses.push_back(address);
    note_canonical(rr, out);
  } else if (type == DnsType::aaaa && wanted == ns_t_aaaa && size == 16) {
    address.v6 = true;
    std::memcpy(address.bytes.data(), data, 16);
    out.addresses.push_back(address);
    note_canonical(rr, out);
  } else if (type == DnsType::mx && wanted == ns_t_mx && size >= 3) {
    const auto host = name_at(message, data + 2);
    // A host name that is none would end up in logs, SNI and site keys: such a record does not exist for us.
    if (!host || (!host->empty() && !smtp::valid_domain(*host, false))) return false;
    out.mx.push_back({static_cast<std::uint16_t>(data[0] << 8 | data[1]), *host});
  } else if (type == DnsType::txt && wanted == ns_t_txt) {
    note_canonical(rr, out);
    add_text(data, size, out);
  } else if (type == DnsType::ptr && wanted == ns_t_ptr) {
    const auto host = name_at(message, data);
    if (!host || !smtp::valid_domain(*host, false)) return false;
    out.texts.push_back(*host);
  } else if (type == DnsType::tlsa && wanted == ns_t_tlsa) {
    out.tlsa.push_back({data[0], data[1], data[2], std::string(reinterpret_cast<const char*>(data) + 3, size - 3)});
  } else {
    return false;
  }
  return true;
}

/// RFC 2181 section 8: a TTL with the top bit set is zero.
std::uint32_t sane_ttl(std::uint32_t ttl) {
  return ttl & 0x80000000u ? 0u : ttl;
}

/// How long "there is none" holds: the lesser of the SOA record's TTL and its MINIMUM field (RFC 2308 section 5).
std::uint32_t negative_ttl(ns_msg& message) {
  const int count = std::min<int>(ns_msg_count(message, ns_s_ns), max_records);
  for (int i = 0; i < count; ++i) {
    ns_rr rr;
    if (ns_parserr(&message, ns_s_ns, i, &rr) < 0) return 0;
    if (ns_rr_type(rr) != ns_t_soa || ns_rr_rdlen(rr) < 22) continue;
    const unsigned char* minimum = ns_rr_rdata(rr) + ns_rr_rdlen(rr) - 4;
    return std::min(sane_ttl(ns_rr_ttl(rr)), sane_ttl(ns_get32(minimum)));
  }
  return 0;
}

DnsReply failed(std::string error) {
  DnsReply out;
  out.error = std::move(error);
  return out;
}

}  // namespace

DnsReply parse_dns(const unsigned char* data, std::size_t size, DnsType type) {
  ns_msg message;
  if (size > 65535 || ns_initparse(data, static_cast<int>(size), &message) < 0) return failed("malformed answer");
  const int rcode = ns_msg_getflag(message, ns_f_rcode);
  if (!ns_msg_getflag(message, ns_f_qr)) return failed("not an answer");
  DnsReply out;
  out.secure = ns_msg_getflag(message, ns_f_ad) != 0;
  if (rcode == ns_r_nxdomain) {
    out.status = DnsReply::Status::nxdomain;
    out.negative_ttl = negative_ttl(message);
    return out;
  }
  if (rcode == ns_r_servfail) return failed("SERVFAIL");
  if (rcode == ns_r_refused) return failed("REFUSED");
  if (rcode != ns_r_noerror) return failed("rcode " + std::to_string(rcode));
  const int count = std::min<int>(ns_msg_count(message, ns_s_an), max_records);
  bool any = false;
  std::uint32_t ttl = 0x7fffffff;
  for (int i = 0; i < count; ++i) {
    ns_rr rr;
    if (ns_parserr(&message, ns_s_an, i, &rr) < 0) return failed("malformed answer");
    // A TLSA record that is dropped would take its protection with it: not even its form is right, so nothing is known.
    if (type == DnsType::tlsa && ns_rr_type(rr) == ns_t_tlsa && ns_rr_rdlen(rr) < 4) return failed("malformed answer");
    const bool alias = ns_rr_type(rr) == ns_t_cname;
    const bool useful = ns_rr_class(rr) == ns_c_in && !alias && add_record(message, rr, type, out);
    any = any || useful;
    if (!useful && !alias) continue;
    // An answer is as fresh as the alias that leads to it.
    ttl = std::min(ttl, sane_ttl(ns_rr_ttl(rr)));
  }
  // Cut short and nothing useful in it: that is no word on whether there is something.
  if (!any && ns_msg_getflag(message, ns_f_tc)) return failed("truncated answer");
  out.status = any ? DnsReply::Status::ok : DnsReply::Status::nodata;
  out.ttl = any ? ttl : 0;
  if (!any) out.negative_ttl = negative_ttl(message);
  return out;
}

routing::DnsAnswer to_answer(const DnsReply& reply) {
  routing::DnsAnswer out;
  switch (reply.status) {
    case DnsReply::Status::ok:
      out.status = routing::DnsAnswer::Status::answer;
      break;
    case DnsReply::Status::nxdomain:
      out.status = routing::DnsAnswer::Status::nxdomain;
      break;
    case DnsReply::Status::nodata:
      out.status = routing::DnsAnswer::Status::nodata;
      break;
    case DnsReply::Status::failed:
      out.status = routing::DnsAnswer::Status::failed;
      break;
  }
  out.addresses = reply.addresses;
  out.error = reply.error;
  return out;
}

std::string reverse_name(const routing::IpAddress& address) {
  return routing::query_name(address, address.unmapped().v6 ? "ip6.arpa" : "in-addr.arpa");
}

}  // namespace egret::relay
