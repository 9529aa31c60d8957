// The durable store of accepted messages: an append-only log with group commit.
//
// Any thread hands in records; one writer thread appends all that wait and makes them durable with one fdatasync,
// then completes the operations on the threads they came from. The writer alone owns the index (message id -> place).
// Once an accept has completed without an error the message survives any crash until done() is durable.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "relay/runtime/operation.hpp"
#include "relay/spool/format.hpp"
#include "relay/spool/sync_times.hpp"

namespace egret::relay::spool {

/// Why something was not stored.
enum class Trouble {
  none,
  no_space,  ///< temporary: below the reserve, or the disk is full
  broken,    ///< a write or sync failed: nothing more is stored until the program starts again
};

struct Options {
  std::filesystem::path directory;
  std::uint64_t reserve = 1u << 30;                  ///< octets of free disk that accepting leaves alone
  std::chrono::milliseconds lazy_sync{50};           ///< the longest that DONE and PROGRESS wait for their sync
  std::uint32_t segment_size = spool::segment_size;  ///< smaller ones are for tests
  std::uint32_t step = 8u << 20;                     ///< disk taken at a time: a multiple of it, or the whole segment
  std::function<void()> alive{};                     ///< called while start() makes progress: after each segment, or oftener
};

/// A message that was waiting when the program started, without its body.
struct Recovered {
  smtp::MessageId id{};
  std::string class_name;
  routing::Time accepted{};
  std::uint64_t body_size = 0;
  bool report = false;
  /// Pending recipients that wait together, as last recorded; a message without any Progress has one group with all.
  std::vector<Progress> groups;
};

struct Counters {
  std::uint64_t waiting = 0;  ///< messages not done
  std::uint64_t segments = 0;
  std::uint64_t syncs = 0;
  std::uint64_t records = 0;
};

class Spool {
 public:
  /// Opens or creates the spool and reads it. `recovered` is called for every waiting message, in order of
  /// acceptance; what it is given is used again for the next one. Throws std::runtime_error with one line for people: another
  /// version, damage (with segment and offset), a directory that cannot be written, another program using it.
  Spool(Options options, const std::function<void(const Recovered&)>& recovered);
  /// In two steps, for whoever needs the spool before it can take messages: locks the directory; start() does the rest
  /// and throws what the other constructor throws. Nothing else may be called before it.
  explicit Spool(Options options);
  void start(const std::function<void(const Recovered&)>& recovered);
  /// Syncs what is pending and stops the writer.
  ~Spool();

  /// The program is about to end: a write that finds no room does not wait for some any more (Trouble::broken for whoever
  /// waits for it). Any thread.
  void end_waiting();

  /// Makes the message durable. Its chunks must have been stored before.
  boost::asio::awaitable<Trouble> accept(std::shared_ptr<const Message> message);
  /// The same without waiting, for reports of our own: goes below the reserve, and its order with later calls is kept, also
  /// where a full disk makes it wait.
  void accept_internal(std::shared_ptr<const Message> message);

  struct StoredChunk {
    Trouble trouble = Trouble::none;
    Extent extent;
  };
  /// Appends a piece of a body that is still coming in (at most 4 MB). Not synced by itself.
  boost::asio::awaitable<StoredChunk> chunk(std::string octets);

  /// Gives up pieces that no message will name.
  void abandon(std::vector<Extent> extents);

  /// Recorded within `lazy_sync`.
  void progress(Progress progress);
  void done(smtp::MessageId id);

  /// Reads a waiting message back; null when it is unknown or cannot be read.
  boost::asio::awaitable<std::shared_ptr<const Message>> read(smtp::MessageId id);
  /// Reads who sent which waiting messages to whom, without their bodies; null where one is unknown or cannot be read.
  /// One after another on the reading thread, which others wait for: a few hundred at a time.
  boost::asio::awaitable<std::vector<std::shared_ptr<const Message>>> envelopes(std::vector<smtp::MessageId> ids);
  /// Reads a piece of a body; empty when it cannot be read.
  boost::asio::awaitable<std::string> read(Extent extent);

  /// A fresh id, greater than all before.
  smtp::MessageId next_id();

  /// Any thread. `broken` also says that nothing may be delivered: its DONE could not be recorded.
  Trouble trouble() const;
  /// Less than twice the reserve is free: what can wait should not be accepted. Any thread.
  bool low() const;
  /// True while the end of a delivery could not be recorded: delivering on would send twice after a restart.
  bool delivery_paused() const;
  std::string trouble_text() const;
  Counters counters() const;
  SyncTimes& sync_times() const;  ///< any thread; its watcher is spool::Watch

  class Impl;

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace egret::relay::spool
