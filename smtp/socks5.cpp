#include "smtp/socks5.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <utility>

namespace egret::smtp {
namespace {

constexpr std::uint8_t version = 5;
constexpr std::uint8_t login_version = 1;
constexpr std::uint8_t no_login = 0;
constexpr std::uint8_t user_and_password = 2;
constexpr std::uint8_t no_acceptable_method = 0xFF;
constexpr std::uint8_t connect_command = 1;
constexpr std::uint8_t type_v4 = 1;
constexpr std::uint8_t type_name = 3;
constexpr std::uint8_t type_v6 = 4;

struct ReplyCode {
  std::string_view text;
  bool proxy_fault;
};

/// REP of RFC 1928 section 6, from 1 on.
constexpr std::array<ReplyCode, 8> reply_codes{{{"general failure", true},
                                                {"not allowed by its rules", true},
                                                {"network unreachable", false},
                                                {"host unreachable", false},
                                                {"connection refused", false},
                                                {"TTL expired", false},
                                                {"command not supported", true},
                                                {"address type not supported", true}}};

void put(std::string& out, std::size_t octet) {
  out += static_cast<char>(octet);
}

std::uint8_t octet_of(std::string_view octets, std::size_t index) {
  return static_cast<std::uint8_t>(octets[index]);
}

/// ATYP and DST.ADDR; empty when `text` is no address.
std::string typed_address(std::string_view text) {
  std::array<char, 16> bytes{};
  if (text.size() >= INET6_ADDRSTRLEN || text.find('\0') != std::string_view::npos) return {};
  const std::string copy(text);
  std::string out;
  if (inet_pton(AF_INET, copy.c_str(), bytes.data()) == 1) {
    put(out, type_v4);
    out.append(bytes.data(), 4);
  } else if (inet_pton(AF_INET6, copy.c_str(), bytes.data()) == 1) {
    put(out, type_v6);
    out.append(bytes.data(), 16);
  }
  return out;
}

}  // namespace

Socks5Client::Socks5Client(std::string_view address, std::uint16_t port, const std::optional<Socks5Login>& login) {
  const std::string destination = typed_address(address);
  if (destination.empty()) {
    fail("the destination is not an IP address", false);
    return;
  }
  if (login && (login->user.empty() || login->user.size() > 255 || login->password.size() > 255)) {
    fail("user name or password for the proxy is empty or longer than 255 octets", true);
    return;
  }
  if (login) {
    put(login_, login_version);
    put(login_, login->user.size());
    login_ += login->user;
    put(login_, login->password.size());
    login_ += login->password;
  }
  for (const std::uint8_t octet : {version, connect_command, std::uint8_t{0}}) put(request_, octet);
  request_ += destination;
  put(request_, port >> 8);
  put(request_, port & 255);
  for (const std::uint8_t octet : {version, std::uint8_t{1}, login ? user_and_password : no_login}) put(output_, octet);
}

Socks5Client::Action Socks5Client::action() const {
  switch (state_) {
    case State::method:
    case State::login:
    case State::reply:
    case State::bound_type:
    case State::bound_name:
    case State::bound_rest:
      return Action::read;
    case State::connected:
      return Action::connected;
    case State::failed:
      return Action::failed;
  }
  return Action::failed;
}

Socks5Client::Action Socks5Client::on_bytes(std::string_view& in) {
  while (action() == Action::read) {
    const std::size_t size = std::min(wanted_ - pending_.size(), in.size());
    pending_ += in.substr(0, size);
    in.remove_prefix(size);
    if (pending_.size() < wanted_) break;
    step(std::exchange(pending_, {}));
  }
  return action();
}

void Socks5Client::step(std::string_view octets) {
  switch (state_) {
    case State::method:
      return on_method(octets);
    case State::login:
      return on_login(octets);
    case State::reply:
      return on_reply(octets);
    case State::bound_type:
      return on_bound_type(octets);
    case State::bound_name:
      return expect(State::bound_rest, std::size_t{octet_of(octets, 0)} + 2);
    case State::bound_rest:
      return expect(State::connected, 0);  // where the proxy sends from is not told to us in a way to rely on
    case State::connected:
    case State::failed:
      return;
  }
}

void Socks5Client::on_method(std::string_view octets) {
  if (octet_of(octets, 0) != version) return fail_version(octets);
  const std::uint8_t method = octet_of(octets, 1);
  if (method == no_acceptable_method)
    return fail(login_.empty() ? "proxy wants a login and none is configured" : "proxy does not take a user name and password",
                true);
  if (method != (login_.empty() ? no_login : user_and_password))
    return fail("proxy chose a login method that was not offered (" + std::to_string(method) + ")", true);
  if (login_.empty()) {
    output_ += std::exchange(request_, {});
    return expect(State::reply, 2);
  }
  output_ += login_;
  expect(State::login, 2);
}

void Socks5Client::on_login(std::string_view octets) {
  // The version is not looked at: some proxies answer 5 here, and only the status says anything.
  const std::uint8_t status = octet_of(octets, 1);
  if (status != 0) return fail("proxy refused the user name or password (" + std::to_string(status) + ")", true);
  output_ += std::exchange(request_, {});
  expect(State::reply, 2);
}

void Socks5Client::on_reply(std::string_view octets) {
  if (octet_of(octets, 0) != version) return fail_version(octets);
  // A refusal is believed without its address: proxies are known to cut it off.
  const std::uint8_t code = octet_of(octets, 1);
  if (code == 0) return expect(State::bound_type, 2);
  const ReplyCode meaning = code <= reply_codes.size() ? reply_codes[code - 1u] : ReplyCode{"unknown reason", true};
  fail("proxy refused the connection: " + std::string(meaning.text) + " (" + std::to_string(code) + ")", meaning.proxy_fault);
}

void Socks5Client::on_bound_type(std::string_view octets) {
  const std::uint8_t type = octet_of(octets, 1);
  if (type == type_v4) return expect(State::bound_rest, 4 + 2);
  if (type == type_v6) return expect(State::bound_rest, 16 + 2);
  if (type == type_name) return expect(State::bound_name, 1);
  fail("proxy answered with an unknown address type (" + std::to_string(type) + ")", true);
}

void Socks5Client::expect(State state, std::size_t octets) {
  state_ = state;
  wanted_ = octets;
}

void Socks5Client::fail(std::string text, bool proxy_fault) {
  state_ = State::failed;
  failure_ = std::move(text);
  proxy_fault_ = proxy_fault;
}

void Socks5Client::fail_version(std::string_view octets) {
  fail("proxy does not speak SOCKS5: its answer begins with octet " + std::to_string(octet_of(octets, 0)), true);
}

}  // namespace egret::smtp
