#include "smtp/client_session.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "smtp/text.hpp"

namespace egret::smtp {
namespace {

constexpr std::array<std::pair<Phase, std::string_view>, 8> phases{{{Phase::connect, "connect"},
                                                                    {Phase::ehlo, "ehlo"},
                                                                    {Phase::tls, "tls"},
                                                                    {Phase::auth, "auth"},
                                                                    {Phase::mail, "mail"},
                                                                    {Phase::rcpt, "rcpt"},
                                                                    {Phase::data, "data"},
                                                                    {Phase::final_dot, "final"}}};

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
  return out;
}

/// Decided from what is sent, not from what the client once declared: a message in plain ASCII needs nothing.
bool needs_utf8(const Envelope& envelope) {
  return envelope.utf8_header || !envelope.sender.ascii() || !std::ranges::all_of(envelope.recipients, &Address::ascii);
}

/// Servers that are known to read on behind the final dot. RFC 2920 section 3.1 allows it to whoever offers PIPELINING,
/// but a server that drops what it did not expect would cost us the answer to the message before.
bool known_to_chain(const Reply& greeting) {
  const std::string text = lower(greeting.lines.empty() ? "" : greeting.lines.front());
  constexpr std::array<std::string_view, 5> names{"postfix", "exim", "sendmail", "smtp-sink", "egret"};
  return std::ranges::any_of(names, [&](std::string_view name) { return text.find(name) != std::string::npos; });
}

}  // namespace

std::string_view to_string(Phase phase) {
  for (const auto& [value, name] : phases)
    if (value == phase) return name;
  return "connect";
}

std::optional<Phase> parse_phase(std::string_view name) {
  for (const auto& [value, text] : phases)
    if (text == name) return value;
  return std::nullopt;
}

Capabilities parse_capabilities(const Reply& ehlo) {
  Capabilities out;
  for (std::size_t i = 1; i < ehlo.lines.size(); ++i) {
    std::string_view line = trim(ehlo.lines[i]);
    const std::size_t space = line.find_first_of(" =");
    const std::string key = upper(line.substr(0, space));
    std::string_view rest = space == std::string_view::npos ? std::string_view{} : line.substr(space + 1);
    if (key == "PIPELINING") out.pipelining = true;
    if (key == "STARTTLS") out.starttls = true;
    if (key == "8BITMIME") out.eight_bit_mime = true;
    if (key == "SMTPUTF8") out.smtputf8 = true;
    if (key == "DSN") out.dsn = true;
    if (key == "SIZE") {
      out.size = true;
      std::from_chars(rest.data(), rest.data() + rest.size(), out.max_size);
    }
    // "AUTH=LOGIN" is how old servers spelled it.
    while (key == "AUTH" && !rest.empty() && out.auth.size() < 32) {
      const std::size_t end = rest.find(' ');
      if (end != 0) out.auth.push_back(upper(rest.substr(0, end)));
      rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
    }
  }
  return out;
}

ClientSession::Action ClientSession::command(std::string line, State next, Phase phase) {
  output_ += line;
  output_ += "\r\n";
  state_ = next;
  phase_ = phase;
  return Action::read;
}

ClientSession::Action ClientSession::fail(Reply reply, Phase phase) {
  failure_ = {std::move(reply), phase};
  closing_ = true;
  return Action::failed;
}

ClientSession::Action ClientSession::ehlo() {
  return command("EHLO " + options_.helo, State::ehlo, Phase::ehlo);
}

ClientSession::Action ClientSession::tls_done() {
  options_.tls_active = true;
  capabilities_ = {};  // nothing said before the handshake counts (RFC 3207 section 4.2)
  return ehlo();
}

