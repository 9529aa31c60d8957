#include "smtp/client_session.hpp"

#include <gtest/gtest.h>

#include "smtp/text.hpp"

namespace egret::smtp {
namespace {

using namespace std::string_literals;
using namespace std::string_view_literals;
using Action = ClientSession::Action;

Reply reply_of(std::string_view text) {
  ReplyParser parser;
  const std::string bytes = std::string(text) + "\r\n";
  std::string_view in = bytes;
  EXPECT_EQ(parser.feed(in), ReplyParser::Status::complete) << text;
  return parser.take();
}

ClientOptions plain() {
  ClientOptions out;
  out.helo = "relay.example.com";
  out.tls = TlsMode::none;
  return out;
}

ClientOptions with_tls(TlsMode mode) {
  ClientOptions out = plain();
  out.tls = mode;
  return out;
}

ClientOptions with_login(std::vector<std::string> mechanisms = {"PLAIN", "LOGIN"}, bool tls_active = true) {
  ClientOptions out = with_tls(TlsMode::required);
  out.tls_active = tls_active;
  out.credentials = Credentials{"user", "pass", std::move(mechanisms)};
  return out;
}

Envelope to(std::vector<std::string> locals) {
  Envelope out;
  out.sender = {"a", "example.com"};
  for (auto& local : locals) out.recipients.push_back({std::move(local), "example.net"});
  out.size = 1000;
  return out;
}

/// A session with a peer that a test speaks for.
class Peer {
 public:
  explicit Peer(ClientOptions options) : session(std::move(options)) {}

  Action says(std::string_view reply) { return session.on_reply(reply_of(reply)); }
  /// Several replies one after another; the last action.
  Action says(std::initializer_list<std::string_view> replies) {
    Action action = Action::read;
    for (const auto reply : replies) action = says(reply);
    return action;
  }
  std::string sent() { return std::exchange(session.output(), {}); }
  /// What was decided on recipient `i`: "550 rcpt", or "250 final delivered".
  std::string outcome(std::size_t i) const {
    const RecipientOutcome& o = session.outcomes().at(i);
    return std::to_string(o.reply.code) + " " + std::string(to_string(o.phase)) + (o.delivered() ? " delivered" : "");
  }
  std::string failure() const {
    return std::to_string(session.failure().reply.code) + " " + std::string(to_string(session.failure().phase));
  }

