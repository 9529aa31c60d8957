#include "smtp/server_session.hpp"

#include "smtp/text.hpp"

namespace egret::smtp {
namespace {

constexpr std::size_t max_command_line = 2048;

/// EHLO and HELO names are remote text that ends up in the trace header: hosts and address literals only.
bool valid_helo(std::string_view name) {
  return valid_domain(name, false) || valid_address_literal(name);
}

}  // namespace

ServerSession::ServerSession(const ServerOptions& options, ServerPolicy& policy, ClientInfo client)
    : options_(&options), policy_(&policy), client_(std::move(client)) {}

void ServerSession::greet() {
  reply(220, options_->hostname + " ESMTP");
}

ServerSession::Action ServerSession::process(std::string_view& in) {
  while (true) {
    if (state_ == State::closed) return Action::close;
    if (state_ == State::commit) return Action::commit;
    if (state_ == State::data) {
      if (!scanner_->scan(in, transaction_.body)) return Action::read;
      data_done();
      continue;
    }
    const std::size_t end = in.find('\n');
    if (end == std::string_view::npos && in.size() <= max_command_line) return Action::read;
    if (end == std::string_view::npos || end > max_command_line) {
      reply(500, "5.5.2 command line too long");
      state_ = State::closed;
      continue;
    }
    std::string_view line = in.substr(0, end);
    in.remove_prefix(end + 1);
    const bool crlf = !line.empty() && line.back() == '\r';
    if (crlf) line.remove_suffix(1);
    // A bare line end or NUL in a command is either a broken client or an attempt to desynchronise: no second guess.
    if (!crlf || line.find('\r') != std::string_view::npos || line.find('\0') != std::string_view::npos) {
      reply(501, "5.5.2 bare CR, LF or NUL in a command: lines end in CR LF");
      state_ = State::closed;
      continue;
    }
    command(line, !in.empty());
  }
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
      reset();
      return reply(250, "2.0.0 ok");
    case Verb::noop:
      return reply(250, "2.0.0 ok");
    case Verb::help:
      return reply(214, "2.0.0 this is a mail relay: RFC 5321 commands");
    case Verb::vrfy:
      return reply(252, "2.5.2 cannot verify, will take mail for relaying");
    case Verb::quit:
      reply(221, "2.0.0 bye");
      state_ = State::closed;
      return;
    case Verb::expn:
    case Verb::starttls:
    case Verb::auth:
    case Verb::bdat:
      return refuse(502, "5.5.1 not offered here");
    case Verb::unknown:
      return refuse(500, "5.5.1 command not recognised");
  }
}

void ServerSession::ehlo(std::string_view name, bool esmtp) {
  name = trim(name);
  if (!valid_helo(name)) return refuse(501, "5.5.4 a host name or an address literal must follow");
  reset();
  state_ = State::ready;
  esmtp_ = esmtp;
  helo_ = name;
  if (!esmtp) return reply(250, options_->hostname);
  output_ += "250-" + options_->hostname + " greets " + helo_ + "\r\n";
  output_ += "250-PIPELINING\r\n250-SIZE " + std::to_string(options_->data.max_size) +
             "\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES\r\n";
}

void ServerSession::mail(std::string_view argument) {
  if (state_ == State::start) return refuse(503, "5.5.1 EHLO first");
  if (state_ != State::ready) return refuse(503, "5.5.1 a transaction is open: RSET first");
  MailCommand parsed;
  if (const auto error = parse_mail(argument, parsed)) return refuse(error->code, error->text);
  if (parsed.size.value_or(0) > options_->data.max_size)
    return refuse(552, "5.3.4 message too large: the limit is " + std::to_string(options_->data.max_size) + " octets");
  if (const auto refusal = policy_->admit(parsed.size.value_or(0))) {
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
  if (!client_.may_relay)
    return refuse(550, "5.7.1 relaying denied for " + client_.address + ": not in allow and not authenticated");
  RcptCommand parsed;
  if (const auto error = parse_rcpt(argument, transaction_.mail.smtputf8, parsed)) return refuse(error->code, error->text);
  if (transaction_.recipients.size() >= options_->max_recipients)
    return reply(452, "4.5.3 too many recipients: the limit is " + std::to_string(options_->max_recipients));
  transaction_.recipients.push_back(std::move(parsed.forward_path));
  state_ = State::rcpt;
  reply(250, "2.1.5 recipient ok");
}

void ServerSession::data(bool more_input) {
  if (state_ == State::mail) return refuse(554, "5.5.1 no valid recipients");
  if (state_ != State::rcpt) return refuse(503, "5.5.1 MAIL and RCPT first");
  if (more_input) {
    // DATA is a synchronisation point (RFC 2920 section 3.1): whoever talks on has not read our replies.
    reply(503, "5.5.0 data before the 354 reply");
    state_ = State::closed;
    return;
  }
  transaction_.body.reserve(transaction_.mail.size.value_or(0));
  transaction_.body.append(policy_->trace(transaction_, helo_, esmtp_));
  scanner_.emplace(options_->data);
  state_ = State::data;
  output_ += "354 end with <CRLF>.<CRLF>\r\n";
}

void ServerSession::data_done() {
  if (scanner_->problem() != DataProblem::none) {
    const auto [code, text] = data_refusal(scanner_->problem());
    reset();
    refuse(code, text);
    return;
  }
  transaction_.headers = scanner_->headers();
  transaction_.cuts = scanner_->cuts();
  transaction_.header_end = scanner_->header_end();
  transaction_.eight_bit = scanner_->eight_bit();
  scanner_.reset();
  state_ = State::commit;
}

void ServerSession::finish(int code, std::string_view text) {
  reset();
  reply(code, text);
  if (code == 421) state_ = State::closed;
}

void ServerSession::shut(std::string_view text) {
  reset();
  reply(421, text);
  state_ = State::closed;
}

void ServerSession::reset() {
  transaction_ = {};
  scanner_.reset();
  if (state_ != State::start && state_ != State::closed) state_ = State::ready;
}

void ServerSession::reply(int code, std::string_view text) {
  output_ += std::to_string(code);
  output_ += ' ';
  output_ += text;
  output_ += "\r\n";
}

void ServerSession::refuse(int code, std::string_view text) {
  reply(code, text);
  if (++errors_ < options_->max_errors) return;
  reply(421, "4.7.0 too many errors");
  state_ = State::closed;
}

}  // namespace egret::smtp