ClientSession::Action ClientSession::on_reply(Reply reply) {
  if (reply.code == 421) closing_ = true;
  switch (state_) {
    case State::greeting:
      if (reply.code != 220) return fail(std::move(reply), Phase::connect);
      takes_chains_ = known_to_chain(reply);
      return ehlo();
    case State::ehlo:
      if (reply.code == 250) {
        capabilities_ = parse_capabilities(reply);
        return after_ehlo();
      }
      // A server that does not know EHLO may still take HELO, unless more than HELO is needed.
      if ((reply.code == 500 || reply.code == 502) && options_.tls != TlsMode::required && !options_.credentials)
        return command("HELO " + options_.helo, State::helo, Phase::ehlo);
      return fail(std::move(reply), Phase::ehlo);
    case State::helo:
      if (reply.code != 250) return fail(std::move(reply), Phase::ehlo);
      capabilities_ = {};
      state_ = State::ready;
      return Action::ready;
    case State::starttls:
      if (reply.code == 220) {
        state_ = State::handshake;
        return Action::handshake;
      }
      if (options_.tls == TlsMode::required || reply.code == 421) return fail(std::move(reply), Phase::tls);
      return authenticate();
    case State::auth:
      return on_auth(reply);
    case State::auth_cancelled:
      return fail(make_reply(454, "4.7.0 (local) AUTH failed: " + sasl_->error()), Phase::auth);
    case State::mail:
      return on_mail(std::move(reply));
    case State::rcpt:
      return on_rcpt(std::move(reply));
    case State::data:
      return on_data(std::move(reply));
    case State::final_dot:
      return on_final_dot(std::move(reply));
    case State::rset:
      if (reply.code != 250) return fail(std::move(reply), Phase::mail);
      reset_due_ = false;
      return send(Envelope(envelope_));
    case State::handshake:
    case State::ready:
    case State::body:
      break;
  }
  // A reply that nothing asked for: usually "421 idle too long" while the connection rests. A stray 250 must not look
  // like another delivery.
  return fail(std::move(reply), phase_ == Phase::final_dot ? Phase::connect : phase_);
}

ClientSession::Action ClientSession::after_ehlo() {
  if (!options_.tls_active && options_.tls != TlsMode::none && capabilities_.starttls)
    return command("STARTTLS", State::starttls, Phase::tls);
  if (!options_.tls_active && options_.tls == TlsMode::required)
    return fail(make_reply(454, "4.7.0 (local) STARTTLS is required here but was not offered"), Phase::tls);
  return authenticate();
}

ClientSession::Action ClientSession::authenticate() {
  state_ = State::ready;
  if (!options_.credentials) return Action::ready;
  if (!options_.tls_active)
    return fail(make_reply(454, "4.7.0 (local) no password is sent over a connection without TLS"), Phase::auth);
  const Credentials& login = *options_.credentials;
  const std::string mechanism = choose_mechanism(capabilities_.auth, login.mechanisms);
  sasl_ = SaslClient::make(mechanism, {login.username, login.password}, options_.nonce);
  if (!sasl_) return fail(make_reply(454, "4.7.0 (local) no common AUTH mechanism"), Phase::auth);
  const auto initial = sasl_->initial();
  return command("AUTH " + mechanism + (initial ? " " + *initial : ""), State::auth, Phase::auth);
}

ClientSession::Action ClientSession::on_auth(const Reply& reply) {
  if (reply.code == 334) {
    const auto response = sasl_->step(reply.lines.empty() ? std::string_view{} : std::string_view(reply.lines.front()));
    if (response) return command(*response, State::auth, Phase::auth);
    return command("*", State::auth_cancelled, Phase::auth);
  }
  if (reply.code != 235) return fail(reply, Phase::auth);
  // SCRAM: a server that skips its own proof is somebody else.
  if (!sasl_->complete()) return fail(make_reply(454, "4.7.0 (local) the server did not prove who it is"), Phase::auth);
  sasl_.reset();
  state_ = State::ready;
  return Action::ready;
}

std::string ClientSession::mail_line(const Envelope& envelope) const {
  std::string line = "MAIL FROM:<" + envelope.sender.to_string() + ">";
  if (capabilities_.size) line += " SIZE=" + std::to_string(envelope.size);
  if (capabilities_.eight_bit_mime && envelope.eight_bit) line += " BODY=8BITMIME";
  if (capabilities_.smtputf8 && needs_utf8(envelope)) line += " SMTPUTF8";
  if (capabilities_.dsn) line += mail_parameters(envelope.dsn);
  // We are the one who logged in, not the author (RFC 4954 section 5).
  if (options_.credentials && !capabilities_.auth.empty()) line += " AUTH=<>";
  return line + "\r\n";
}

std::string ClientSession::rcpt_line(const Envelope& envelope, std::size_t recipient) const {
  std::string line = "RCPT TO:<" + envelope.recipients[recipient].to_string() + ">";
  if (capabilities_.dsn && recipient < envelope.recipient_dsn.size()) line += rcpt_parameters(envelope.recipient_dsn[recipient]);
  return line + "\r\n";
}

/// Everything up to DATA, for a peer that takes it in one group.
std::string ClientSession::group(const Envelope& envelope, const std::vector<std::size_t>& asked) const {
  std::string out = mail_line(envelope);
  for (const std::size_t i : asked) out += rcpt_line(envelope, i);
  return out + "DATA\r\n";
}

/// The recipients that this server can be told about (RFC 6531 section 3.6).
std::vector<std::size_t> ClientSession::sendable(const Envelope& envelope) const {
  const auto takes = [this](const Address& address) { return capabilities_.smtputf8 || address.ascii(); };
  std::vector<std::size_t> out;
  if (!takes(envelope.sender) || (envelope.utf8_header && !capabilities_.smtputf8)) return out;
  for (std::size_t i = 0; i < envelope.recipients.size(); ++i)
    if (takes(envelope.recipients[i])) out.push_back(i);
  return out;
}

