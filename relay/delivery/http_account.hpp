// Asks an ESP's HTTP API about our account, without sending anything: GetAccount (SES), the domain (Mailgun), the account
// (SparkPost).
#pragma once

#include <boost/asio/awaitable.hpp>

#include "config/config.hpp"
#include "relay/dns/resolver.hpp"
#include "relay/net/http_exchange.hpp"

namespace egret::relay {

/// The answer of the first of the API's addresses that gives one. `host` has an api. All must outlive it. The certificate is
/// verified. Cancelled by the resolver's cancel() and by expiring `deadlines`.
boost::asio::awaitable<HttpAnswer> ask_account(const config::Smarthost* host, Resolver* resolver, Deadlines* deadlines,
                                               Deadline deadline);

/// "SignatureDoesNotMatch: ... (HTTP 403)": what an answer other than 200 says, in words fit for logs.
std::string account_refusal(const config::Smarthost& host, const HttpAnswer& answer);

}  // namespace egret::relay
