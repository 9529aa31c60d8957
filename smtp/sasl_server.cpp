#include "smtp/sasl_server.hpp"

#include "smtp/text.hpp"

namespace egret::smtp {

bool valid_username(std::string_view name) {
  return !name.empty() && name.size() <= 255 && printable(name) == name;
}

std::optional<SaslServer> SaslServer::make(std::string_view mechanism, ScramInput scram) {
  if (iequals(mechanism, "PLAIN")) return SaslServer(Mechanism::plain, std::move(scram));
  if (iequals(mechanism, "LOGIN")) return SaslServer(Mechanism::login, std::move(scram));
  if (iequals(mechanism, "SCRAM-SHA-256")) return SaslServer(Mechanism::scram_sha_256, std::move(scram));
  return std::nullopt;
}

SaslAction SaslServer::step(std::string_view line) {
  if (line.size() > max_line) return end(SaslAction::Kind::malformed, 500, "5.5.6 authentication line too long");
  if (state_ == State::start) {
    SaslAction prompt = begin();
    if (line.empty()) return prompt;
    // Only here may an empty response be written as "=".
    if (line == "=") return on_response({});
  } else if (line == "*") {
    return end(SaslAction::Kind::cancelled, 501, "5.7.0 authentication cancelled");
  }
  const auto response = base64_decode(line);
  if (!response) return end(SaslAction::Kind::malformed, 501, "5.5.2 not base64");
  return on_response(*response);
}

SaslAction SaslServer::begin() {
  switch (mechanism_) {
    case Mechanism::plain:
      return ask({}, State::plain);
    case Mechanism::login:
      return ask("Username:", State::login_user);
    case Mechanism::scram_sha_256:
      return ask({}, State::scram_first);
  }
  return malformed();
}

SaslAction SaslServer::on_response(std::string_view response) {
  switch (state_) {
    case State::plain:
      return on_plain(response);
    case State::login_user:
      return on_login_user(response);
    case State::login_password:
      return on_password(response);
    case State::scram_first:
      return on_scram_first(response);
    case State::scram_final:
      return on_scram_final(response);
    case State::scram_end:
      return on_scram_end(response);
    case State::start:
    case State::scram_secret:
    case State::done:
      break;
  }
  return malformed();
}

// [authzid] NUL authcid NUL passwd
SaslAction SaslServer::on_plain(std::string_view response) {
  const std::size_t first = response.find('\0');
  const std::size_t second = first == std::string_view::npos ? first : response.find('\0', first + 1);
  if (second == std::string_view::npos) return malformed();
  const std::string_view authorization = response.substr(0, first);
  const std::string_view name = response.substr(first + 1, second - first - 1);
  if (!valid_username(name)) return malformed();
  username_ = name;
  // Nobody here may act for somebody else; to ignore the wish instead would let him believe that he does.
  if (!authorization.empty() && authorization != name) return refused();
  return on_password(response.substr(second + 1));
}

SaslAction SaslServer::on_login_user(std::string_view response) {
  if (!valid_username(response)) return malformed();
  username_ = response;
  return ask("Password:", State::login_password);
}

SaslAction SaslServer::on_password(std::string_view password) {
  // crypt(3) would read a password up to its NUL only, and so accept what follows it unseen.
  if (password.size() > max_password || password.find('\0') != std::string_view::npos) return malformed();
  if (password.empty()) return refused();
  password_ = password;
  return end(SaslAction::Kind::verify_password);
}

// gs2-header client-first-message-bare: "n,a=authzid,n=user,r=nonce"
SaslAction SaslServer::on_scram_first(std::string_view message) {
  // "y" says that the client would bind the channel but saw no -PLUS offered, which is true (RFC 5802 section 6).
  if (message.starts_with("p=")) return end(SaslAction::Kind::refused, 535, "5.7.8 channel binding is not offered");
  if (!message.starts_with("n,") && !message.starts_with("y,")) return malformed();
  const std::size_t comma = message.find(',', 2);
  if (comma == std::string_view::npos) return malformed();
  gs2_header_ = message.substr(0, comma + 1);
  std::string_view rest = message.substr(comma + 1);
  client_first_bare_ = rest;
  // A mandatory extension ("m=") stands before the name, so that it is refused here.
  const auto encoded = take_scram_attribute(rest, 'n');
  const auto nonce = take_scram_attribute(rest, 'r');
  const auto name = encoded ? decode_saslname(*encoded) : std::nullopt;
  if (!name || !valid_username(*name) || !nonce || !valid_scram_nonce(*nonce)) return malformed();
  username_ = *name;
  nonce_ = std::string(*nonce) + scram_.nonce;

  std::string_view authorization = std::string_view(gs2_header_).substr(2);
  if (authorization != ",") {
    const auto wanted = take_scram_attribute(authorization, 'a');
    const auto decoded = wanted ? decode_saslname(*wanted) : std::nullopt;
    if (!decoded || decoded->empty()) return malformed();
    if (*decoded != username_) return refused();
  }
  state_ = State::scram_secret;
  return {SaslAction::Kind::lookup_secret, 0, {}};
}

SaslAction SaslServer::with_secret(const std::optional<ScramSecret>& secret) {
  if (state_ != State::scram_secret) return malformed();
  // Made for known users too: the same work in the same time.
  secret_ = fake_scram_secret(scram_.fake_key, username_, scram_.fake_iterations);
  known_ = secret.has_value();
  if (known_) secret_ = *secret;
  server_first_ = "r=" + nonce_ + ",s=" + base64_encode(secret_.salt) + ",i=" + std::to_string(secret_.iterations);
  return ask(server_first_, State::scram_final);
}

// channel-binding "," nonce ["," extensions] "," proof
SaslAction SaslServer::on_scram_final(std::string_view message) {
  const std::size_t mark = message.rfind(",p=");
  if (mark == std::string_view::npos) return malformed();
  std::string_view rest = message.substr(0, mark);
  const auto proof = base64_decode(message.substr(mark + 3));
  const std::string auth_message = client_first_bare_ + ',' + server_first_ + ',' + std::string(rest);
  const auto binding = take_scram_attribute(rest, 'c');
  const auto nonce = take_scram_attribute(rest, 'r');
  if (!proof || !binding || !nonce) return malformed();
  // The first message repeated under the proof: somebody who changed it on its way is found here.
  if (*binding != base64_encode(gs2_header_) || *nonce != nonce_) return refused();
  const bool proved = scram_proof_matches(secret_, *proof, auth_message);
  if (!proved || !known_) return refused();
  return ask("v=" + base64_encode(scram_server_signature(secret_.server_key, auth_message)), State::scram_end);
}

// SMTP has no place for data in 235, so the signature went out as a challenge with nothing left to say to it (RFC 4954 section
// 4).
SaslAction SaslServer::on_scram_end(std::string_view message) {
  if (!message.empty()) return malformed();
  return end(SaslAction::Kind::authenticated);
}

SaslAction SaslServer::ask(std::string_view challenge, State next) {
  state_ = next;
  return {SaslAction::Kind::challenge, 334, base64_encode(challenge)};
}

SaslAction SaslServer::end(SaslAction::Kind kind, int code, std::string_view text) {
  state_ = State::done;
  return {kind, code, std::string(text)};
}

SaslAction SaslServer::malformed() {
  return end(SaslAction::Kind::malformed, 501, "5.5.2 malformed authentication response");
}

// One text for every reason, so that users cannot be told from strangers.
SaslAction SaslServer::refused() {
  return end(SaslAction::Kind::refused, 535, "5.7.8 authentication credentials invalid");
}

}  // namespace egret::smtp
