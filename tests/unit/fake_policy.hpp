// What a ServerSession asks of the program, answered for tests.
#pragma once

#include "smtp/server_session.hpp"

namespace egret::smtp {

class FakePolicy : public ServerPolicy {
 public:
  std::optional<CommandError> admit(std::uint64_t, std::string_view) override { return refusal; }
  std::optional<CommandError> admit_recipient(std::string_view) override { return recipient_refusal; }
  Trace trace(const Transaction&, const SessionFacts& facts) override {
    return {"ID", "Received: from " + std::string(facts.helo) + (facts.tls ? " TLS" : "") +
                      (facts.user.empty() ? "" : " user=" + std::string(facts.user)) + "\r\n"};
  }
  std::string missing_fields(const Transaction&, bool date, bool message_id) override {
    return std::string(date ? "Date: D\r\n" : "") + (message_id ? "Message-ID: <M>\r\n" : "");
  }
  std::optional<ScramSecret> scram_secret(std::string_view user) override {
    if (user != "ada") return std::nullopt;
    return make_scram_secret("secret", "0123456789abcdef", 4096);
  }
  SaslServer::ScramInput scram_input() override { return {"servernonce", "key", 4096}; }
  ClientInfo impersonate(const ForwardedAttributes& attributes) override {
    ClientInfo out;
    out.address = attributes.addr.value_or("192.0.2.1");
    out.may_relay = out.address == "10.0.0.1";
    out.trusted = true;
    out.user = attributes.login.value_or("");
    return out;
  }

  std::optional<CommandError> refusal;
  std::optional<CommandError> recipient_refusal;
};

inline ClientInfo relaying_client() {
  return {"192.0.2.1", true, false, false, ""};
}

}  // namespace egret::smtp
