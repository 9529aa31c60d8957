// A job: some recipients of one message that travel together, to one site once that is known.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "relay/budgets.hpp"
#include "relay/delivery/pass_through.hpp"
#include "relay/dns/sites.hpp"
#include "relay/spool/format.hpp"
#include "routing/route.hpp"

namespace egret::relay {

/// What a waiting message is known by. Shared by its jobs, which may be on different workers.
struct MessageRef {
  MessageRef() = default;
  /// What is known of the message, for a report about it: no part of it that is open, and nobody who waits.
  explicit MessageRef(const MessageRef& other)
      : id(other.id),
        message_class(other.message_class),
        accepted(other.accepted),
        expires(other.expires),
        size(other.size),
        report(other.report) {}

  smtp::MessageId id{};
  std::uint32_t message_class = 0;
  routing::Time accepted{};
  routing::Time expires{};
  std::uint64_t size = 0;
  bool report = false;                 ///< a DSN of our own: never answered with another
  std::atomic<std::uint32_t> open{0};  ///< recipients not done
  std::atomic<bool> poison{false};     ///< found to be poison: no worker tries it until it is released
  std::shared_ptr<PassThrough> pass;   ///< somebody waits for the verdict: nothing of it is in the spool
};

struct Job {
  std::shared_ptr<MessageRef> message;
  std::shared_ptr<const spool::Message> content;  ///< null while the job rests: read back when it is due
  std::shared_ptr<const Site> site;               ///< null until the domain was looked up
  std::uint32_t pool = 0;                         ///< known together with the site
  std::uint64_t version = 0;                      ///< of the configuration that site and pool are from
  std::vector<std::uint32_t> recipients;          ///< indices into the message's

  std::string sender_domain;  ///< of the envelope, lower case; known together with the site

  std::uint32_t attempts = 0;  ///< rounds that ended without an end
  routing::Time next_at{};
  std::optional<routing::EgressRef> sticky;  ///< the egress it keeps to
  bool sticky_strict = false;                ///< also while that egress is out of service (ambiguous, content)
  bool ambiguous = false;
  bool warned = false;
  std::string last_reply;
  std::string last_host;

  // This round.
  std::vector<routing::Excluded> tried;
  std::string tls;            ///< how the last connection was secured
  std::string route;          ///< the explanation of the last decision
  routing::EgressRef egress;  ///< chosen
  bool holds_trial = false;
  std::optional<Charge> charged;        ///< what was taken from budgets for it
  bool canary = false;                  ///< goes by a smarthost only to see whether that works
  std::optional<routing::Time> shaped;  ///< when the source's cap and rate were charged for it
  int reconnects = 0;
  bool called = false;  ///< from where it was put away (parking.cpp): others that were are not before it
};

using JobPtr = std::unique_ptr<Job>;

/// Before it rests beside perhaps a hundred thousand others: what this round took is given back, not only emptied.
inline void strip(Job& job) {
  job.content.reset();
  job.site.reset();
  std::vector<routing::Excluded>().swap(job.tried);
  std::string().swap(job.route);
  std::string().swap(job.tls);
  job.called = false;
}

/// A job for some of the recipients of another, which keeps its trial and what was charged for it.
inline JobPtr part_of(JobPtr whole, std::vector<std::uint32_t> recipients) {
  whole->recipients = std::move(recipients);
  whole->holds_trial = false;
  whole->charged.reset();
  whole->shaped.reset();
  return whole;
}
inline JobPtr part_of(const Job& job, std::vector<std::uint32_t> recipients) {
  return part_of(std::make_unique<Job>(job), std::move(recipients));
}

/// Divides a job, whose trial and charge were given back. Its last part is the job itself: what is not divided is not copied, and
/// holds its message alone, so that it is kept as the fewest octets while it rests (Resting).
class Parts {
 public:
  /// `done` of the recipients will be in no part.
  explicit Parts(JobPtr whole, std::size_t done = 0) : whole_(std::move(whole)), left_(whole_->recipients.size() - done) {}
  /// Not to be called behind the last take().
  Job& whole() { return *whole_; }
  JobPtr take(std::vector<std::uint32_t> recipients) {
    if (recipients.size() < left_) {
      left_ -= recipients.size();
      return part_of(*whole_, std::move(recipients));
    }
    left_ = 0;
    return part_of(std::move(whole_), std::move(recipients));
  }

 private:
  JobPtr whole_;
  std::size_t left_;  ///< recipients that are in no part yet
};

}  // namespace egret::relay