  ClientSession session;
};

/// A peer that is ready for a transaction.
Peer ready(std::string_view ehlo = "250 mx.example.net") {
  Peer peer(plain());
  EXPECT_EQ(peer.says({"220 mx", ehlo}), Action::ready);
  peer.sent();
  return peer;
}

constexpr std::string_view pipelining = "250-mx.example.net\r\n250 PIPELINING";

// ---- greeting and EHLO
// -------------------------------------------------------------------------------------------

TEST(ClientSession, SaysEhloAfterTheBanner) {
  Peer peer(plain());
  EXPECT_EQ(peer.says("220 mx"), Action::read);
  EXPECT_EQ(peer.sent(), "EHLO relay.example.com\r\n");
  EXPECT_EQ(peer.says("250 mx"), Action::ready);
}

TEST(ClientSession, FailsInPhaseConnectWhenTheBannerRefuses) {
  for (const auto* banner : {"554 no", "421 busy", "521 no mail here", "250 odd"}) {
    Peer peer(plain());
    EXPECT_EQ(peer.says(banner), Action::failed) << banner;
    EXPECT_EQ(peer.failure(), std::string(banner, 3) + " connect");
    EXPECT_TRUE(peer.session.closing());
    EXPECT_EQ(peer.sent(), "");
  }
}

TEST(ClientSession, FallsBackToHelo) {
  for (const auto* refusal : {"500 unknown", "502 not implemented"}) {
    Peer peer(with_tls(TlsMode::opportunistic));
    EXPECT_EQ(peer.says({"220 mx", refusal}), Action::read);
    EXPECT_EQ(peer.sent(), "EHLO relay.example.com\r\nHELO relay.example.com\r\n");
    EXPECT_EQ(peer.says("250 mx"), Action::ready);
  }
}

TEST(ClientSession, FailsWhenHeloIsRefusedToo) {
  Peer peer(plain());
  EXPECT_EQ(peer.says({"220 mx", "500 no", "550 no"}), Action::failed);
  EXPECT_EQ(peer.failure(), "550 ehlo");
}

TEST(ClientSession, DoesNotFallBackWhereTlsOrALoginIsNeeded) {
  for (const auto& options : {with_tls(TlsMode::required), with_login()}) {
    Peer peer(options);
    EXPECT_EQ(peer.says({"220 mx", "502 no"}), Action::failed);
    EXPECT_EQ(peer.failure(), "502 ehlo");
  }
}

TEST(ClientSession, ARefusedEhloIsFinal) {
  Peer peer(plain());
  EXPECT_EQ(peer.says({"220 mx", "550 5.7.1 blocked"}), Action::failed);
  EXPECT_EQ(peer.failure(), "550 ehlo");
}

// ---- capabilities
// ------------------------------------------------------------------------------------------------

TEST(Capabilities, AreRead) {
  const auto c =
      parse_capabilities(reply_of("250-mx\r\n250-pipelining\r\n250-STARTTLS\r\n250-8BITMIME\r\n250-"
                                  "SMTPUTF8\r\n250-SIZE 1000\r\n250 AUTH plain LOGIN"));
  EXPECT_TRUE(c.pipelining && c.starttls && c.eight_bit_mime && c.smtputf8 && c.size);
  EXPECT_EQ(c.max_size, 1000u);
  EXPECT_EQ(c.auth, (std::vector<std::string>{"PLAIN", "LOGIN"}));
}

TEST(Capabilities, AreNotTakenFromTheGreetingLine) {
  EXPECT_FALSE(parse_capabilities(reply_of("250-STARTTLS\r\n250 8BITMIME")).starttls);
  EXPECT_FALSE(parse_capabilities(reply_of("250 PIPELINING")).pipelining);
}

TEST(Capabilities, KnowTheOldSpellingOfAuth) {
  EXPECT_EQ(parse_capabilities(reply_of("250-mx\r\n250 AUTH=LOGIN PLAIN")).auth, (std::vector<std::string>{"LOGIN", "PLAIN"}));
}

TEST(Capabilities, SizeMayHaveNoLimit) {
  for (const auto* line : {"SIZE", "SIZE 0", "SIZE none"}) {
    const auto c = parse_capabilities(reply_of("250-mx\r\n250 "s + line));
    EXPECT_TRUE(c.size) << line;
    EXPECT_EQ(c.max_size, 0u) << line;
  }
}

TEST(Capabilities, IgnoreWhatTheyDoNotKnow) {
  const auto c = parse_capabilities(reply_of("250-mx\r\n250-XPIPELINING\r\n250-\r\n250 DSN"));
  EXPECT_FALSE(c.pipelining || c.starttls || c.size);
}

// ---- STARTTLS
// ----------------------------------------------------------------------------------------------------

constexpr std::string_view offers_tls = "250-mx\r\n250-STARTTLS\r\n250 PIPELINING";

TEST(StartTls, IsUsedWhereOffered) {
  for (const auto mode : {TlsMode::opportunistic, TlsMode::required}) {
    Peer peer(with_tls(mode));
    EXPECT_EQ(peer.says({"220 mx", offers_tls}), Action::read);
    EXPECT_TRUE(peer.sent().ends_with("STARTTLS\r\n"));
    EXPECT_EQ(peer.says("220 go"), Action::handshake);
    EXPECT_EQ(peer.sent(), "");
  }
}

TEST(StartTls, StartsTheDialogAgain) {
  Peer peer(with_tls(TlsMode::required));
  peer.says({"220 mx", offers_tls, "220 go"});
  peer.sent();
  EXPECT_EQ(peer.session.tls_done(), Action::read);
  EXPECT_EQ(peer.sent(), "EHLO relay.example.com\r\n");
  EXPECT_TRUE(peer.session.tls_active());
  EXPECT_EQ(peer.says("250 mx"), Action::ready);
}

TEST(StartTls, ForgetsWhatWasOfferedBefore) {
  Peer peer(with_tls(TlsMode::required));
  peer.says({"220 mx", offers_tls, "220 go"});
  peer.session.tls_done();
  EXPECT_FALSE(peer.session.capabilities().pipelining);
  peer.says("250 mx");
  EXPECT_FALSE(peer.session.capabilities().pipelining);
}

TEST(StartTls, IsNotAskedForTwice) {
  Peer peer(with_tls(TlsMode::required));
  peer.says({"220 mx", offers_tls, "220 go"});
  peer.session.tls_done();
  EXPECT_EQ(peer.says(offers_tls), Action::ready);
}

TEST(StartTls, IsNotAskedForWhereTurnedOff) {
  Peer peer(plain());
  EXPECT_EQ(peer.says({"220 mx", offers_tls}), Action::ready);
}

TEST(StartTls, MayBeMissingOrRefusedWhenOpportunistic) {
  Peer missing(with_tls(TlsMode::opportunistic)), refused(with_tls(TlsMode::opportunistic));
  EXPECT_EQ(missing.says({"220 mx", "250 mx"}), Action::ready);
  EXPECT_EQ(refused.says({"220 mx", offers_tls, "454 no"}), Action::ready);
}

TEST(StartTls, MustBeOfferedAndTakenWhenRequired) {
  Peer missing(with_tls(TlsMode::required)), refused(with_tls(TlsMode::required));
  EXPECT_EQ(missing.says({"220 mx", "250 mx"}), Action::failed);
  EXPECT_EQ(refused.says({"220 mx", offers_tls, "454 no"}), Action::failed);
  EXPECT_EQ(missing.session.failure().phase, Phase::tls);
  EXPECT_EQ(refused.failure(), "454 tls");
}

TEST(StartTls, AMissingOfferIsATemporaryFailure) {
  Peer peer(with_tls(TlsMode::required));
  peer.says({"220 mx", "250 mx"});
  EXPECT_TRUE(peer.session.failure().reply.transient());
}

TEST(StartTls, A421EndsTheSession) {
  Peer peer(with_tls(TlsMode::opportunistic));
  EXPECT_EQ(peer.says({"220 mx", offers_tls, "421 bye"}), Action::failed);
}

// ---- AUTH
// --------------------------------------------------------------------------------------------------------

TEST(ClientAuth, PlainGoesInOneLine) {
  Peer peer(with_login());
  EXPECT_EQ(peer.says({"220 mx", "250-mx\r\n250 AUTH LOGIN PLAIN"}), Action::read);
  EXPECT_TRUE(peer.sent().ends_with("AUTH PLAIN " + base64_encode("\0user\0pass"s) + "\r\n"));
  EXPECT_EQ(peer.says("235 ok"), Action::ready);
}

TEST(ClientAuth, LoginAnswersTwoChallenges) {
  Peer peer(with_login({"LOGIN"}));
  peer.says({"220 mx", "250-mx\r\n250 AUTH LOGIN PLAIN"});
  EXPECT_TRUE(peer.sent().ends_with("AUTH LOGIN\r\n"));
  EXPECT_EQ(peer.says("334 VXNlcm5hbWU6"), Action::read);
  EXPECT_EQ(peer.sent(), base64_encode("user") + "\r\n");
  EXPECT_EQ(peer.says("334 UGFzc3dvcmQ6"), Action::read);
  EXPECT_EQ(peer.sent(), base64_encode("pass") + "\r\n");
  EXPECT_EQ(peer.says("235 ok"), Action::ready);
}

TEST(ClientAuth, TakesTheFirstMechanismThatBothKnow) {
  Peer peer(with_login({"PLAIN", "LOGIN"}));
  peer.says({"220 mx", "250-mx\r\n250 AUTH CRAM-MD5 LOGIN"});
  EXPECT_TRUE(peer.sent().ends_with("AUTH LOGIN\r\n"));
}

TEST(ClientAuth, FailsWithoutACommonMechanism) {
  Peer peer(with_login());
  EXPECT_EQ(peer.says({"220 mx", "250-mx\r\n250 AUTH CRAM-MD5"}), Action::failed);
  EXPECT_EQ(peer.session.failure().phase, Phase::auth);
}

TEST(ClientAuth, SendsNoPasswordWithoutTls) {
  for (const auto mode : {TlsMode::none, TlsMode::opportunistic, TlsMode::required})
    for (const auto* ehlo : {"250-mx\r\n250 AUTH PLAIN LOGIN", "250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN"}) {
      ClientOptions options = with_login({"PLAIN", "LOGIN"}, false);
      options.tls = mode;
      Peer peer(options);
      peer.says({"220 mx", ehlo});
      if (peer.session.output().ends_with("STARTTLS\r\n")) peer.says("454 no");
      EXPECT_EQ(peer.sent().find("AUTH"), std::string::npos);
      EXPECT_TRUE(peer.session.closing());
    }
}

TEST(ClientAuth, UsesTheMechanismsOfferedInsideTls) {
  Peer peer(with_login({"PLAIN", "LOGIN"}, false));
  peer.says({"220 mx", "250-mx\r\n250-STARTTLS\r\n250 AUTH LOGIN", "220 go"});
  peer.session.tls_done();
  peer.says("250-mx\r\n250 AUTH PLAIN");
  EXPECT_TRUE(peer.sent().find("AUTH PLAIN ") != std::string::npos);
}

TEST(ClientAuth, AChallengeTooManyIsCancelled) {
  Peer peer(with_login());
  EXPECT_EQ(peer.says({"220 mx", "250-mx\r\n250 AUTH PLAIN", "334 again"}), Action::read);
  EXPECT_TRUE(peer.sent().ends_with("*\r\n"));
  EXPECT_EQ(peer.says("501 cancelled"), Action::failed);
  EXPECT_EQ(peer.failure(), "454 auth");
}

TEST(ClientAuth, DoesNotBelieveAScramServerThatProvesNothing) {
  ClientOptions options = with_login({"SCRAM-SHA-256"});
  options.nonce = "abc";
  Peer peer(options);
  EXPECT_EQ(peer.says({"220 mx", "250-mx\r\n250 AUTH SCRAM-SHA-256 PLAIN", "235 welcome"}), Action::failed);
}

TEST(ClientTransaction, PassesDsnParametersOnWhereTheyAreOffered) {
  for (const bool offered : {true, false}) {
    Peer peer(plain());
    peer.says({"220 mx", offered ? "250-mx\r\n250 DSN" : "250 mx"});
    Envelope envelope = to({"b"});
    envelope.dsn.envid = "Q1";
    envelope.recipient_dsn.resize(1);
    envelope.recipient_dsn[0].never = envelope.recipient_dsn[0].notify_given = true;
    peer.session.send(envelope);
    peer.says({"250 ok"});
    const std::string sent = peer.sent();
    EXPECT_EQ(sent.find("ENVID=Q1") != std::string::npos, offered) << sent;
    EXPECT_EQ(sent.find("NOTIFY=NEVER") != std::string::npos, offered) << sent;
  }
}

TEST(ClientChain, AnnouncesTheNextMessageBehindTheDotOfAKnownServer) {
  Peer peer(plain());
  peer.says({"220 mx ESMTP Postfix", "250-mx\r\n250 PIPELINING"});
  peer.session.send(to({"b"}));
  peer.says({"250 ok", "250 ok", "354 go"});
  const std::string behind = peer.session.chain(to({"c"}));
  EXPECT_EQ(behind, "MAIL FROM:<a@example.com>\r\nRCPT TO:<c@example.net>\r\nDATA\r\n");
  peer.session.body_sent();
  EXPECT_EQ(peer.says("250 queued"), Action::done);
  peer.sent();
  peer.session.send(to({"c"}));
  EXPECT_EQ(peer.sent(), "");
  EXPECT_EQ(peer.says({"250 ok", "250 ok", "354 go"}), Action::body);
  peer.session.body_sent();
  EXPECT_EQ(peer.says("250 queued"), Action::done);
  EXPECT_TRUE(peer.session.outcomes()[0].delivered());
}

TEST(ClientChain, KeepsToRoundTripsWithServersThatItDoesNotKnow) {
  for (const auto* greeting : {"220 mx ESMTP", "220 mx ESMTP Postfix"}) {
    Peer peer(plain());
    const bool known = std::string_view(greeting).ends_with("Postfix");
    peer.says({greeting, known ? "250 mx" : "250-mx\r\n250 PIPELINING"});
    peer.session.send(to({"b"}));
    peer.says({"250 ok", "250 ok", "354 go"});
    EXPECT_EQ(peer.session.chain(to({"c"})), "") << greeting;
  }
}

TEST(ClientAuth, ARefusalIsTheSessionsFailure) {
  for (const auto* refusal : {"535 5.7.8 bad", "454 4.7.0 later", "421 bye", "501 syntax"}) {
    Peer peer(with_login());
    EXPECT_EQ(peer.says({"220 mx", "250-mx\r\n250 AUTH PLAIN", refusal}), Action::failed) << refusal;
    EXPECT_EQ(peer.failure(), std::string(refusal, 3) + " auth");
  }
}

TEST(ClientAuth, KeepsThePasswordOutOfTheFailure) {
  Peer peer(with_login());
  peer.says({"220 mx", "250-mx\r\n250 AUTH PLAIN", "535 5.7.8 bad"});
  EXPECT_EQ(peer.session.failure().reply.to_string().find("pass"), std::string::npos);
}

// ---- transactions, one command at a time
// -------------------------------------------------------------------------

TEST(ClientTransaction, DeliversStepByStep) {
  Peer peer = ready();
  EXPECT_EQ(peer.session.send(to({"b"})), Action::read);
  EXPECT_EQ(peer.sent(), "MAIL FROM:<a@example.com>\r\n");
  EXPECT_EQ(peer.says("250 ok"), Action::read);
  EXPECT_EQ(peer.sent(), "RCPT TO:<b@example.net>\r\n");
  EXPECT_EQ(peer.says("250 ok"), Action::read);
  EXPECT_EQ(peer.sent(), "DATA\r\n");
  EXPECT_EQ(peer.says("354 go"), Action::body);
  EXPECT_EQ(peer.session.body_sent(), Action::read);
  EXPECT_EQ(peer.says("250 queued"), Action::done);
  EXPECT_EQ(peer.outcome(0), "250 final delivered");
}

TEST(ClientTransaction, NamesOnlyParametersThatWereOffered) {
  Envelope envelope = to({"b"});
  envelope.eight_bit = envelope.utf8_header = true;
  Peer all = ready("250-mx\r\n250-SIZE\r\n250-8BITMIME\r\n250 SMTPUTF8"), none = ready();
  all.session.send(envelope);
  envelope.utf8_header = false;
  none.session.send(envelope);
  EXPECT_EQ(all.sent(), "MAIL FROM:<a@example.com> SIZE=1000 BODY=8BITMIME SMTPUTF8\r\n");
  EXPECT_EQ(none.sent(), "MAIL FROM:<a@example.com>\r\n");
}

TEST(ClientTransaction, NamesOnlyParametersThatAreNeeded) {
  Peer peer = ready("250-mx\r\n250-8BITMIME\r\n250 SMTPUTF8");
  peer.session.send(to({"b"}));
  EXPECT_EQ(peer.sent(), "MAIL FROM:<a@example.com>\r\n");
}

TEST(ClientTransaction, SendsTheNullReversePath) {
  Peer peer = ready();
  Envelope envelope = to({"b"});
  envelope.sender = {};
  peer.session.send(envelope);
  EXPECT_EQ(peer.sent(), "MAIL FROM:<>\r\n");
}

TEST(ClientTransaction, ARefusedMailIsTheWordForEveryRecipient) {
  Peer peer = ready();
  peer.session.send(to({"b", "c"}));
  EXPECT_EQ(peer.says("550 5.7.1 blocked"), Action::done);
  EXPECT_EQ(peer.outcome(0), "550 mail");
  EXPECT_EQ(peer.outcome(1), "550 mail");
}

TEST(ClientTransaction, RecipientsMayEndDifferently) {
  Peer peer = ready();
  peer.session.send(to({"b", "c", "d"}));
  EXPECT_EQ(peer.says({"250 ok", "250 ok", "550 unknown", "451 later", "354 go"}), Action::body);
  peer.session.body_sent();
  EXPECT_EQ(peer.says("250 queued"), Action::done);
  EXPECT_EQ(peer.outcome(0), "250 final delivered");
  EXPECT_EQ(peer.outcome(1), "550 rcpt");
  EXPECT_EQ(peer.outcome(2), "451 rcpt");
}

TEST(ClientTransaction, SendsNoDataWhenEveryRecipientIsRefused) {
  Peer peer = ready();
  peer.session.send(to({"b", "c"}));
  EXPECT_EQ(peer.says({"250 ok", "550 no", "550 no"}), Action::done);
  EXPECT_EQ(peer.sent().find("DATA"), std::string::npos);
}

TEST(ClientTransaction, ARefusalAfterTheDotIsForThoseThatWereAccepted) {
  Peer peer = ready();
  peer.session.send(to({"b", "c"}));
  peer.says({"250 ok", "250 ok", "550 unknown", "354 go"});
  peer.session.body_sent();
  EXPECT_EQ(peer.says("554 spam"), Action::done);
  EXPECT_EQ(peer.outcome(0), "554 final");
  EXPECT_EQ(peer.outcome(1), "550 rcpt");
}

TEST(ClientTransaction, A2xxToDataIsNoDelivery) {
  for (const std::string_view ehlo : {"250 mx"sv, pipelining}) {
    Peer peer = ready(ehlo);
    peer.session.send(to({"b"}));
    EXPECT_EQ(peer.says({"250 ok", "250 ok", "250 stray"}), Action::done);
    EXPECT_EQ(peer.outcome(0), "250 data");
  }
}

TEST(ClientTransaction, A3xxToTheDotIsNoDelivery) {
  Peer peer = ready();
  peer.session.send(to({"b"}));
  peer.says({"250 ok", "250 ok", "354 go"});
  peer.session.body_sent();
  EXPECT_EQ(peer.says("354 again"), Action::done);
  EXPECT_FALSE(peer.session.outcomes()[0].delivered());
}

// ---- pipelined
// ---------------------------------------------------------------------------------------------------

TEST(ClientPipelining, SendsTheEnvelopeInOneWrite) {
  Peer peer = ready(pipelining);
  peer.session.send(to({"b", "c"}));
  EXPECT_EQ(peer.sent(), "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nRCPT TO:<c@example.net>\r\nDATA\r\n");
  EXPECT_EQ(peer.says({"250 ok", "250 ok", "250 ok", "354 go"}), Action::body);
  EXPECT_EQ(peer.sent(), "");
  peer.session.body_sent();
  EXPECT_EQ(peer.says("250 queued"), Action::done);
  EXPECT_EQ(peer.outcome(0), "250 final delivered");
  EXPECT_EQ(peer.outcome(1), "250 final delivered");
}

TEST(ClientPipelining, PairsEachReplyWithItsRecipient) {
  Peer peer = ready(pipelining);
  peer.session.send(to({"b", "c", "d"}));
  EXPECT_EQ(peer.says({"250 ok", "550 unknown", "250 ok", "452 full", "354 go"}), Action::body);
  peer.session.body_sent();
  EXPECT_EQ(peer.says("250 queued"), Action::done);
  EXPECT_EQ(peer.outcome(0), "550 rcpt");
  EXPECT_EQ(peer.outcome(1), "250 final delivered");
  EXPECT_EQ(peer.outcome(2), "452 rcpt");
}

TEST(ClientPipelining, EndsATakenDataWithALoneDotWhenNobodyIsLeft) {
  Peer peer = ready(pipelining);
  peer.session.send(to({"b", "c"}));
  peer.sent();
  EXPECT_EQ(peer.says({"250 ok", "550 no", "550 no", "354 go"}), Action::read);
  EXPECT_EQ(peer.sent(), ".\r\n");
  EXPECT_EQ(peer.says("250 queued"), Action::done);
  EXPECT_EQ(peer.outcome(0), "550 rcpt");
  EXPECT_EQ(peer.outcome(1), "550 rcpt");
}

TEST(ClientPipelining, ReadsOnAfterARefusedMail) {
  Peer peer = ready(pipelining);
  peer.session.send(to({"b"}));
  EXPECT_EQ(peer.says("550 5.7.1 blocked"), Action::read);
  EXPECT_EQ(peer.says("503 no MAIL"), Action::read);
  EXPECT_EQ(peer.says("503 no RCPT"), Action::done);
  EXPECT_EQ(peer.outcome(0), "550 mail");
}

TEST(ClientPipelining, ARefusedMailStaysRefusedWhateverFollows) {
  Peer peer = ready(pipelining);
  peer.session.send(to({"b"}));
  peer.sent();
  EXPECT_EQ(peer.says({"550 blocked", "250 ok", "354 go"}), Action::read);
  EXPECT_EQ(peer.sent(), ".\r\n");
  EXPECT_EQ(peer.says("250 queued"), Action::done);
  EXPECT_EQ(peer.outcome(0), "550 mail");
}

TEST(ClientPipelining, ARefusedDataIsTheWordForThoseThatWereAccepted) {
  Peer peer = ready(pipelining);
  peer.session.send(to({"b", "c"}));
  EXPECT_EQ(peer.says({"250 ok", "250 ok", "550 no", "451 busy"}), Action::done);
  EXPECT_EQ(peer.outcome(0), "451 data");
  EXPECT_EQ(peer.outcome(1), "550 rcpt");
}

// ---- 421 and the end
// ---------------------------------------------------------------------------------------------

TEST(ClientClosing, A421AtMailEndsTheSession) {
  for (const std::string_view ehlo : {"250 mx"sv, pipelining}) {
    Peer peer = ready(ehlo);
    peer.session.send(to({"b"}));
    EXPECT_EQ(peer.says("421 bye"), Action::done);
    EXPECT_TRUE(peer.session.closing());
    EXPECT_EQ(peer.outcome(0), "421 mail");
  }
}

TEST(ClientClosing, A421AmongRecipientsIsTheWordForTheRest) {
  for (const std::string_view ehlo : {"250 mx"sv, pipelining}) {
    Peer peer = ready(ehlo);
    peer.session.send(to({"b", "c", "d", "e"}));
    EXPECT_EQ(peer.says({"250 ok", "250 ok", "550 unknown", "421 bye"}), Action::done);
    EXPECT_TRUE(peer.session.closing());
    EXPECT_EQ(peer.outcome(0), "421 rcpt");
    EXPECT_EQ(peer.outcome(1), "550 rcpt");
    EXPECT_EQ(peer.outcome(2), "421 rcpt");
    EXPECT_EQ(peer.outcome(3), "421 rcpt");
  }
}

TEST(ClientClosing, A421AfterTheDotIsNoDelivery) {
  Peer peer = ready();
  peer.session.send(to({"b"}));
  peer.says({"250 ok", "250 ok", "354 go"});
  peer.session.body_sent();
  EXPECT_EQ(peer.says("421 bye"), Action::done);
  EXPECT_EQ(peer.outcome(0), "421 final");
  EXPECT_TRUE(peer.session.closing());
}

TEST(ClientClosing, AnUnaskedReplyBreaksTheSession) {
  Peer peer = ready();
  EXPECT_EQ(peer.says("421 idle too long"), Action::failed);
  EXPECT_TRUE(peer.session.closing());
}

TEST(ClientClosing, AReplyInTheMiddleOfTheBodyBreaksTheSession) {
  Peer peer = ready();
  peer.session.send(to({"b"}));
  peer.says({"250 ok", "250 ok", "354 go"});
  EXPECT_EQ(peer.says("250 too early"), Action::failed);
  EXPECT_FALSE(peer.session.outcomes()[0].delivered());
}

TEST(ClientClosing, QuitIsPolite) {
  Peer peer = ready();
  peer.session.quit();
  EXPECT_EQ(peer.sent(), "QUIT\r\n");
}

// ---- the next transaction
// ----------------------------------------------------------------------------------------

void deliver(Peer& peer) {
  peer.session.send(to({"b"}));
  peer.says({"250 ok", "250 ok", "354 go"});
  peer.session.body_sent();
  EXPECT_EQ(peer.says("250 queued"), Action::done);
  peer.sent();
}

TEST(ClientReuse, NeedsNoResetAfterADelivery) {
  Peer peer = ready();
  deliver(peer);
  peer.session.send(to({"c"}));
  EXPECT_EQ(peer.sent(), "MAIL FROM:<a@example.com>\r\n");
}

TEST(ClientReuse, ResetsAnAbandonedTransactionFirst) {
  Peer peer = ready();
  peer.session.send(to({"b"}));
  EXPECT_EQ(peer.says({"250 ok", "550 unknown"}), Action::done);
  peer.sent();
  peer.session.send(to({"c"}));
  EXPECT_EQ(peer.sent(), "RSET\r\n");
  EXPECT_EQ(peer.says("250 ok"), Action::read);
  EXPECT_EQ(peer.sent(), "MAIL FROM:<a@example.com>\r\n");
}

TEST(ClientReuse, ResetsAfterARefusedDataToo) {
  Peer peer = ready(pipelining);
  peer.session.send(to({"b"}));
  EXPECT_EQ(peer.says({"250 ok", "250 ok", "451 busy"}), Action::done);
  peer.sent();
  peer.session.send(to({"c"}));
  EXPECT_EQ(peer.sent(), "RSET\r\n");
}

TEST(ClientReuse, ARefusedResetEndsTheSession) {
  Peer peer = ready();
  peer.session.send(to({"b"}));
  peer.says({"250 ok", "550 unknown"});
  peer.session.send(to({"c"}));
  EXPECT_EQ(peer.says("421 bye"), Action::failed);
  EXPECT_TRUE(peer.session.closing());
}

TEST(ClientReuse, ForgetsTheOutcomesOfTheLastTransaction) {
  Peer peer = ready();
  deliver(peer);
  peer.session.send(to({"c", "d"}));
  EXPECT_EQ(peer.session.outcomes().size(), 2u);
  EXPECT_FALSE(peer.session.outcomes()[0].delivered());
}

// ---- what a lost connection means
// --------------------------------------------------------------------------------

TEST(ClientPhase, IsThatOfTheNextReply) {
  Peer peer(plain());
  EXPECT_EQ(peer.session.phase(), Phase::connect);
  peer.says("220 mx");
  EXPECT_EQ(peer.session.phase(), Phase::ehlo);
  peer.says("250 mx");
  peer.session.send(to({"b"}));
  EXPECT_EQ(peer.session.phase(), Phase::mail);
  peer.says("250 ok");
  EXPECT_EQ(peer.session.phase(), Phase::rcpt);
  peer.says("250 ok");
  EXPECT_EQ(peer.session.phase(), Phase::data);
  peer.says("354 go");
  peer.session.body_sent();
  EXPECT_EQ(peer.session.phase(), Phase::final_dot);
}

TEST(ClientPhase, OnlyTheFinalReplyIsAmbiguous) {
  Peer peer = ready();
  peer.session.send(to({"b"}));
  for (const auto* reply : {"250 ok", "250 ok", "354 go"}) {
    EXPECT_FALSE(peer.session.awaiting_final_reply());
    peer.says(reply);
  }
  EXPECT_FALSE(peer.session.awaiting_final_reply());
  peer.session.body_sent();
  EXPECT_TRUE(peer.session.awaiting_final_reply());
  peer.says("250 queued");
  EXPECT_FALSE(peer.session.awaiting_final_reply());
}

TEST(ClientPhase, ALoneDotIsNotAmbiguous) {
  Peer peer = ready(pipelining);
  peer.session.send(to({"b"}));
  peer.says({"250 ok", "550 no", "354 go"});
  EXPECT_FALSE(peer.session.awaiting_final_reply());
}

TEST(ClientPhase, NamesRoundTrip) {
  for (const auto phase :
       {Phase::connect, Phase::ehlo, Phase::tls, Phase::auth, Phase::mail, Phase::rcpt, Phase::data, Phase::final_dot})
    EXPECT_EQ(parse_phase(to_string(phase)), phase);
  EXPECT_FALSE(parse_phase("unknown"));
}

}  // namespace
}  // namespace egret::smtp
