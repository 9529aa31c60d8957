// What stands behind TlsContext, for the two files that talk to OpenSSL.
#pragma once

#include <boost/asio/ssl/context.hpp>

#include "relay/net/tls.hpp"
#include "relay/net/trust.hpp"

namespace egret::relay {

struct TlsContext::Native {
  boost::asio::ssl::context context{boost::asio::ssl::context::tls_client};
  std::shared_ptr<x509_store_st> trust;  ///< held, so that others share it
  bool verify = false;
};

}  // namespace egret::relay
