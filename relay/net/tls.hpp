// TLS contexts. OpenSSL does all verification; its headers stay in tls.cpp and stream.cpp.
#pragma once

#include <memory>
#include <string>

namespace egret::relay {

/// A context for clients or for one listener. Immutable after creation; may be shared between workers.
class TlsContext {
 public:
  struct Native;

  /// `verify`: the peer must present a certificate for the name asked for, signed by `ca` (a PEM file) or, when that
  /// is empty, by the system's store (SSL_CERT_FILE and SSL_CERT_DIR are honoured). Throws std::runtime_error with a
  /// text for people when the file cannot be used.
  static std::unique_ptr<TlsContext> client(bool verify, const std::string& ca);

  /// A client context for DANE (RFC 7672): only TLSA records decide, no certification authority.
  static std::unique_ptr<TlsContext> dane();
  /// A server's context: TLS 1.2 and 1.3, no renegotiation, tickets that only this context takes back (one for each
  /// listener, so that a session of one is never resumed at another). Throws std::runtime_error with a text that names the file
  /// when certificate and key cannot be used together.
  static std::shared_ptr<TlsContext> server(const std::string& certificate, const std::string& key, const std::string& listener);

  explicit TlsContext(std::unique_ptr<Native> native);
  ~TlsContext();
  Native& native() { return *native_; }

 private:
  std::unique_ptr<Native> native_;
};

}  // namespace egret::relay
