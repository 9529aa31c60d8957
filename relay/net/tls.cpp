#include "relay/net/tls.hpp"

#include <openssl/ssl.h>

#include <stdexcept>

#include "relay/net/tls_native.hpp"

namespace egret::relay {

std::unique_ptr<TlsContext> TlsContext::client(bool verify, const std::string& ca) {
  auto native = std::make_unique<Native>();
  native->verify = verify;
  SSL_CTX* raw = native->context.native_handle();
  SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  SSL_CTX_set_options(raw, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  boost::system::error_code error;
  if (verify) {
    native->context.set_verify_mode(boost::asio::ssl::verify_peer, error);
    if (!ca.empty())
      native->context.load_verify_file(ca, error);
    else
      native->context.set_default_verify_paths(error);
    if (error)
      throw std::runtime_error("cannot load certificates from " + (ca.empty() ? "the system's store" : ca) + ": " +
                               error.message());
  } else {
    native->context.set_verify_mode(boost::asio::ssl::verify_none, error);
  }
  return std::make_unique<TlsContext>(std::move(native));
}

TlsContext::TlsContext(std::unique_ptr<Native> native) : native_(std::move(native)) {}
TlsContext::~TlsContext() = default;

}  // namespace egret::relay
