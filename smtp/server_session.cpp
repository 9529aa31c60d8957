#include "smtp/server_session.hpp"

#include "smtp/text.hpp"

namespace egret::smtp {
namespace {

constexpr std::size_t max_command_line = 2048;

/// EHLO and HELO names are remote text that ends up in the trace header: hosts and address literals only.
bool valid_helo(std::string_view name) {
  if (name.ends_with('.')) name.remove_suffix(1);  // the root's dot, which some clients write
  return valid_domain(name, false) || valid_address_literal(name);
}

}  // namespace

ServerSession::ServerSession(const ServerOptions& options, ServerPolicy& policy, ClientInfo client)
    : options_(&options), policy_(&policy), client_(std::move(client)), max_errors_(options.max_errors) {}

void ServerSession::greet() {
  reply(220, options_->hostname + " ESMTP");
}

/// What the driver must do before more input can be looked at.
std::optional<ServerSession::Action> ServerSession::pending() const {
  switch (state_) {
    case State::closed:
      return Action::close;
    case State::commit:
      return Action::commit;
    case State::handshake:
      return Action::handshake;
    case State::verifying:
      return sasl_failed_ ? Action::auth_failed : Action::verify_password;
    case State::start:
    case State::ready:
    case State::mail:
    case State::rcpt:
    case State::data:
    case State::auth:
      break;
  }
  return std::nullopt;
}

ServerSession::Action ServerSession::process(std::string_view& in) {
  while (true) {
    if (const auto action = pending()) return *action;
    if (state_ == State::data) {
      if (!scanner_->scan(in, transaction_.body)) return Action::read;
      data_done();
      continue;
    }
    const auto line = take_line(in, state_ == State::auth ? SaslServer::max_line : max_command_line);
    if (state_ == State::closed) continue;
    if (!line) return Action::read;
    if (state_ == State::auth)
      on_sasl(sasl_->step(*line));
    else
      command(*line, !in.empty());
  }
}

/// The next line without its line end, or nothing while it is incomplete. What cannot be a line closes the session.
std::optional<std::string_view> ServerSession::take_line(std::string_view& in, std::size_t limit) {
  const std::size_t end = in.find('\n');
  if (end == std::string_view::npos && in.size() <= limit) return std::nullopt;
  if (end == std::string_view::npos || end > limit) {
    const bool auth = state_ == State::auth;  // RFC 4954 section 4 has a code of its own
    close_with(500, std::string(auth ? "5.5.6" : "5.5.2") + " line too long: the limit is " + std::to_string(limit) + " octets");
    return std::nullopt;
  }
  std::string_view line = in.substr(0, end);
  in.remove_prefix(end + 1);
  const bool crlf = !line.empty() && line.back() == '\r';
  if (crlf) line.remove_suffix(1);
  // A bare line end or NUL in a command is either a broken client or an attempt to desynchronise: no second guess.
  if (!crlf || line.find('\r') != std::string_view::npos || line.find('\0') != std::string_view::npos) {
    close_with(501, "5.5.2 bare CR, LF or NUL in a command: lines end in CR LF");
    return std::nullopt;
  }
  return line;
}

void ServerSession::command(std::string_view line, bool more_input) {
  const Command parsed = parse_command(line);
  switch (parsed.verb) {
    case Verb::ehlo:
      return ehlo(parsed.argument, true);
    case Verb::helo:
      return ehlo(parsed.argument, false);
    case Verb::mail:
      return mail(parsed.argument);
    case Verb::rcpt:
      return rcpt(parsed.argument);
    case Verb::data:
      return parsed.argument.empty() ? data(more_input) : refuse(501, "5.5.4 DATA takes no argument");
    case Verb::rset:
      if (!parsed.argument.empty()) return refuse(501, "5.5.4 RSET takes no argument");
      reset();
      return idle_command(250, "2.0.0 ok");
    case Verb::noop:
      return idle_command(250, "2.0.0 ok");
    case Verb::help:
      return idle_command(214, "2.0.0 this is a mail relay: RFC 5321 commands");
    case Verb::vrfy:
      return idle_command(252, "2.5.2 cannot verify, will take mail for relaying");
    case Verb::quit:
      return close_with(221, "2.0.0 bye");
    case Verb::starttls:
      return starttls(parsed.argument, more_input);
    case Verb::auth:
      return auth(parsed.argument, more_input);
    case Verb::xclient:
      return xclient(parsed.argument, more_input);
    case Verb::xforward:
      return xforward(parsed.argument);
    case Verb::expn:
    case Verb::bdat:
      return refuse(502, "5.5.1 not offered here");
    case Verb::unknown:
      return refuse(500, "5.5.1 command not recognised");
  }
}

// ---- the session -------------------------------------------------------------------------------------------------

void ServerSession::ehlo(std::string_view name, bool esmtp) {
  name = trim(name);
  if (!valid_helo(name)) return refuse(501, "5.5.4 a host name or an address literal must follow");
  reset();
  state_ = State::ready;
  esmtp_ = esmtp;
  helo_ = name;
  if (!esmtp) return idle_command(250, options_->hostname);
  idle_command(250, options_->hostname + " greets " + helo_ + keywords());
}

/// The EHLO keywords (design: "Server"), each behind a line end.
std::string ServerSession::keywords() const {
  std::string out =
      "\nPIPELINING\nSIZE " + std::to_string(options_->data.max_size) + "\n8BITMIME\nSMTPUTF8\nDSN\nENHANCEDSTATUSCODES";
  if (options_->starttls && !client_.tls) out += "\nSTARTTLS";
  if (may_auth()) out += options_->scram ? "\nAUTH SCRAM-SHA-256 PLAIN LOGIN" : "\nAUTH PLAIN LOGIN";
  if (client_.trusted) out += "\nXCLIENT " + std::string(xclient_attributes) + "\nXFORWARD " + std::string(xforward_attributes);
  return out;
}

/// STARTTLS (RFC 3207). Whatever was sent behind it in clear would be taken for said under TLS (CVE-2011-0411).
void ServerSession::starttls(std::string_view argument, bool more_input) {
  if (!options_->starttls) return refuse(502, "5.5.1 STARTTLS is not offered here");
  if (client_.tls) return refuse(503, "5.5.1 TLS is active already");
  if (!argument.empty()) return refuse(501, "5.5.4 STARTTLS takes no argument");
  if (more_input) return close_with(503, "5.5.0 data behind STARTTLS");
  if (!idle()) return refuse(503, "5.5.1 a transaction is open: RSET first");
  reply(220, "2.0.0 ready for TLS");
  state_ = State::handshake;
}

void ServerSession::tls_started() {
  reset();
  helo_.clear();
  client_.user.clear();
  client_.tls = true;
  state_ = State::start;
}

/// XCLIENT: the peer speaks for somebody else; the dialog starts anew with the greeting.
void ServerSession::xclient(std::string_view argument, bool more_input) {
  if (!client_.trusted) return refuse(550, "5.7.0 XCLIENT is not believed from " + client_.address);
  if (!idle()) return refuse(503, "5.5.1 a transaction is open: RSET first");
  if (more_input) return close_with(503, "5.5.0 data behind XCLIENT");
  ForwardedAttributes attributes;
  if (const auto error = parse_forwarded(ForwardCommand::xclient, argument, attributes)) return refuse(501, *error);
  const bool tls = client_.tls;
  client_ = policy_->impersonate(attributes);
  client_.tls = tls;
  reset();
  helo_ = attributes.helo.value_or("");
  if (!valid_helo(helo_)) helo_.clear();
  state_ = State::start;
  greet();
}

void ServerSession::xforward(std::string_view argument) {
  if (!client_.trusted) return refuse(550, "5.7.0 XFORWARD is not believed from " + client_.address);
  if (state_ != State::ready) return refuse(503, "5.5.1 XFORWARD stands between EHLO and MAIL");
  if (const auto error = parse_forwarded(ForwardCommand::xforward, argument, forwarded_)) return refuse(501, *error);
  reply(250, "2.0.0 ok");
}

// ---- AUTH (RFC 4954) ---------------------------------------------------------------------------------------------

void ServerSession::auth(std::string_view argument, bool more_input) {
  if (options_->auth == AuthRule::none) return refuse(502, "5.5.1 AUTH is not offered here");
  if (state_ == State::start || !esmtp_) return refuse(503, "5.5.1 EHLO first");
  if (state_ != State::ready) return refuse(503, "5.5.1 AUTH stands before MAIL");
  if (!may_auth()) return refuse(538, "5.7.11 AUTH needs TLS: STARTTLS first");
  if (!client_.user.empty()) return refuse(503, "5.5.1 authenticated already");
  if (more_input) return close_with(503, "5.5.0 data behind AUTH");
  const std::size_t space = argument.find(' ');
  const std::string_view mechanism = argument.substr(0, space);
  sasl_ = SaslServer::make(mechanism, policy_->scram_input());
  if (sasl_ && iequals(mechanism, "SCRAM-SHA-256") && !options_->scram) sasl_.reset();
  if (!sasl_) return refuse(504, "5.5.4 AUTH mechanism not offered");
  sasl_failed_ = false;
  state_ = State::auth;
  on_sasl(sasl_->step(space == std::string_view::npos ? std::string_view{} : trim(argument.substr(space))));
}

void ServerSession::on_sasl(SaslAction action) {
  switch (action.kind) {
    case SaslAction::Kind::challenge:
      return reply(334, action.text);
    case SaslAction::Kind::lookup_secret:
      return on_sasl(sasl_->with_secret(policy_->scram_secret(sasl_->username())));
    case SaslAction::Kind::refused:
      sasl_failed_ = true;
      [[fallthrough]];
    case SaslAction::Kind::verify_password:
      state_ = State::verifying;
      return;
    case SaslAction::Kind::authenticated:
      return auth_result(AuthResult::accepted);
    case SaslAction::Kind::malformed:
    case SaslAction::Kind::cancelled:
      return end_auth(action.code, action.text, true);
  }
}

void ServerSession::auth_result(AuthResult result) {
  switch (result) {
    case AuthResult::accepted:
      client_.user = sasl_->username();
      return end_auth(235, "2.7.0 authenticated", false);
    case AuthResult::refused:
      return end_auth(535, "5.7.8 user name or password is wrong", true);
    case AuthResult::unavailable:
      return end_auth(454, "4.7.0 authentication is not possible now, try again later", false);
    case AuthResult::too_many:
      sasl_.reset();
      return close_with(421, "4.7.0 too many failed log-ins from " + client_.address);
  }
}

/// Every way out of an exchange: nothing of it stays.
void ServerSession::end_auth(int code, std::string_view text, bool error) {
  sasl_.reset();
  sasl_failed_ = false;
  state_ = State::ready;
  if (error) return refuse(code, text);
  reply(code, text);
}

// ---- the transaction ---------------------------------------------------------------------------------------------

void ServerSession::mail(std::string_view argument) {
  if (state_ == State::start) return refuse(503, "5.5.1 EHLO first");
  if (state_ != State::ready) return refuse(503, "5.5.1 a transaction is open: RSET first");
  if (options_->auth == AuthRule::required && client_.user.empty())
    return refuse(530, may_auth() ? "5.7.0 authentication is required" : "5.7.0 authentication is required: STARTTLS first");
  MailCommand parsed;
  if (const auto error = parse_mail(argument, parsed)) return refuse(error->code, error->text);
  if (parsed.size.value_or(0) > options_->data.max_size)
    return refuse(552, "5.3.4 message too large: the limit is " + std::to_string(options_->data.max_size) + " octets");
  if (const auto refusal = policy_->admit(parsed.size.value_or(0), client_.user)) {
    reply(refusal->code, refusal->text);
    if (refusal->code == 421) state_ = State::closed;
    return;
  }
  transaction_.mail = std::move(parsed);
  state_ = State::mail;
  reply(250, "2.1.0 sender ok");
}

void ServerSession::rcpt(std::string_view argument) {
  if (state_ != State::mail && state_ != State::rcpt) return refuse(503, "5.5.1 MAIL first");
  if (!client_.may_relay && client_.user.empty())
    return refuse(550, "5.7.1 relaying denied for " + client_.address + ": not in allow and not authenticated");
  RcptCommand parsed;
  if (const auto error = parse_rcpt(argument, transaction_.mail.smtputf8, parsed)) return refuse(error->code, error->text);
  if (transaction_.recipients.size() >= options_->max_recipients)
    return reply(452, "4.5.3 too many recipients: the limit is " + std::to_string(options_->max_recipients));
  if (const auto refusal = policy_->admit_recipient(client_.user)) return reply(refusal->code, refusal->text);
  transaction_.recipients.push_back(std::move(parsed.forward_path));
  transaction_.recipient_dsn.push_back(std::move(parsed.dsn));
  state_ = State::rcpt;
  reply(250, "2.1.5 recipient ok");
}

void ServerSession::data(bool more_input) {
  if (state_ == State::mail) return refuse(554, "5.5.1 no valid recipients");
  if (state_ != State::rcpt) return refuse(503, "5.5.1 MAIL and RCPT first");
  // DATA is a synchronisation point (RFC 2920 section 3.1): whoever talks on has not read our replies.
  if (more_input) return close_with(503, "5.5.0 data before the 354 reply");
  transaction_.body.reserve(transaction_.mail.size.value_or(0));
  Trace trace = policy_->trace(transaction_, {helo_, esmtp_, client_.tls, client_.user});
  transaction_.id = std::move(trace.id);
  transaction_.body.append(trace.field);
  scanner_.emplace(options_->data);
  state_ = State::data;
  reply(354, "end with <CRLF>.<CRLF>");
}

void ServerSession::data_done() {
  if (scanner_->problem() != DataProblem::none) {
    const auto [code, text] = data_refusal(scanner_->problem());
    const std::string id = transaction_.id;
    reset();
    refuse(code, text + " (" + id + ")");
    return;
  }
  transaction_.headers = scanner_->headers();
  transaction_.cuts = scanner_->cuts();
  transaction_.header_end = scanner_->header_end();
  transaction_.eight_bit = scanner_->eight_bit();
  transaction_.eight_bit_header = scanner_->eight_bit_header();
  if (options_->submission && !(scanner_->has_date() && scanner_->has_message_id()))
    transaction_.added = policy_->missing_fields(transaction_, !scanner_->has_date(), !scanner_->has_message_id());
  if (scanner_->needs_separator() || (scanner_->ends_in_text() && !transaction_.added.empty())) transaction_.added += "\r\n";
  scanner_.reset();
  state_ = State::commit;
}

void ServerSession::finish(int code, std::string_view text) {
  reset();
  reply(code, text);
  if (code == 421) state_ = State::closed;
  if (code == 250) errors_ = idle_ = 0;
}

// ---- ends --------------------------------------------------------------------------------------------------------

void ServerSession::shut(std::string_view text) {
  reset();
  close_with(421, text);
}

void ServerSession::refuse_early_talker() {
  close_with(554, "5.5.0 " + options_->hostname + " was not greeted first: data before the banner");
}

void ServerSession::reset() {
  transaction_ = {};
  forwarded_ = {};  // Postfix, too, forgets it with the transaction
  scanner_.reset();
  sasl_.reset();
  if (state_ != State::start && state_ != State::closed) state_ = State::ready;
}

/// Writes a reply; '\n' separates its lines.
void ServerSession::reply(int code, std::string_view text) {
  const std::string digits = std::to_string(code);
  while (true) {
    const std::size_t end = text.find('\n');
    output_ += digits;
    output_ += end == std::string_view::npos ? ' ' : '-';
    output_ += text.substr(0, end);
    output_ += "\r\n";
    if (end == std::string_view::npos) return;
    text.remove_prefix(end + 1);
  }
}

void ServerSession::refuse(int code, std::string_view text) {
  reply(code, text);
  if (++errors_ >= max_errors_) close_with(421, "4.7.0 too many errors");
}

/// The reply of a command that brings no message nearer: they may not go on for ever.
void ServerSession::idle_command(int code, std::string_view text) {
  reply(code, text);
  if (++idle_ > options_->max_idle) close_with(421, "4.7.0 too many commands without a message");
}

void ServerSession::close_with(int code, std::string_view text) {
  reply(code, text);
  state_ = State::closed;
}

}  // namespace egret::smtp
