// Connections through a source's proxy: SOCKS5 (RFC 1928) or a HAProxy hop that takes the PROXY protocol, version 2.
#pragma once

#include "config/config.hpp"
#include "relay/net/stream.hpp"

namespace egret::relay {

/// Like connect(), through `via`. `from` is the source's address, which the proxy sends from; a HAProxy hop is told it.
/// What the proxy itself does wrong is `local_fault`: the source's, and no destination's.
boost::asio::awaitable<ConnectResult> connect_via(config::Via via, routing::IpAddress from, ConnectOptions options,
                                                  Deadlines& deadlines);

}  // namespace egret::relay
