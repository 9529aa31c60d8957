// AUTH exchanges: a server and a client that face anybody, and both facing each other.
#include <optional>

#include "smtp/sasl_client.hpp"
#include "smtp/sasl_server.hpp"
#include "smtp/text.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace egret::fuzz {
namespace {

using namespace smtp;
using Kind = SaslAction::Kind;

const ScramSecret& secret() {
  static const ScramSecret made = make_scram_secret("secret", "0123456789abcdef", 4096);
  return made;
}

bool over(Kind kind) {
  return kind != Kind::challenge && kind != Kind::lookup_secret;
}

void check(const SaslAction& action) {
  switch (action.kind) {
    case Kind::challenge:
      require(action.code == 334 && base64_decode(action.text).has_value(), "a challenge is base64");
      break;
    case Kind::refused:
      require(action.code == 535, "a refusal is 535");
      break;
    case Kind::malformed:
    case Kind::cancelled:
      require(action.code == 500 || action.code == 501, "a malformed exchange is 500 or 501");
      break;
    case Kind::verify_password:
    case Kind::lookup_secret:
    case Kind::authenticated:
      require(action.text.empty(), "what the driver does has no text");
      break;
  }
  require(one_line(action.text) && valid_utf8(action.text) && action.text.size() <= 2000, "a reply fits its line");
}

/// A server with its driver.
class Server {
 public:
  explicit Server(std::string_view mechanism)
      : scram_(iequals(mechanism, "SCRAM-SHA-256")), sasl_(SaslServer::make(mechanism, {"servernonce", "key", 4096}).value()) {}

  SaslAction step(std::string_view line) {
    SaslAction action = sasl_.step(line);
    check(action);
    if (action.kind == Kind::lookup_secret) {
      require(scram_ && valid_username(sasl_.username()), "a secret is looked up for a name");
      action = sasl_.with_secret(sasl_.username() == "ada" ? std::optional(secret()) : std::nullopt);
      check(action);
      require(action.kind == Kind::challenge, "strangers are asked as users are");
    }
    if (action.kind == Kind::authenticated) require(scram_ && sasl_.username() == "ada", "a proof is of somebody who is known");
    if (action.kind == Kind::verify_password) {
      require(!scram_ && valid_username(sasl_.username()), "a password has a user");
      password_ = sasl_.take_password();
      require(!password_.empty() && password_.size() <= SaslServer::max_password && password_.find('\0') == std::string::npos,
              "a password is bounded and has no NUL");
    }
    return action;
  }
  const std::string& username() const { return sasl_.username(); }
  const std::string& password() const { return password_; }

 private:
  bool scram_;
  SaslServer sasl_;
  std::string password_;
};

constexpr std::string_view server_mechanism(std::uint8_t choice) {
  return SaslServer::mechanisms[choice % SaslServer::mechanisms.size()];
}

void face_client(Input& input) {
  Server server(server_mechanism(input.octet()));
  bool ended = false;
  for (int lines = 0; lines < 6 && !input.empty(); ++lines) {
    const SaslAction action = server.step(input.until('\n'));
    if (ended) require(action.kind == Kind::malformed || action.kind == Kind::cancelled, "nothing follows the end");
    ended = ended || over(action.kind);
  }
}

void face_server(Input& input) {
  auto client =
      SaslClient::make(SaslClient::mechanisms[input.octet() % SaslClient::mechanisms.size()], {"ada", "secret"}, "clientnonce");
  const auto initial = client->initial();
  require(!initial || (!initial->empty() && base64_decode(*initial)), "an initial response is base64");
  bool failed = false;
  for (int lines = 0; lines < 6 && !input.empty(); ++lines) {
    const auto answer = client->step(input.until('\n'));
    require(!answer || (!failed && base64_decode(*answer)), "an answer is base64, and none follows a failure");
    failed = failed || !answer;
    require(failed == !client->error().empty() && !(failed && client->complete()), "a failure is said and final");
    require(one_line(client->error()) && client->error().find("secret") == std::string::npos, "errors are clean");
  }
}

/// Both sides: whoever knows the password gets in, nobody else does, and both agree about it.
void face_each_other(Input& input) {
  const std::uint8_t choice = input.octet();
  const SaslClient::Credentials login{std::string(input.until('\n')), std::string(input.until('\n'))};
  const auto mechanism = server_mechanism(choice);
  auto client = SaslClient::make(mechanism, login, "clientnonce");
  Server server(mechanism);
  SaslAction action = server.step(choice & 64 ? std::string() : client->initial().value_or(""));
  for (int steps = 0; steps < 4 && action.kind == Kind::challenge; ++steps) {
    const auto answer = client->step(action.text);
    action = server.step(answer.value_or("*"));
  }
  require(over(action.kind), "an exchange ends");
  const bool known = login.username == "ada" && login.password == "secret";
  if (action.kind == Kind::verify_password)
    require(server.username() == login.username && server.password() == login.password, "the server reads what the client wrote");
  if (action.kind == Kind::authenticated) require(known && client->complete(), "both know the password");
  if (known) require(action.kind == Kind::verify_password || action.kind == Kind::authenticated, "a user gets in");
}

}  // namespace
}  // namespace egret::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace egret::fuzz;
  Input input(data, size);
  switch (input.octet() % 3) {
    case 0:
      face_client(input);
      break;
    case 1:
      face_server(input);
      break;
    default:
      face_each_other(input);
      break;
  }
  return 0;
}
