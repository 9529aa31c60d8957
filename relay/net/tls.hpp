// TLS contexts. OpenSSL does all verification; its headers stay in tls.cpp and stream.cpp.
#pragma once

#include <memory>
#include <string>

namespace egret::relay {

/// A client context. Immutable after creation; may be shared between workers.
class TlsContext {
 public:
  struct Native;

  /// `verify`: the peer must present a certificate for the name asked for, signed by `ca` (a PEM file) or, when that
  /// is empty, by the system's store (SSL_CERT_FILE and SSL_CERT_DIR are honoured). Throws std::runtime_error with a
  /// text for people when the file cannot be used.
  static std::unique_ptr<TlsContext> client(bool verify, const std::string& ca);

  explicit TlsContext(std::unique_ptr<Native> native);
  ~TlsContext();
  Native& native() { return *native_; }

 private:
  std::unique_ptr<Native> native_;
};

}  // namespace egret::relay
