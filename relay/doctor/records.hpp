// Questions to DNS that several checks ask: SPF records along their includes, DMARC along its walk, and what an ESP wants
// published of a sender domain.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.hpp"
#include "relay/dns/resolver.hpp"
#include "routing/readiness.hpp"
#include "routing/spf.hpp"

namespace egret::relay::doctor {

/// Asks what `sender`'s evaluation still needs, until there is a result; `answers` remembers.
boost::asio::awaitable<routing::SpfOutcome> evaluate_spf(Resolver* resolver, routing::SpfSender sender,
                                                         routing::SpfAnswers* answers);
/// Whether the record of `domain` includes `target`. With unknown, a server did not answer.
boost::asio::awaitable<routing::RecordState> includes_spf(Resolver* resolver, std::string domain, std::string target,
                                                          routing::SpfAnswers* answers);

struct Dmarc {
  bool known = false;  ///< every name that matters was answered
  std::string error;   ///< which one was not, and why
  std::optional<routing::DmarcPolicy> policy;
  std::string organization;
};
boost::asio::awaitable<Dmarc> find_dmarc_policy(Resolver* resolver, std::string domain);

/// What DNS says of `domain` at the smarthost. `config` and `dmarc` outlive the call.
boost::asio::awaitable<routing::ReadinessFacts> look_up_readiness(const config::Config* config, std::uint32_t smarthost,
                                                                  Resolver* resolver, std::string domain, const Dmarc* dmarc);

}  // namespace egret::relay::doctor
