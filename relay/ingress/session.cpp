#include "relay/ingress/session.hpp"

#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "relay/brakes/brakes.hpp"
#include "relay/delivery/pass_through.hpp"
#include "relay/runtime/log.hpp"
#include "smtp/text.hpp"
#include "smtp/trace.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using Action = smtp::ServerSession::Action;

constexpr auto command_timeout = 5min;  // RFC 5321 section 4.5.3.2.7, for a whole command
constexpr auto data_timeout = 3min;     // without data
constexpr auto handshake_timeout = 30s;
constexpr auto stressed_timeout = 10s;      // all of them, while connections run out
constexpr auto goodbye_timeout = 2s;        // for the last reply to a client whose time is over
constexpr std::uint64_t slowest = 500;      // octets per second of data; each octet that comes buys its share of time
constexpr auto error_pause = 1s;            // for each reply after too many errors
constexpr std::size_t small_buffer = 1024;  // most sessions wait for a command most of the time
constexpr std::size_t first_data_buffer = 8 * 1024;
constexpr std::size_t data_buffer = 64 * 1024;

smtp::ClientInfo client_info(const config::Listener& listener, const routing::IpAddress& client) {
  smtp::ClientInfo out;
  out.address = client.to_string();
  out.may_relay = routing::in_any(listener.allow, client);
  out.trusted = routing::in_any(listener.xclient, client);
  return out;
}

std::string wait_text(routing::Duration wait) {
  return std::to_string(std::chrono::ceil<std::chrono::seconds>(wait).count()) + " s";
}

}  // namespace

Ingress::Session::Session(Ingress& ingress, std::unique_ptr<Stream> stream, std::shared_ptr<const Front> front,
                          std::size_t listener, const routing::IpAddress& client, std::string received)
    : ingress_(ingress),
      stream_(std::move(stream)),
      front_(std::move(front)),
      index_(listener),
      listener_(front_->config->listeners[listener]),
      client_(client),
      session_(routing::in_any(listener_.normalize, client) ? front_->repairing[listener] : front_->options[listener], *this,
               client_info(listener_, client)),
      timer_(ingress.executor_),
      buffer_(received, small_buffer) {
  stream_->expire_softly();
  ingress_.sessions_.insert(this);
}

Ingress::Session::~Session() {
  hold_memory(0);
  ingress_.delivery_.spool.abandon(std::move(extents_));
  ingress_.sessions_.erase(this);
}

// ---- the loop ----------------------------------------------------------------------------------------------------

asio::awaitable<void> Ingress::Session::run() {
  const bool started = co_await start();
  while (started) {
    std::string_view view = buffer_.view();
    const Action action = session_.process(view);
    const std::size_t used = buffer_.filled() - view.size();
    buffer_.consume(used);
    if (has_to_spill(action)) {
      const bool spilled = co_await spill();
      if (!spilled) break;
    }
    if (action != Action::read) {
      const bool go_on = co_await act(action);
      if (!go_on) break;
      continue;
    }
    const bool leaving = ingress_.stopping_ && session_.idle() && buffer_.filled() == 0;
    if (leaving) session_.shut("4.3.2 shutting down");
    bool written = flush_now();
    if (!written) written = co_await flush();
    if (!written || leaving) break;
    expect_input(used > 0);
    const ReadResult got = co_await stream_->read_some(asio::buffer(buffer_.end(), buffer_.room()));
    if (!take_input(got)) {
      co_await flush();  // what there is to say to a client whose time is over
      break;
    }
  }
  co_await stream_->shutdown();
}

/// Implicit TLS, the wait for those who talk first, the banner.
asio::awaitable<bool> Ingress::Session::start() {
  if (listener_.tls == config::ListenerTls::implicit) {
    const bool secured = co_await start_tls();
    if (!secured) co_return false;
  } else if (buffer_.filled() > 0 || stream_->has_input()) {
    session_.refuse_early_talker();
    co_await flush();
    co_return false;
  }
  session_.greet();
  co_return true;
}

