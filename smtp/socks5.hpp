// The client side of SOCKS5 (RFC 1928) with user name and password (RFC 1929), as a state machine on octets.
//
// It decides whose fault a failure is: a destination that the proxy could not reach says nothing about the egress, while
// a proxy that refuses or babbles is the source's own. The destination is always an address, never a name: which host we
// speak to was decided, and perhaps authenticated, by our own look-up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace egret::smtp {

struct Socks5Login {
  std::string user;      ///< 1 to 255 octets
  std::string password;  ///< at most 255 octets
};

class Socks5Client {
 public:
  enum class Action {
    read,       ///< send output() if there is any, then read and call on_bytes()
    connected,  ///< the tunnel stands
    failed      ///< close; see failure()
  };

  /// `address` is an IPv4 or IPv6 address in text. With a login the proxy must take it: a proxy that picks its address
  /// by user would otherwise send from another one. Arguments that cannot be sent give a client that has failed.
  Socks5Client(std::string_view address, std::uint16_t port, const std::optional<Socks5Login>& login = std::nullopt);

  Action action() const;

  /// Octets to send; the caller sends and clears them. The greeting is there from the start.
  std::string& output() { return output_; }

  /// Consumes from the front of `in` what belongs to the dialog, which is bounded to a few hundred octets. What follows
  /// the last reply belongs to the tunnelled protocol and stays in `in`.
  Action on_bytes(std::string_view& in);

  /// For people, e.g. "proxy refused the connection: host unreachable (4)"; empty unless failed.
  const std::string& failure() const { return failure_; }

  /// Whether the proxy (or what is configured for it) failed, rather than the way from it to the destination.
  bool proxy_fault() const { return proxy_fault_; }

 private:
  enum class State { method, login, reply, bound_type, bound_name, bound_rest, connected, failed };

  void step(std::string_view octets);
  void on_method(std::string_view octets);
  void on_login(std::string_view octets);
  void on_reply(std::string_view octets);
  void on_bound_type(std::string_view octets);
  void expect(State state, std::size_t octets);
  void fail(std::string text, bool proxy_fault);
  void fail_version(std::string_view octets);

  std::string request_;  // sent once the proxy has taken us
  std::string login_;    // the RFC 1929 request; empty: none
  std::string output_;
  std::string pending_;  // octets of an answer that is not complete
  std::string failure_;
  State state_ = State::method;
  std::size_t wanted_ = 2;  // octets of the answer that is awaited
  bool proxy_fault_ = false;
};

}  // namespace egret::smtp
