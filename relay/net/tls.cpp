#include "relay/net/tls.hpp"

#include <openssl/ssl.h>

#include <functional>
#include <stdexcept>

#include "relay/net/tls_native.hpp"

namespace egret::relay {

namespace {

void harden(SSL_CTX* context) {
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
}

}  // namespace

std::unique_ptr<TlsContext> TlsContext::dane() {
  auto native = std::make_unique<Native>();
  harden(native->context.native_handle());
  if (SSL_CTX_dane_enable(native->context.native_handle()) <= 0) throw std::runtime_error("OpenSSL cannot do DANE");
  return std::make_unique<TlsContext>(std::move(native));
}

std::unique_ptr<TlsContext> TlsContext::client(bool verify, const std::string& ca) {
  auto native = std::make_unique<Native>();
  native->verify = verify;
  SSL_CTX* raw = native->context.native_handle();
  harden(raw);
  boost::system::error_code error;
  if (verify) {
    native->context.set_verify_mode(boost::asio::ssl::verify_peer, error);
    native->trust = trusted(ca);
    SSL_CTX_set1_cert_store(raw, native->trust.get());
  } else {
    native->context.set_verify_mode(boost::asio::ssl::verify_none, error);
  }
  return std::make_unique<TlsContext>(std::move(native));
}

std::shared_ptr<TlsContext> TlsContext::server(const std::string& certificate, const std::string& key,
                                               const std::string& listener) {
  auto native = std::make_unique<Native>();
  native->context = boost::asio::ssl::context(boost::asio::ssl::context::tls_server);
  SSL_CTX* raw = native->context.native_handle();
  harden(raw);
  SSL_CTX_set_options(raw, SSL_OP_CIPHER_SERVER_PREFERENCE);
  // Tickets are enough, and cost no memory here.
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  // An encrypted key would make OpenSSL ask at the terminal.
  SSL_CTX_set_default_passwd_cb(raw, [](char*, int, int, void*) { return 0; });
  // The id is cut to what OpenSSL takes; a hash keeps long addresses apart.
  const std::size_t hash = std::hash<std::string>{}(listener);
  SSL_CTX_set_session_id_context(raw, reinterpret_cast<const unsigned char*>(&hash), sizeof hash);
  boost::system::error_code error;
  native->context.use_certificate_chain_file(certificate, error);
  if (error) throw std::runtime_error("cannot use the certificate " + certificate + ": " + error.message());
  native->context.use_private_key_file(key, boost::asio::ssl::context::pem, error);
  if (error) throw std::runtime_error("cannot use the key " + key + ": " + error.message());
  if (SSL_CTX_check_private_key(raw) != 1)
    throw std::runtime_error("the key " + key + " does not belong to the certificate " + certificate);
  return std::make_shared<TlsContext>(std::move(native));
}

TlsContext::TlsContext(std::unique_ptr<Native> native) : native_(std::move(native)) {}
TlsContext::~TlsContext() = default;

}  // namespace egret::relay