/// What the session cannot do by itself; false ends it.
asio::awaitable<bool> Ingress::Session::act(Action action) {
  switch (action) {
    case Action::read:
      break;
    case Action::commit:
      co_await commit();
      break;
    case Action::handshake:
      co_return co_await start_tls();
    case Action::verify_password:
      co_await log_in(true);
      break;
    case Action::auth_failed:
      co_await log_in(false);
      break;
    case Action::close:
      co_await flush();
      co_return false;
  }
  co_return true;
}

asio::awaitable<bool> Ingress::Session::start_tls() {
  const bool written = co_await flush();
  const std::shared_ptr<TlsContext> context = front_->tls[index_];
  if (!written || !context) co_return false;
  stream_->expires_at(in(ingress_.shared_.admission.stressed() ? std::chrono::seconds(stressed_timeout) : handshake_timeout));
  std::string received(buffer_.view());
  buffer_.consume(buffer_.filled());
  const error_code error = co_await stream_->accept_handshake(*context, std::move(received));
  if (error) {
    log::info("TLS handshake with a client failed",
              {{"client", client_.to_string()}, {"reason", stream_->timed_out() ? "timed out" : error.message()}});
    co_return false;
  }
  session_.tls_started();
  co_return true;
}

/// Before a read. The deadline belongs to the whole request: single octets do not put it off (slowloris).
void Ingress::Session::expect_input(bool progressed) {
  make_room();
  const bool stressed = ingress_.shared_.admission.stressed();
  session_.limit_errors(stressed ? 1 : session_.options().max_errors);
  const std::chrono::steady_clock::duration data_time = stressed ? std::chrono::minutes(0) + stressed_timeout : data_timeout;
  const std::chrono::steady_clock::duration command_time =
      stressed ? std::chrono::minutes(0) + stressed_timeout : command_timeout;
  if (session_.in_data()) {
    if (!std::exchange(was_in_data_, true)) request_deadline_ = in(data_time);
    request_deadline_ = std::min(request_deadline_, in(data_time));
  } else if (progressed || std::exchange(was_in_data_, false) || request_deadline_ == Deadline::max()) {
    was_in_data_ = false;
    request_deadline_ = in(command_time);
  }
  stream_->expires_at(request_deadline_);
  reading_ = true;
}

/// After a read; false when it was the last one.
bool Ingress::Session::take_input(const ReadResult& got) {
  reading_ = false;
  stream_->expires_at(Deadline::max());  // what the client waits for has deadlines of its own
  if (got.error && stream_->timed_out()) {
    session_.shut(session_.in_data() ? "4.4.2 timeout: the message came too slowly"
                                     : "4.4.2 timeout: waited too long for a command");
    return false;
  }
  // An interrupt only lets the session look again whether it may go on; what was broken off has nothing left to read.
  const bool interrupted = ingress_.stopping_ && !broken_off_ && got.error == asio::error::operation_aborted;
  if (got.error && !interrupted) return false;
  buffer_.add(got.size);
  full_read_ = buffer_.full();
  if (session_.in_data()) request_deadline_ += std::chrono::microseconds(got.size * 1'000'000 / slowest);
  return true;
}

/// Grows the buffer while a line does not fit, takes large reads in data, and is small while a session rests.
void Ingress::Session::make_room() {
  if (session_.in_data()) {
    // As large as what comes at once: a slow client gets no more than it fills.
    if (buffer_.size() < first_data_buffer)
      buffer_.resize(first_data_buffer);
    else if (full_read_ && buffer_.size() < data_buffer)
      buffer_.resize(buffer_.size() * 2);
    else if (buffer_.full())
      buffer_.resize(buffer_.size() * 2);
  } else if (buffer_.full()) {
    buffer_.resize(buffer_.size() * 2);
  } else if (buffer_.size() > small_buffer && buffer_.filled() <= small_buffer) {
    buffer_.resize(small_buffer);
  }
}

