// The poison guard: a message that every source is blocked for is itself the suspect, not the sources.
//
// It decides from refusals when a message is poison (design: "Poison guard"), when a sender's mail is slowed or held for
// poison or for content, and names the evidence that has to be taken back. One bad message must not burn every IP.
// A value with bounded memory; time is an argument. Not thread-safe: it has one owner.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "routing/route.hpp"
#include "routing/types.hpp"

namespace egret::routing {

struct PoisonPolicy {
  int poison_after = 3;  ///< different sources; 0: the guard is switched off
  int held_after = 2;    ///< poison messages after which the sender's mail is held
  int slow_after = 20;   ///< messages refused for content within `window` after which the sender is slowed
  int hold_after = 100;  ///< the same, after which his mail is held
  /// A sender who is heard as well as refused is judged by the refused part of his mail in `window`: below this nothing
  /// happens to him.
  double content_share = 0.10;
  Duration window{std::chrono::hours(1)};
  Duration slow_interval{std::chrono::minutes(1)};     ///< between two messages of a slowed sender
  Duration memory{std::chrono::hours(24)};             ///< of messages
  Duration sender_memory{std::chrono::hours(7 * 24)};  ///< of a sender's poison messages
  std::size_t max_messages = 10'000;                   ///< remembered; the longest untouched is forgotten first
  std::size_t max_senders = 10'000;
};

/// A source and the provider that blocked it: where evidence has to be taken back.
struct Concerned {
  std::string source;
  std::string provider;
  auto operator<=>(const Concerned&) const = default;
};

/// A reply that blames the egress for a message (label ip_blocked; ip_config is never the message's fault).
struct BlockedMessage {
  std::uint64_t message = 0;  ///< 0: unknown, never judged
  std::string_view sender;    ///< envelope sender; empty: the null sender, who is never held
  EgressKind kind = EgressKind::source;
  std::string_view egress;  ///< name
  std::string_view provider;
  std::size_t pool_sources = 0;  ///< sources of the pool: with fewer than poison_after nothing is poison
};

struct PoisonVerdict {
  /// `poison`: hold the message and withdraw its evidence. `sender_held`: the same, and hold the sender's other mail.
  enum class Kind { nothing, poison, sender_held };
  Kind kind = Kind::nothing;
  bool late = false;  ///< one more refusal of a message that was found to be poison before: withdraw it, tell nobody
  std::uint64_t message = 0;
  std::string sender;
  std::vector<Concerned> concerned;  ///< every (source, provider) whose evidence is to be withdrawn; sorted
  std::string reason;                ///< "blocked through out1, out2, out3"
};

struct ContentVerdict {
  /// What this refusal changed for the sender.
  enum class Kind { nothing, slowed, held };
  Kind kind = Kind::nothing;
  std::string reason;
};

/// Whether a sender's message may be tried now.
struct Admission {
  enum class Kind { go, wait, held };
  Kind kind = Kind::go;
  std::optional<Time> until;  ///< for wait
  std::string reason;
};

/// All that is remembered: what is saved and put back.
struct PoisonMemory {
  struct Message {
    std::string sender;
    std::vector<Concerned> concerned;  ///< sorted
    Time touched{};
    bool poison = false;
    bool operator==(const Message&) const = default;
  };
  struct Sender {
    std::vector<std::pair<std::uint64_t, Time>> poison;   ///< his poison messages
    std::vector<std::pair<std::uint64_t, Time>> content;  ///< his messages refused for content, oldest first
    std::uint64_t refused = 0;                            ///< for content; this and `delivered` halve with each window
    std::uint64_t delivered = 0;
    Time counted{};
    bool slowed = false;
    Time next{};       ///< when slowed: not before
    Time queued{};     ///< when slowed: the next time that nobody who waits has been given yet
    std::string held;  ///< why; empty: not held
    Time held_since{};
    Time touched{};
    bool operator==(const Sender&) const = default;
  };
  std::map<std::uint64_t, Message> messages;
  std::map<std::string, Sender, std::less<>> senders;
  bool operator==(const PoisonMemory&) const = default;
};

class PoisonGuard {
 public:
  explicit PoisonGuard(PoisonPolicy policy = {}, PoisonMemory memory = {});

  /// A message was blocked through an egress. The same source twice counts once, smarthosts never.
  PoisonVerdict blocked(const BlockedMessage& seen, Time now);
  /// A message was refused for its content. Several refusals of one message count once.
  ContentVerdict content(std::uint64_t message, std::string_view sender, Time now);
  /// A recipient took a message. Of interest only for senders who were refused before; cheap for all others.
  void delivered(std::string_view sender, Time now);
  /// Whether the sender's next message may be tried; a slowed sender's turn is taken by asking.
  Admission admit(std::string_view sender, Time now);
  /// The message has ended, or was released by the operator: what it did is forgotten, but not that it was poison.
  void forget(std::uint64_t message);
  /// Lets a held or slowed sender go; what he did is forgotten. False: he was neither.
  bool release(std::string_view sender);
  /// Why a sender is held; null: he is not.
  const PoisonMemory::Sender* held(std::string_view sender) const;
  /// Every sender who is held, by name.
  std::vector<std::string> held_senders() const;
  /// Forgets what is too old. Call it now and then; the other functions look at the age of what they use.
  void age(Time now);

  const PoisonMemory& memory() const { return memory_; }
  const PoisonPolicy& policy() const { return policy_; }

  /// How senders are compared: the domain without regard to case.
  static std::string key_of(std::string_view sender);

 private:
  using Senders = std::map<std::string, PoisonMemory::Sender, std::less<>>;
  PoisonMemory::Message& message_of(const BlockedMessage& seen, Time now);
  PoisonMemory::Sender* sender_of(std::string_view sender, Time now);
  bool note_poison(const BlockedMessage& seen, Time now);
  void age_sender(PoisonMemory::Sender& sender, Time now) const;
  bool too_much_content(const PoisonMemory::Sender& sender, int limit) const;

  PoisonPolicy policy_;
  PoisonMemory memory_;
};

/// The memory as JSON text, and back; nullopt when the text is none of ours. A point in the future is read as `now`,
/// so that no clock that was once wrong makes anything live longer.
std::string encode_poison(const PoisonMemory& memory);
std::optional<PoisonMemory> decode_poison(std::string_view text, Time now);

}  // namespace egret::routing
