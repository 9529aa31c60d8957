// The server's side of one AUTH exchange (RFC 4954): PLAIN (RFC 4616), LOGIN and SCRAM-SHA-256 (RFC 7677). Decides what
// is well formed and what to ask next; passwords are hashed and users are looked up by whoever drives it.
//
// CRAM-MD5 is not here on purpose: it would need passwords in a form that can be read back.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "smtp/scram.hpp"

namespace egret::smtp {

/// 1 to 255 octets of UTF-8 without control characters.
bool valid_username(std::string_view name);

struct SaslAction {
  enum class Kind {
    challenge,        ///< send "334 " and `text` (base64, may be empty); give the answer to step()
    verify_password,  ///< the exchange is over: username() and take_password() decide between 235 and 535
    lookup_secret,    ///< find the secret of username() and give it to with_secret()
    authenticated,    ///< 235: username() has proved to know its password
    refused,          ///< 535: wrong credentials, or ones that can never be right
    malformed,        ///< 501, or 500 for a line that is too long
    cancelled,        ///< 501: the client sent "*"
  };
  Kind kind;
  int code = 0;      ///< of the reply, for challenge, refused, malformed and cancelled
  std::string text;  ///< of the reply: for refusals an enhanced status code and a sentence
};

class SaslServer {
 public:
  /// What EHLO may offer. All three need TLS or a trusted network: PLAIN and LOGIN show the password, and SCRAM
  /// without channel binding does not notice somebody in the middle.
  static constexpr std::array<std::string_view, 3> mechanisms{"SCRAM-SHA-256", "PLAIN", "LOGIN"};
  /// Octets of one base64 line without CRLF (RFC 4954 section 4).
  static constexpr std::size_t max_line = 12288;
  static constexpr std::size_t max_password = 1024;

  /// What SCRAM needs from outside.
  struct ScramInput {
    std::string nonce;        ///< fresh for each exchange, unpredictable, printable ASCII without ','
    std::string fake_key;     ///< secret of this installation, the same for every exchange
    int fake_iterations = 0;  ///< as most users' secrets have it
  };

  /// nullopt for a mechanism that is not in `mechanisms` (any case).
  static std::optional<SaslServer> make(std::string_view mechanism, ScramInput scram);

  /// First call: what follows the mechanism in the AUTH command ("" if nothing does, "=" for an empty response).
  /// Later calls: the line that answers the challenge. After the last action, or while a secret is awaited, every
  /// line is malformed.
  SaslAction step(std::string_view line);
  /// Answers lookup_secret; nullopt for users that do not exist or have no SCRAM secret, who get a challenge all the same.
  SaslAction with_secret(const std::optional<ScramSecret>& secret);

  /// Proved only after `authenticated`, claimed before it. Never to be shown in a log for a failed PLAIN or LOGIN
  /// without need: people type passwords there.
  const std::string& username() const { return username_; }
  /// Moves the password out, so that it lives no longer than its verification.
  std::string take_password() { return std::move(password_); }

 private:
  enum class Mechanism { plain, login, scram_sha_256 };
  enum class State { start, plain, login_user, login_password, scram_first, scram_secret, scram_final, scram_end, done };

  SaslServer(Mechanism mechanism, ScramInput scram) : mechanism_(mechanism), scram_(std::move(scram)) {}

  SaslAction begin();
  SaslAction on_response(std::string_view response);
  SaslAction on_plain(std::string_view response);
  SaslAction on_login_user(std::string_view response);
  SaslAction on_password(std::string_view password);
  SaslAction on_scram_first(std::string_view message);
  SaslAction on_scram_final(std::string_view message);
  SaslAction on_scram_end(std::string_view message);
  SaslAction ask(std::string_view challenge, State next);
  SaslAction end(SaslAction::Kind kind, int code = 0, std::string_view text = {});
  SaslAction malformed();
  SaslAction refused();

  Mechanism mechanism_;
  State state_ = State::start;
  std::string username_;
  std::string password_;
  ScramInput scram_;
  std::string gs2_header_;
  std::string client_first_bare_;
  std::string server_first_;
  std::string nonce_;  // both halves
  ScramSecret secret_;
  bool known_ = false;  // secret_ is a user's
};

}  // namespace egret::smtp
