// The PROXY protocol of HAProxy, versions 1 and 2: who the client behind a load balancer is.
//
// Whether a peer may say so at all is decided elsewhere, by network; there the header is required, and stands before TLS
// and before our greeting. Nothing but a complete, valid header is believed: anything else is malformed and the
// connection must be closed, because its octets could be an SMTP client's that hopes to be taken for a proxy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace egret::smtp {

struct ProxyHeader {
  bool local = false;  ///< the proxy speaks for itself, or does not know: the real peer counts, the rest is empty
  std::string source;  ///< canonical text of the address, as inet_ntop writes it
  std::string destination;
  std::uint16_t source_port = 0;
  std::uint16_t destination_port = 0;

  bool operator==(const ProxyHeader&) const = default;
};

enum class ProxyParse { incomplete, complete, malformed };

/// Looks for a header at the front of `in`. Keeps nothing between calls: after `incomplete` offer the same octets again
/// with more behind them. `used` and `out` are written by `complete` only; what follows the `used` octets belongs to the
/// connection. Malformed as soon as no continuation can become a header, so it never asks for more than 107 octets of
/// version 1, or 16 + 4096 of version 2.
///
/// Version 2 is taken for TCP over IPv4 and IPv6; LOCAL, UNSPEC and the UNKNOWN of version 1 give `local`. TLVs are
/// skipped unread.
ProxyParse parse_proxy_header(std::string_view in, std::size_t& used, ProxyHeader& out);

/// The header in version 2, without TLVs. With addresses of both families the IPv4 one is written IPv4-mapped. Empty
/// when either address is none: there is nothing to be sent then.
std::string encode_proxy_v2(const ProxyHeader& header);

}  // namespace egret::smtp
