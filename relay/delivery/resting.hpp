// Jobs that wait for their time, at some 60 octets each: a queue of a million is mostly these.
//
// A job is kept here as numbers when everything else about it is on disk: it has no body, site or connection. A part of a
// message of which others hold parts takes some 100 octets more, for what they share. What the last server said is kept
// once for all jobs it was said to; with too many different texts, only the codes. When a job is due it is made again.
// Used from one worker's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "relay/delivery/job.hpp"

namespace egret::relay {

/// Texts, each kept once while somebody uses it.
class SharedTexts {
 public:
  using Handle = std::uint32_t;  ///< 0 is the empty text

  /// With `limit` different ones in use, `shorter` is kept in place of `text`.
  Handle keep(const std::string& text, const std::string& shorter, std::size_t limit);
  void release(Handle handle);
  const std::string& operator[](Handle handle) const;
  std::size_t size() const { return known_.size(); }

 private:
  struct Text {
    const std::string* text = nullptr;  ///< the key in known_
    std::uint32_t users = 0;
  };
  std::unordered_map<std::string, Handle> known_;
  std::vector<Text> texts_;
  std::vector<Handle> free_;
  Handle last_ = 0;  ///< what was kept last: neighbours mostly heard the same
};

class Resting {
 public:
  /// When a message of a class that was accepted then is given up.
  using Expires = std::function<routing::Time(std::uint32_t message_class, routing::Time accepted)>;

  /// Different texts kept whole; a receiver may say something else to each message.
  static constexpr std::size_t most_texts = 4096;

  explicit Resting(Expires expires) : expires_(std::move(expires)) {}

  /// All that is kept of a message that is one job; `first` to `first + recipients - 1` are the recipients.
  struct Facts {
    smtp::MessageId id{};
    std::uint32_t message_class = 0;
    routing::Time accepted{};
    routing::Time next_at{};
    std::uint64_t size = 0;
    std::uint32_t first = 0, recipients = 0;
    std::uint32_t attempts = 0;
    std::optional<routing::EgressRef> sticky;
    bool report = false, strict = false, ambiguous = false, warned = false;
    const std::string& reply;
    const std::string& host;
  };

  /// Whether add() may have it: with neither body nor site, and nobody waits for its verdict.
  static bool fits(const Job& job) { return !job.content && !job.site && !job.message->pass; }
  void add(JobPtr job);
  /// add() for the many that waited when the program started: sort() has to follow before anything else is asked.
  void load(JobPtr job);
  /// The same for what never was a job.
  void load(const Facts& facts);
  void sort();
  std::size_t size() const;
  std::size_t size(std::uint32_t message_class) const;
  bool empty() const { return size() == 0; }
  /// visit(class, jobs) for the classes that have any.
  void for_each_class(const std::function<void(std::uint32_t message_class, std::size_t jobs)>& visit) const;
  /// When the first is due; max() when there is none.
  routing::Time next() const;
  /// Up to `most` of each class that `wanted(class)` says that are due at `time`, the longest due first.
  std::vector<JobPtr> take_due(routing::Time time, std::size_t most, const std::function<bool(std::uint32_t)>& wanted);

  /// What the queue listing shows.
  struct Row {
    smtp::MessageId id{};
    std::uint32_t message_class = 0;
    routing::Time accepted{};
    routing::Time next_at{};
    std::uint32_t attempts = 0;
    std::uint32_t recipients = 0;
    const std::string& last_reply;
  };
  void each(const std::function<void(const Row&)>& visit) const;
  /// Those of one message, made again; they stay here.
  std::vector<JobPtr> copies_of(smtp::MessageId id) const;
  /// Each as a job that is made again only for this.
  void for_each_job(const std::function<void(const Job&)>& visit) const;
  /// Calls visit for each as a job; true means that it was taken. One of which a part was taken goes to `changed`.
  void erase_if(const std::function<bool(JobPtr&)>& visit, std::vector<JobPtr>& changed);

 private:
  struct Entry {
    smtp::MessageId id{};
    routing::Time next_at{};
    routing::Time accepted{};
    std::uint32_t size = 0;   ///< octets, at most this type's
    std::uint32_t first = 0;  ///< recipients first .. first + count - 1; or the place in others_
    std::uint32_t count = 0;
    std::uint32_t attempts = 0;
    std::uint32_t egress = 0;
    SharedTexts::Handle reply = 0;
    SharedTexts::Handle host = 0;
    std::uint8_t flags = 0;
  };
  struct LaterFirst {
    bool operator()(const Entry& a, const Entry& b) const { return a.next_at != b.next_at ? a.next_at > b.next_at : a.id > b.id; }
  };
  using Heap = std::deque<Entry>;  // in pieces: growing copies nothing
  /// What an entry has no room for.
  struct Other {
    std::shared_ptr<MessageRef> message;
    std::vector<std::uint32_t> recipients;
  };

  static Facts facts_of(const Job& job);
  Entry entry_of(const Facts& facts);
  void load(std::uint32_t message_class, const Entry& entry) { by_class_[message_class].push_back(entry); }
  std::uint32_t keep_other(Job& job);
  JobPtr make(std::uint32_t message_class, const Entry& entry) const;
  void release(const Entry& entry);

  Expires expires_;
  std::map<std::uint32_t, Heap> by_class_;
  SharedTexts replies_, hosts_;
  std::deque<Other> others_;
  std::vector<std::uint32_t> free_others_;
};

}  // namespace egret::relay