void Ingress::Session::interrupt() {
  timer_.cancel();
  if (session_.idle()) stream_->interrupt();
}

void Ingress::Session::break_off() {
  if (waiting_) return;
  broken_off_ = true;
  stream_->close();
}

void Ingress::Session::give_up() {
  if (waiting_) waiting_->give_up("451 4.3.2 shutting down");
}

void Ingress::Session::hurry(Deadline most) {
  if (!reading_) return;
  request_deadline_ = std::min(request_deadline_, most);
  if (stream_->expiry() > most) stream_->expires_at(most);
}

asio::awaitable<void> Ingress::Session::pause(std::chrono::steady_clock::duration time) {
  if (ingress_.stopping_) co_return;
  timer_.expires_after(time);
  error_code ignored;
  co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

/// Most replies fit into the socket at once; false when some of it is left to flush().
bool Ingress::Session::flush_now() {
  std::string& out = session_.output();
  if (out.empty()) return true;
  if (session_.slowed()) return false;
  const asio::const_buffer whole = asio::buffer(out);
  out.erase(0, stream_->write_now({&whole, 1}));
  return out.empty();
}

asio::awaitable<bool> Ingress::Session::flush() {
  if (session_.output().empty()) co_return true;
  if (session_.slowed()) co_await pause(error_pause);
  std::chrono::steady_clock::duration time = command_timeout;
  if (stream_->timed_out())
    time = goodbye_timeout;
  else if (ingress_.shared_.admission.stressed())
    time = stressed_timeout;
  stream_->expires_at(in(time));
  const std::string out = std::move(session_.output());
  session_.output().clear();
  const error_code error = co_await write_all(*stream_, out);
  stream_->expires_at(Deadline::max());
  co_return !error;
}

// ---- log-in ------------------------------------------------------------------------------------------------------

/// `password`: one has to be verified; else a SCRAM proof was wrong already.
asio::awaitable<void> Ingress::Session::log_in(bool password) {
  Authenticator& authenticator = ingress_.shared_.authenticator;
  const std::string client = client_.customer().to_string();
  auto result = smtp::AuthResult::refused;
  if (!authenticator.failures().begin(client, std::chrono::steady_clock::now())) {
    result = smtp::AuthResult::too_many;
  } else {
    if (password && !ingress_.credentials_.users)
      result = smtp::AuthResult::unavailable;
    else if (password)
      result = co_await authenticator.verify(ingress_.credentials_.users, session_.auth_user(), session_.take_password());
    authenticator.failures().end(client);
  }
  switch (result) {
    case smtp::AuthResult::accepted:
      authenticator.failures().succeeded(client);
      break;
    case smtp::AuthResult::refused: {
      ingress_.delivery_.metrics.logins_refused.add();
      const auto wait = authenticator.failures().failed(client, std::chrono::steady_clock::now());
      log::warn("log-in refused", {{"client", client}, {"listener", listener_.address}});
      co_await pause(wait);
      break;
    }
    case smtp::AuthResult::too_many:
      log::warn("log-in not tried: too many failures", {{"client", client}, {"listener", listener_.address}});
      break;
    case smtp::AuthResult::unavailable:
      break;
  }
  session_.auth_result(result);
}

smtp::SaslServer::ScramInput Ingress::Session::scram_input() {
  return ingress_.shared_.authenticator.scram_input(ingress_.credentials_.users.get());
}

std::optional<smtp::ScramSecret> Ingress::Session::scram_secret(std::string_view name) {
  const config::User* user = ingress_.credentials_.users ? ingress_.credentials_.users->find(name) : nullptr;
  // A client that may not even try gets the challenge of a user that does not exist.
  if (!user ||
      ingress_.shared_.authenticator.failures().too_many(client_.customer().to_string(), std::chrono::steady_clock::now()))
    return std::nullopt;
  return user->scram;
}

smtp::ClientInfo Ingress::Session::impersonate(const smtp::ForwardedAttributes& attributes) {
  // An address that the peer does not know is nobody's: it has no rights, least of all the peer's.
  if (attributes.addr)
    client_ = routing::IpAddress::parse(*attributes.addr).value_or(routing::IpAddress::v4(0, 0, 0, 0)).unmapped();
  smtp::ClientInfo out = client_info(listener_, client_);
  out.trusted = true;  // the peer is the same
  out.user = attributes.login.value_or("");
  return out;
}

// ---- limits ------------------------------------------------------------------------------------------------------

std::optional<smtp::CommandError> Ingress::Session::admit(std::uint64_t, std::string_view user) {
  if (ingress_.stopping_) return smtp::CommandError{421, "4.3.2 shutting down"};
  switch (ingress_.delivery_.spool.trouble()) {
    case spool::Trouble::none:
      break;
    case spool::Trouble::no_space:
      return smtp::CommandError{452, "4.3.1 insufficient storage, try again later"};
    case spool::Trouble::broken:
      return smtp::CommandError{421, "4.3.0 the queue cannot be written, try again later"};
  }
  if (ingress_.shared_.intake.full(false)) return too_much("all classes");
  return over_rate(user, 0);
}

std::optional<smtp::CommandError> Ingress::Session::admit_recipient(std::string_view user) {
  if (auto refusal = no_room_for_lesser()) return refusal;
  if (recipients_memory() > Intake::small_piece && ingress_.shared_.intake.full(false)) return too_much("all classes");
  return over_rate(user, 1);
}

/// More comes in than can be written and sent on: whoever begins now has to wait.
smtp::CommandError Ingress::Session::too_much(std::string_view whose) {
  Intake& intake = ingress_.shared_.intake;
  ingress_.relieve_all();
  ingress_.delivery_.metrics.messages_unstored.add();
  if (intake.tell(std::chrono::steady_clock::now()))
    log::warn("messages are put off: too much is coming in",
              {{"classes", std::string(whose)}, {"octets", std::to_string(intake.used())}, {"rule", "half of spool.cache"}});
  return {452, "4.3.1 too much mail is coming in, try again later"};
}

/// Whether mail of its class leaves room for others, as far as that can be known before the header.
bool Ingress::Session::lesser() {
  const config::Config& config = *front_->config;
  const auto its = config.class_named(class_of(session_.transaction()));
  return its && front_->weights.lesser(*its);
}

/// What is running out is left to the classes of the greatest weight: the last quarter of the memory for what comes in, and
/// the disk from twice its reserve on.
std::optional<smtp::CommandError> Ingress::Session::no_room_for_lesser() {
  if (front_->header_rules) return std::nullopt;  // it may be of a greater one yet
  const bool crowded = ingress_.shared_.intake.full(true);
  const bool low = !listener_.pass_through && ingress_.delivery_.spool.low();
  if ((!crowded && !low) || !lesser()) return std::nullopt;
  if (crowded) return too_much("lesser ones");
  ingress_.delivery_.metrics.messages_unstored.add();
  return smtp::CommandError{452, "4.3.1 insufficient storage for mail of this class, try again later"};
}

/// What the limits of this client, of the user and of the brakes count; of the sender domain only once it is known.
std::vector<BrakeClaim> Ingress::Session::claims(std::string_view name, std::uint64_t recipients) {
  BrakeSubject subject;
  subject.client = client_;
  subject.user = name;
  if (recipients > 0) subject.sender_domain = session_.transaction().mail.reverse_path.domain;
  subject.recipients = recipients;
  subject.messages = recipients > 0 && !message_counted_ ? 1 : 0;
  const config::User* user = !name.empty() && ingress_.credentials_.users ? ingress_.credentials_.users->find(name) : nullptr;
  if (user) subject.own_rate = user->rate;
  if (ingress_.delivery_.brakes) subject.barrier = ingress_.delivery_.brakes->barrier(name);
  return brake_claims(*front_->config, subject);
}

/// 0 recipients: a message begins, and it is only asked whether there is room.
std::optional<smtp::CommandError> Ingress::Session::over_rate(std::string_view name, std::uint64_t recipients) {
  Brakes* brakes = ingress_.delivery_.brakes;
  if (recipients == 0) {
    message_counted_ = false;
    if (const auto reason = brakes ? brakes->suspended(name) : std::nullopt)
      return smtp::CommandError{450, "4.7.1 " + suspended_text(*reason, name)};
  }
  const auto claimed = claims(name, recipients);
  for (const bool enforced : {true, false}) {
    const auto refusal = take_claims(ingress_.shared_.rates, claimed, enforced, now());
    if (!refusal) continue;
    const BrakeClaim& claim = claimed[refusal->claim];
    const routing::Time until = now() + refusal->wait;
    if (brakes && claim.told) brakes->over_rate(claim.rule, claim.name, claim.what, until, enforced);
    if (enforced)
      return smtp::CommandError{450, "4.7.1 " + claim.what + ", used up until " + routing::to_rfc3339(until) + ": try again in " +
                                         wait_text(refusal->wait)};
  }
  if (recipients > 0) message_counted_ = true;
  return std::nullopt;
}

// ---- the message -------------------------------------------------------------------------------------------------

smtp::Trace Ingress::Session::trace(const smtp::Transaction& transaction, const smtp::SessionFacts& facts) {
  id_ = ingress_.delivery_.spool.next_id();
  smtp::TraceInfo info;
  info.helo = facts.helo;
  info.client = client_.to_string();
  info.hostname = front_->config->hostname;
  info.id = id_;
  info.esmtp = facts.esmtp;
  info.tls = facts.tls;
  info.authenticated = !facts.user.empty();
  info.utf8 = transaction.mail.smtputf8;
  if (transaction.recipients.size() == 1) info.recipient = transaction.recipients.front().to_string();
  info.time = std::chrono::system_clock::now();
  return {smtp::to_string(id_), smtp::received_field(info)};
}

std::string Ingress::Session::missing_fields(const smtp::Transaction& transaction, bool date, bool message_id) {
  std::string out;
  if (date) out += "Date: " + smtp::rfc5322_date(std::chrono::system_clock::now()) + "\r\n";
  if (message_id) out += "Message-ID: <" + transaction.id + "@" + front_->config->hostname + ">\r\n";
  return out;
}

/// Whether so much of a body has come in that it must go to the spool. A message that passes through stays in memory, and
/// off the disk, while there is room for it.
bool Ingress::Session::has_to_spill(Action action) {
  if (!session_.in_data() && action != Action::commit && !extents_.empty()) {
    ingress_.delivery_.spool.abandon(std::move(extents_));  // the message was refused at its end
    extents_.clear();
    spilled_ = 0;
  }
  const std::uint64_t held = session_.transaction().body.size() - spilled_;
  const bool passing_full = listener_.pass_through && ingress_.delivery_.common.cache.full();
  hold_memory(recipients_memory() + (session_.in_data() || action == Action::commit ? held : 0));
  if (!session_.in_data()) return false;
  const bool crowded = ingress_.shared_.intake.crowded() || passing_full;
  if (held < (crowded ? Intake::small_piece : Intake::piece)) return false;
  return !listener_.pass_through || crowded;
}

/// Moves what has come in of a large body to the spool, so that a session's memory is bounded.
asio::awaitable<bool> Ingress::Session::spill() {
  smtp::Body& body = session_.transaction().body;
  std::string octets;
  octets.reserve(body.size() - spilled_);
  for (const auto& chunk : body.release_chunks()) octets += chunk;
  spilled_ += octets.size();
  while (!octets.empty()) {
    std::string rest = octets.size() > 2 * Intake::piece ? octets.substr(2 * Intake::piece) : std::string();
    octets.resize(octets.size() - rest.size());
    const auto stored = co_await ingress_.delivery_.spool.chunk(std::move(octets));
    if (stored.trouble != spool::Trouble::none) {
      session_.shut(stored.trouble == spool::Trouble::no_space ? "4.3.1 insufficient storage, try again later"
                                                               : "4.3.0 the queue cannot be written, try again later");
      co_await flush();
      co_return false;
    }
    extents_.push_back(stored.extent);
    octets = std::move(rest);
  }
  co_return true;
}

std::uint64_t Ingress::Session::recipients_memory() {
  const smtp::Transaction& t = session_.transaction();
  if (t.recipients.size() < recipients_counted_) recipients_memory_ = recipients_counted_ = 0;
  for (; recipients_counted_ < t.recipients.size(); ++recipients_counted_) {
    const std::size_t i = recipients_counted_;
    recipients_memory_ += spool::memory_of(t.recipients[i], i < t.recipient_dsn.size() ? &t.recipient_dsn[i] : nullptr);
  }
  return recipients_memory_;
}

/// Counts what a message takes while it comes in, until it is on disk. One that passes through is counted with those that wait,
/// too: once it is complete, its jobs count it.
void Ingress::Session::hold_memory(std::uint64_t octets) {
  if (octets == held_memory_) return;
  ingress_.shared_.intake.hold(held_memory_, octets);
  if (listener_.pass_through) ingress_.delivery_.common.cache.used += octets - held_memory_;
  held_memory_ = octets;
}

/// The first rule that fits, else the user's class, else the listener's.
std::string Ingress::Session::class_of(const smtp::Transaction& transaction) const {
  const config::Config& config = *front_->config;
  routing::MessageFacts facts;
  facts.user = session_.user();
  facts.sender_domain = transaction.mail.reverse_path.domain;
  facts.headers = &transaction.headers;
  const routing::Classified classified = config.classifier->classify(facts);
  if (!classified.unknown_class.empty())
    log::warn("a header names a class that does not exist", {{"id", smtp::to_string(id_)}, {"class", classified.unknown_class}});
  if (classified.class_name) return *classified.class_name;
  const config::User* user = ingress_.credentials_.users ? ingress_.credentials_.users->find(session_.user()) : nullptr;
  if (user && !user->class_name.empty()) return user->class_name;
  return config.classes[listener_.message_class].name;
}

std::shared_ptr<spool::Message> Ingress::Session::message() {
  smtp::Transaction& t = session_.transaction();
  auto out = std::make_shared<spool::Message>();
  out->id = id_;
  out->class_name = class_of(t);
  out->sender = std::move(t.mail.reverse_path);
  out->recipients = std::move(t.recipients);
  out->dsn = std::move(t.mail.dsn);
  if (std::ranges::any_of(t.recipient_dsn, [](const auto& d) { return d != smtp::DsnRcpt{}; }))
    out->recipient_dsn = std::move(t.recipient_dsn);
  out->user = session_.user();
  out->eight_bit = t.eight_bit;
  out->eight_bit_header = t.eight_bit_header;
  out->utf8 = t.mail.smtputf8;
  out->accepted = now();
  out->header_end = t.header_end;
  out->cuts = std::move(t.cuts);
  out->added = std::move(t.added);
  out->client = client_.to_string();
  out->body_size = t.body.size();
  out->extents = std::move(extents_);
  out->tail = t.body.release_chunks();
  extents_.clear();
  spilled_ = 0;
  return out;
}

void Ingress::Session::log_accepted(const spool::Message& message, const std::string& how) const {
  ingress_.delivery_.metrics.messages_accepted.add();
  ingress_.delivery_.metrics.recipients_accepted.add(message.recipients.size());
  ingress_.delivery_.metrics.bytes_accepted.add(message.body_size);
  if (ingress_.delivery_.brakes) ingress_.delivery_.brakes->accepted(message);
  if (!log::enabled(log::Level::info)) return;
  std::vector<log::Field> fields{{"id", smtp::to_string(message.id)},
                                 {"client", message.client},
                                 {"helo", session_.helo()},
                                 {"from", message.sender.to_string()},
                                 {"recipients", std::to_string(message.recipients.size())},
                                 {"size", std::to_string(message.body_size)},
                                 {"class", message.class_name}};
  if (!message.user.empty()) fields.emplace_back("user", message.user);
  if (session_.client().tls) fields.emplace_back("tls", stream_->tls_summary());
  const auto& forwarded = session_.forwarded();
  if (forwarded.ident) fields.emplace_back("origin_id", *forwarded.ident);
  if (forwarded.addr) fields.emplace_back("origin_client", *forwarded.addr);
  if (forwarded.name) fields.emplace_back("origin_name", *forwarded.name);
  if (forwarded.helo) fields.emplace_back("origin_helo", *forwarded.helo);
  log::info(how, fields);
}

asio::awaitable<void> Ingress::Session::commit() {
  auto accepted = message();
  if (listener_.pass_through)
    co_await commit_pass_through(std::move(accepted));
  else
    co_await commit_queued(std::move(accepted));
}

void Ingress::Session::refuse_unstored(spool::Trouble trouble) {
  ingress_.delivery_.metrics.messages_unstored.add();
  if (trouble == spool::Trouble::no_space)
    session_.finish(452, "4.3.1 insufficient storage, try again later");
  else
    session_.finish(421, "4.3.0 the queue cannot be written, try again later");
}

asio::awaitable<void> Ingress::Session::commit_queued(std::shared_ptr<spool::Message> message) {
  // Only now is the class known for sure.
  const auto its = ingress_.delivery_.spool.low() ? front_->config->class_named(message->class_name) : std::nullopt;
  if (its && front_->weights.lesser(*its)) {
    ingress_.delivery_.spool.abandon(message->extents);
    co_return refuse_unstored(spool::Trouble::no_space);
  }
  const spool::Trouble trouble = co_await ingress_.delivery_.spool.accept(message);
  hold_memory(0);
  if (trouble != spool::Trouble::none) {
    ingress_.delivery_.spool.abandon(message->extents);
    co_return refuse_unstored(trouble);
  }
  log_accepted(*message, "accepted");
  session_.finish(250, "2.0.0 queued as " + smtp::to_string(message->id));
  ingress_.dispatcher_.submit(message);
}

/// The client waits for the receivers. What they leave over is made durable before the 250.
asio::awaitable<void> Ingress::Session::commit_pass_through(std::shared_ptr<spool::Message> message) {
  log_accepted(*message, "passing through");
  const std::string id = smtp::to_string(message->id);
  hold_memory(0);  // from here on the dispatcher counts it
  auto pass = std::make_shared<PassThrough>(ingress_.executor_, message->recipients.size());
  waiting_ = pass.get();
  ++ingress_.waiting_;
  ingress_.dispatcher_.submit(message, pass);
  const std::vector<Settled> results = co_await pass->wait();
  waiting_ = nullptr;
  --ingress_.waiting_;
  const PassThroughAnswer answer = answer_of(results, id);
  if (answer.deferred.empty() && answer.failed.empty()) {
    ingress_.delivery_.spool.abandon(message->extents);
    co_return session_.finish(answer.code, answer.text);
  }
  const spool::Trouble trouble = co_await ingress_.dispatcher_.take_over(message, results, answer);
  if (trouble != spool::Trouble::none) {
    ingress_.delivery_.spool.abandon(message->extents);
    co_return refuse_unstored(trouble);  // twice is better than lost
  }
  session_.finish(answer.code, answer.text);
}

}  // namespace egret::relay
