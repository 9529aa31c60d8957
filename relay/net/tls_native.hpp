// What stands behind TlsContext, for the two files that talk to OpenSSL.
#pragma once

#include <boost/asio/ssl/context.hpp>

#include "relay/net/tls.hpp"

namespace egret::relay {

struct TlsContext::Native {
  boost::asio::ssl::context context{boost::asio::ssl::context::tls_client};
  bool verify = false;
};

}  // namespace egret::relay
