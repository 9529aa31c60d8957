// The MTA-STS policies of all domains (RFC 8461 section 5): looked up when mail goes to a domain, remembered for as
// long as they say, kept over restarts in one file. Losing the file loses no mail, only the memory of who has a policy.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "relay/dns/resolver.hpp"
#include "relay/net/deadlines.hpp"
#include "routing/mta_sts.hpp"

namespace egret::relay {

/// Shared by all workers; find() and size() may be called from any thread. Must outlive the workers' io_contexts.
class StsCache {
 public:
  /// Reads `directory`/mta-sts.json if it is there; one that cannot be used is ignored with a warning. `allow_private`:
  /// policy hosts may have private addresses. Throws std::runtime_error when TLS cannot be set up.
  StsCache(const std::filesystem::path& directory, bool allow_private);
  ~StsCache();

  /// The policy that holds for mail to `domain` (the recipient's, as A-labels): mode testing or enforce. nullopt where
  /// there is none, one with mode none, or none that could be had: TLS is then opportunistic. Asks the DNS and the
  /// policy host where needed, within `deadline` and 60 seconds. Only one caller fetches for a domain at a time; the
  /// others get what was known before, or wait for it. `resolver` and `deadlines` are those of the calling worker.
  boost::asio::awaitable<std::optional<routing::StsPolicy>> find(std::string domain, Resolver& resolver, Deadlines& deadlines,
                                                                 Deadline deadline);

  /// Whether policies may be fetched from addresses of private networks, from now on. Any thread.
  void allow_private(bool allowed);

  /// Policies remembered.
  std::size_t size() const;

  /// Saves what changed every few seconds, on `executor` (the control thread's).
  void start(const boost::asio::any_io_executor& executor);
  /// Saves what changed and ends that; on the same thread.
  void stop();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace egret::relay
