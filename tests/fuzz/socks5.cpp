// The SOCKS5 client against any proxy, beside a naive reader of the same octets (RFC 1928, RFC 1929).
#include "smtp/socks5.hpp"

#include <array>
#include <optional>

#include "tests/fuzz/fuzz.hpp"

namespace egret::fuzz {
namespace {

using namespace smtp;
using Action = Socks5Client::Action;

struct Outcome {
  Action action = Action::read;
  std::string output, left, failure;
  bool proxy_fault = false;

  bool operator==(const Outcome&) const = default;
};

Outcome run(std::string_view address, const std::optional<Socks5Login>& login, std::string_view stream, std::uint32_t seed) {
  Socks5Client client(address, 25, login);
  Outcome out;
  out.action = client.action();
  Reader reader;
  Pieces(seed).each(stream, [&](std::string_view piece) {
    if (out.action == Action::read) {
      reader.offer(piece, [&](std::string_view& in) { out.action = client.on_bytes(in); });
      require(out.action != Action::read || reader.pending().empty(), "what belongs to the dialog is consumed");
    } else {
      reader.offer(piece, [](std::string_view&) {});
    }
  });
  out.output = client.output();
  out.left = reader.pending();
  out.failure = client.failure();
  out.proxy_fault = client.proxy_fault();
  require((out.action == Action::failed) == !out.failure.empty() && one_line(out.failure), "a failure has a reason");
  return out;
}

/// Octets up to the end of the dialog when the stream leads to a tunnel.
std::optional<std::size_t> tunnel_at(std::string_view stream, bool login) {
  const auto octet = [&](std::size_t at) { return at < stream.size() ? static_cast<std::uint8_t>(stream[at]) : 256; };
  if (octet(0) != 5 || octet(1) != (login ? 2 : 0)) return std::nullopt;
  std::size_t at = 2;
  if (login && octet(at + 1) != 0) return std::nullopt;
  if (login) at += 2;
  if (octet(at) != 5 || octet(at + 1) != 0) return std::nullopt;
  const auto type = octet(at + 3);
  std::size_t address = 0;
  if (type == 1) address = 4;
  if (type == 4) address = 16;
  if (type == 3) address = 1 + octet(at + 4);
  if (address == 0) return std::nullopt;
  const std::size_t end = at + 4 + address + 2;
  if (end > stream.size()) return std::nullopt;
  return end;
}

}  // namespace
}  // namespace egret::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace egret;
  using fuzz::require;
  fuzz::Input input(data, size);
  const std::uint8_t options = input.octet();
  const std::uint32_t seed = input.octet();
  constexpr std::array<std::string_view, 4> addresses{"192.0.2.1", "2001:db8::1", "192.0.2.1", "mx.example.com"};
  const std::string_view address = addresses[options & 3];
  std::optional<smtp::Socks5Login> login;
  if (options & 4) login = smtp::Socks5Login{"user", std::string(options & 8 ? 255 : 6, 'p')};
  const std::string_view stream = input.rest();

  const auto whole = fuzz::run(address, login, stream, 0);
  require(whole == fuzz::run(address, login, stream, seed), "the same in every chunking");
  const auto end = fuzz::tunnel_at(stream, login.has_value());
  const bool sendable = address != "mx.example.com";
  require((whole.action == smtp::Socks5Client::Action::connected) == (sendable && end), "a tunnel stands when the proxy says so");
  if (sendable && end) require(whole.left == stream.substr(*end), "what follows the dialog belongs to the tunnel");
  const std::string greeting = login ? std::string("\5\1\2", 3) : std::string("\5\1\0", 3);
  require(sendable ? whole.output.starts_with(greeting) : whole.output.empty(), "the dialog begins with the greeting");
  require(whole.output.size() <= 3 + 513 + 22, "what is sent is bounded");
  return 0;
}
