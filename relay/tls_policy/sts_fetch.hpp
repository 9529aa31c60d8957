// Fetches a domain's MTA-STS policy file (RFC 8461 section 3.3): HTTPS with a certificate for mta-sts.DOMAIN, status
// 200 and nothing else, no redirects, text/plain, at most 64 KB.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <optional>
#include <string>

#include "relay/dns/resolver.hpp"
#include "relay/net/deadlines.hpp"
#include "relay/net/tls.hpp"
#include "routing/mta_sts.hpp"

namespace egret::relay {

struct StsFetch {
  std::optional<routing::StsPolicy> policy;
  std::string error;  ///< where there is none: a text for logs
};

/// `domain` is an A-label name in lower case; `tls` must verify. Private addresses are refused unless
/// `allow_private`: the name is remote data, and must not make us talk to hosts inside. Ends by `deadline` (a DNS
/// query that is under way then ends by its own timeout). What the objects refer to must outlive it.
boost::asio::awaitable<StsFetch> fetch_sts_policy(std::string domain, Resolver& resolver, Deadlines& deadlines, TlsContext& tls,
                                                  bool allow_private, Deadline deadline);

}  // namespace egret::relay
