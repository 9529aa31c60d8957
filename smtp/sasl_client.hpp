// The client's side of one AUTH exchange (RFC 4954): PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195) and SCRAM-SHA-256
// (RFC 7677). Decides what to answer, and whether the server's 235 may be believed.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace egret::smtp {

/// The first of `preferred` that is among `offered` (any case), as `preferred` spells it; "" if none is.
std::string choose_mechanism(const std::vector<std::string>& offered, const std::vector<std::string>& preferred);

class SaslClient {
 public:
  /// What a server may be asked for, best first. PLAIN and LOGIN hand out the password: only over verified TLS.
  static constexpr std::array<std::string_view, 4> mechanisms{"SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5"};
  /// Octets of a challenge without "334 " and CRLF.
  static constexpr std::size_t max_challenge = 12288;
  /// Fewer make the password cheap to guess for whoever pretends to be the server; more keep us busy for half a second.
  static constexpr int min_iterations = 4096;
  static constexpr int max_iterations = 600'000;

  struct Credentials {
    std::string username;
    std::string password;
  };

  /// nullopt for a mechanism that is not in `mechanisms` (any case). `nonce` is for SCRAM: fresh for each exchange,
  /// unpredictable, printable ASCII without ','.
  static std::optional<SaslClient> make(std::string_view mechanism, Credentials credentials, std::string nonce);

  /// What follows the mechanism in the AUTH command (base64, never empty), to be called once, first. nullopt: send AUTH
  /// with the mechanism alone, because it begins with a challenge or because the command would not fit into the 512
  /// octets of a line (RFC 4954 section 4); step() then answers the first challenge.
  std::optional<std::string> initial();

  /// The line (base64, may be empty) that answers `challenge`, which is the text after "334 ". nullopt: the exchange
  /// has failed, error() says why; send "*". With SCRAM one call hashes for up to half a second at max_iterations.
  std::optional<std::string> step(std::string_view challenge);

  /// Whether a 235 now is the end of this exchange. With SCRAM only after the server has proved that it knows the
  /// password too: a 235 before that comes from somebody else.
  bool complete() const { return state_ == State::complete; }
  /// Why step() gave nullopt; fit for logs, never shows the password.
  const std::string& error() const { return error_; }

 private:
  enum class Mechanism { plain, login, cram_md5, scram_sha_256 };
  enum class State { start, login_password, scram_first, scram_final, complete, failed };

  SaslClient(Mechanism mechanism, Credentials credentials, std::string nonce)
      : mechanism_(mechanism), credentials_(std::move(credentials)), nonce_(std::move(nonce)) {}

  bool presentable();
  std::optional<std::string> begin(std::string_view challenge);
  std::optional<std::string> cram_md5(std::string_view challenge);
  std::optional<std::string> first_message();
  std::optional<std::string> scram_proof(std::string_view challenge);
  std::optional<std::string> scram_verify(std::string_view challenge);
  std::optional<std::string> say(std::string_view text, State next);
  std::optional<std::string> fail(std::string_view why);

  Mechanism mechanism_;
  State state_ = State::start;
  Credentials credentials_;
  std::string nonce_;
  std::string client_first_bare_;
  std::string server_signature_;  // which the server has yet to show
  std::string error_;
};

}  // namespace egret::smtp