ClientSession::Action ClientSession::send(const Envelope& envelope) {
  envelope_ = envelope;
  const Reply refusal = envelope.utf8_header
                            ? make_reply(554, "5.6.9 (local) the receiver does not take UTF-8 header fields")
                            : make_reply(553, "5.6.7 (local) the receiver does not take internationalised addresses");
  outcomes_.assign(envelope.recipients.size(), {refusal, Phase::mail});
  decided_.assign(envelope.recipients.size(), true);
  asked_ = sendable(envelope);
  for (const std::size_t i : asked_) {
    outcomes_[i] = {};
    decided_[i] = false;
  }
  next_recipient_ = accepted_ = 0;
  mail_failed_ = false;
  const bool on_its_way = std::exchange(chained_, false);
  if (asked_.empty()) return finish();
  if (reset_due_) return command("RSET", State::rset, Phase::mail);
  pipelined_ = capabilities_.pipelining;
  if (!on_its_way) output_ += pipelined_ ? group(envelope, asked_) : mail_line(envelope);
  state_ = State::mail;
  phase_ = Phase::mail;
  return Action::read;
}

std::string ClientSession::chain(const Envelope& next) {
  if (!capabilities_.pipelining || !takes_chains_ || state_ != State::body) return {};
  const auto asked = sendable(next);
  if (asked.empty()) return {};
  chained_ = true;
  return group(next, asked);
}

ClientSession::Action ClientSession::on_mail(Reply reply) {
  mail_failed_ = reply.code / 100 != 2;
  if (mail_failed_) {
    for (const std::size_t i : asked_) outcomes_[i] = {reply, Phase::mail};
    std::fill(decided_.begin(), decided_.end(), true);
    if (!pipelined_ || closing_) return finish();
  }
  state_ = State::rcpt;
  phase_ = Phase::rcpt;
  if (!pipelined_) return ask_recipient();
  return Action::read;
}

ClientSession::Action ClientSession::ask_recipient() {
  output_ += rcpt_line(envelope_, asked_[next_recipient_]);
  return Action::read;
}

ClientSession::Action ClientSession::on_rcpt(Reply reply) {
  const std::size_t i = asked_[next_recipient_++];
  if (!decided_[i]) {
    decided_[i] = reply.code / 100 != 2;
    accepted_ += !decided_[i];
    outcomes_[i] = {std::move(reply), Phase::rcpt};
  }
  if (closing_) {
    // 421: what was not answered yet shares its fate.
    for (std::size_t k = 0; k < outcomes_.size(); ++k)
      if (!decided_[k]) outcomes_[k] = outcomes_[i];
    return finish();
  }
  if (next_recipient_ < asked_.size()) {
    if (pipelined_) return Action::read;
    return ask_recipient();
  }
  state_ = State::data;
  phase_ = Phase::data;
  if (pipelined_) return Action::read;
  if (accepted_ == 0) {
    reset_due_ = true;
    return finish();
  }
  return command("DATA", State::data, Phase::data);
}

ClientSession::Action ClientSession::on_data(Reply reply) {
  if (reply.code == 354) {
    state_ = State::body;
    if (accepted_ > 0) return Action::body;
    // Every recipient was refused, yet the pipelined DATA was taken: an empty message that nobody receives ends it
    // (RFC 2920 section 3.1).
    output_ += ".\r\n";
    state_ = State::final_dot;
    phase_ = Phase::final_dot;
    return Action::read;
  }
  for (std::size_t i = 0; i < outcomes_.size(); ++i)
    if (!decided_[i]) outcomes_[i] = {reply, Phase::data};
  reset_due_ = true;
  return finish();
}

ClientSession::Action ClientSession::body_sent() {
  state_ = State::final_dot;
  phase_ = Phase::final_dot;
  return Action::read;
}

ClientSession::Action ClientSession::on_final_dot(Reply reply) {
  for (std::size_t i = 0; i < outcomes_.size(); ++i)
    if (!decided_[i]) outcomes_[i] = {reply, Phase::final_dot};
  return finish();
}

ClientSession::Action ClientSession::finish() {
  state_ = State::ready;
  // A refused MAIL leaves nothing to reset, but not every server agrees; RSET costs one round trip on a rare path.
  if (mail_failed_) reset_due_ = true;
  return Action::done;
}

void ClientSession::quit() {
  output_ += "QUIT\r\n";
}

}  // namespace egret::smtp
