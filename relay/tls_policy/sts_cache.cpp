#include "relay/tls_policy/sts_cache.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <list>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "relay/runtime/log.hpp"
#include "relay/tls_policy/sts_fetch.hpp"
#include "smtp/address.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using routing::StsAction;
using routing::StsCached;
using routing::StsRecord;
using CachedPtr = std::shared_ptr<const StsCached>;

constexpr std::size_t max_policies = 50'000;
constexpr std::size_t max_octets = 64u << 20;  // of all policies: a policy file may have 64 KB
constexpr std::size_t max_lookups = 100'000;
constexpr std::size_t max_fetches = 500;  // at the same time
constexpr std::uintmax_t max_file = 256u << 20;
constexpr auto fetch_timeout = 60s;
constexpr auto save_interval = 5s;
constexpr int save_share = 100;  // saving takes at most this fraction of the time
constexpr std::size_t slice = 500;

/// A map that knows which of its keys was not used for longest.
template <class T>
class RecentMap {
 public:
  /// Null where there is none; else it is now the most recent.
  T* find(const std::string& key) {
    const auto it = items_.find(key);
    if (it == items_.end()) return nullptr;
    order_.splice(order_.end(), order_, it->second.place);
    return &it->second.value;
  }
  T& at_or_new(const std::string& key) {
    if (T* known = find(key)) return *known;
    const auto it = items_.emplace(key, Item{}).first;
    it->second.place = order_.insert(order_.end(), it);
    return it->second.value;
  }
  /// Removes the oldest; must not be empty.
  T drop_oldest() {
    const auto it = order_.front();
    T value = std::move(it->second.value);
    order_.pop_front();
    items_.erase(it);
    return value;
  }
  /// Up to `count` items whose keys come after `key`.
  std::vector<std::pair<std::string, T>> after(const std::string& key, std::size_t count) const {
    std::vector<std::pair<std::string, T>> out;
    for (auto it = items_.upper_bound(key); it != items_.end() && out.size() < count; ++it)
      out.emplace_back(it->first, it->second.value);
    return out;
  }
  std::size_t size() const { return items_.size(); }

 private:
  struct Item;
  using Items = std::map<std::string, Item>;
  struct Item {
    T value{};
    typename std::list<typename Items::iterator>::iterator place{};
  };
  Items items_;
  std::list<typename Items::iterator> order_;
};

/// What is known of a domain besides its policy, for a short time only.
struct Lookup {
  StsRecord record;
  Deadline fresh_until{};
  routing::StsFailures failures;
};

std::size_t cost(const StsCached& cached) {
  std::size_t octets = 512;
  for (const std::string& mx : cached.policy.mx) octets += sizeof mx + mx.size();
  return octets;
}

StsRecord to_record(const DnsReply& reply) {
  switch (reply.status) {
    case DnsReply::Status::ok:
      if (auto id = routing::sts_record_id(reply.texts)) return {StsRecord::Status::found, std::move(*id)};
      return {StsRecord::Status::none, {}};
    case DnsReply::Status::nxdomain:
    case DnsReply::Status::nodata:
      return {StsRecord::Status::none, {}};
    case DnsReply::Status::failed:
      break;
  }
  return {StsRecord::Status::failed, {}};
}

std::chrono::seconds lifetime(const StsRecord& record, std::uint32_t ttl) {
  switch (record.status) {
    case StsRecord::Status::found:
      return std::clamp<std::chrono::seconds>(std::chrono::seconds(ttl), 60s, 3600s);
    case StsRecord::Status::none:
      return 300s;
    case StsRecord::Status::failed:
      break;
  }
  return 60s;
}

/// Mode none says that there is no policy to follow.
std::optional<routing::StsPolicy> to_follow(const routing::StsPolicy& policy) {
  if (policy.mode == routing::StsMode::none) return std::nullopt;
  return policy;
}

/// Writes all of `text` to a new file and makes it durable; false with errno.
bool write_new(const std::string& path, std::string_view text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return false;
  while (!text.empty()) {
    const ssize_t written = write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) break;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  const bool whole = text.empty() && fsync(fd) == 0;
  const int error = errno;
  close(fd);
  errno = error;
  return whole;
}

/// Replaces the file at `path`: after a crash it is the old one or the new one. Empty, or what went wrong.
std::string replace_file(const std::filesystem::path& path, std::string_view text) {
  const std::string temporary = path.string() + ".tmp";
  if (!write_new(temporary, text) || rename(temporary.c_str(), path.c_str()) != 0) {
    const int error = errno;
    unlink(temporary.c_str());
    return std::strerror(error);
  }
  if (const int directory = open(path.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); directory >= 0) {
    fsync(directory);
    close(directory);
  }
  return {};
}

}  // namespace

class StsCache::Impl {
 public:
  Impl(const std::filesystem::path& directory, bool allow_private)
      : file_(directory / "mta-sts.json"), allow_private_(allow_private), tls_(TlsContext::client(true, "")) {
    load();
  }

  void allow_private(bool allowed) { allow_private_ = allowed; }

  asio::awaitable<std::optional<routing::StsPolicy>> find(std::string domain, Resolver& resolver, Deadlines& deadlines,
                                                          Deadline deadline) {
    domain = smtp::lower(domain);
    const std::string name = "_mta-sts." + domain;
    if (!smtp::valid_domain(domain, false) || !smtp::valid_domain(name, false)) co_return std::nullopt;
    std::optional<StsRecord> record = known_record(domain);
    if (!record) {
      const DnsReply reply = co_await resolver.query(name, DnsType::txt);
      record = to_record(reply);
      remember(domain, *record, reply.ttl);
    }
    Decision decision = begin(domain, *record);
    const Deadline patience = std::min(deadline, in(fetch_timeout));
    // Somebody else fetches what is not known yet: to go on without would send in clear what the policy protects.
    asio::steady_timer timer(co_await asio::this_coro::executor);
    while (decision.wait && std::chrono::steady_clock::now() < patience) {
      timer.expires_after(20ms);
      boost::system::error_code ignored;
      co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
      decision = begin(domain, *record);
    }
    switch (decision.action) {
      case StsAction::none:
        co_return std::nullopt;
      case StsAction::use_cached:
        co_return to_follow(decision.cached->policy);
      case StsAction::fetch:
        break;
    }
    const Flight flight(*this, domain);
    const Deadline until = std::min(deadline, in(fetch_timeout));
    StsFetch fetched = co_await fetch_sts_policy(domain, resolver, deadlines, *tls_, allow_private_, until);
    if (fetched.policy) co_return store(domain, {std::move(*fetched.policy), record->id, now()});
    co_return do_without(domain, record->id, decision.cached, fetched.error);
  }

  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return policies_.size();
  }

  void start(const asio::any_io_executor& executor) {
    timer_ = std::make_unique<asio::steady_timer>(executor);
    arm(save_interval);
  }

  void stop() {
    timer_.reset();  // it must not outlive its executor
    save();
  }

 private:
  struct Decision {
    StsAction action = StsAction::none;
    CachedPtr cached;
    bool wait = false;  ///< a fetch is under way, and nothing is known without it
  };

  /// While it lives, nobody else fetches for its domain. Also ended by a coroutine that is destroyed half-way.
  class Flight {
   public:
    Flight(Impl& impl, std::string domain) : impl_(impl), domain_(std::move(domain)) {}
    ~Flight() {
      const std::lock_guard lock(impl_.mutex_);
      impl_.in_flight_.erase(domain_);
    }
    Flight(const Flight&) = delete;
    Flight& operator=(const Flight&) = delete;

   private:
    Impl& impl_;
    std::string domain_;
  };

  std::optional<StsRecord> known_record(const std::string& domain) {
    const std::lock_guard lock(mutex_);
    const Lookup* lookup = lookups_.find(domain);
    if (!lookup || lookup->fresh_until <= std::chrono::steady_clock::now()) return std::nullopt;
    return lookup->record;
  }

  void remember(const std::string& domain, const StsRecord& record, std::uint32_t ttl) {
    const std::lock_guard lock(mutex_);
    Lookup& lookup = lookup_of(domain);
    lookup.record = record;
    lookup.fresh_until = in(lifetime(record, ttl));
  }

  /// Decides, and claims the fetch if there is to be one: a Flight must follow.
  Decision begin(const std::string& domain, const StsRecord& record) {
    const routing::Time time = now();
    const std::lock_guard lock(mutex_);
    const CachedPtr* known = policies_.find(domain);
    Decision out{StsAction::none, known ? *known : nullptr, false};
    out.action = routing::decide_sts(out.cached.get(), lookup_of(domain).failures, record, time);
    if (out.action != StsAction::fetch) return out;
    if (in_flight_.size() < max_fetches && in_flight_.insert(domain).second) return out;
    const bool known_well = out.cached && routing::sts_fresh(*out.cached, time);
    out.action = known_well ? StsAction::use_cached : StsAction::none;
    out.wait = !known_well;
    return out;
  }

  std::optional<routing::StsPolicy> store(const std::string& domain, StsCached fetched) {
    log::debug("MTA-STS policy", {{"domain", domain}, {"mode", std::string(to_string(fetched.policy.mode))}, {"id", fetched.id}});
    const auto entry = std::make_shared<const StsCached>(std::move(fetched));
    const std::lock_guard lock(mutex_);
    put(domain, entry);
    lookup_of(domain).failures = {};
    changed_ = true;
    return to_follow(entry->policy);
  }

  /// Section 3.3: a policy that is known and cannot be refreshed concerns the operator, before it runs out.
  std::optional<routing::StsPolicy> do_without(const std::string& domain, const std::string& id, const CachedPtr& cached,
                                               const std::string& reason) {
    const routing::Time time = now();
    {
      const std::lock_guard lock(mutex_);
      routing::note_failure(lookup_of(domain).failures, id, time);
    }
    const bool fresh = cached && routing::sts_fresh(*cached, time);
    const bool loud = fresh && cached->policy.mode != routing::StsMode::none;
    log::write(loud ? log::Level::warn : log::Level::info, "MTA-STS policy could not be fetched",
               {{"domain", domain}, {"reason", reason}, {"remembered", fresh ? "yes" : "no"}});
    return fresh ? to_follow(cached->policy) : std::nullopt;
  }

  // ---- with the lock held ----

  Lookup& lookup_of(const std::string& domain) {
    Lookup& lookup = lookups_.at_or_new(domain);  // now the most recent: it is not what is dropped
    while (lookups_.size() > max_lookups) lookups_.drop_oldest();
    return lookup;
  }

  void put(const std::string& domain, CachedPtr entry) {
    CachedPtr& place = policies_.at_or_new(domain);
    if (place) octets_ -= cost(*place);
    octets_ += cost(*entry);
    place = std::move(entry);
    while (policies_.size() > max_policies || octets_ > max_octets) octets_ -= cost(*policies_.drop_oldest());
  }

  // ---- the file ----

  void load() {
    std::error_code error;
    const std::uintmax_t size = std::filesystem::file_size(file_, error);
    if (error == std::errc::no_such_file_or_directory) return;
    std::ifstream in_file(file_, std::ios::binary);
    std::optional<std::vector<std::pair<std::string, StsCached>>> entries;
    const routing::Time time = now();
    if (!error && size <= max_file && in_file) {
      const std::string text{std::istreambuf_iterator<char>(in_file), {}};
      entries = routing::decode_sts(text, time);
    }
    if (!entries) return log::warn("MTA-STS policies cannot be read and are forgotten", {{"file", file_.string()}});
    const std::lock_guard lock(mutex_);
    for (auto& [domain, cached] : *entries)
      if (routing::sts_fresh(cached, time)) put(domain, std::make_shared<const StsCached>(std::move(cached)));
  }

  /// All policies that still hold. In slices, because workers wait for the lock.
  std::vector<std::pair<std::string, StsCached>> collect() const {
    std::vector<std::pair<std::string, StsCached>> out;
    const routing::Time time = now();
    for (std::string last;;) {
      std::vector<std::pair<std::string, CachedPtr>> some;
      {
        const std::lock_guard lock(mutex_);
        some = policies_.after(last, slice);
      }
      if (some.empty()) return out;
      last = some.back().first;
      for (const auto& [domain, cached] : some)
        if (routing::sts_fresh(*cached, time)) out.emplace_back(domain, *cached);
    }
  }

  void save() {
    {
      const std::lock_guard lock(mutex_);
      if (!std::exchange(changed_, false)) return;
    }
    const std::string trouble = replace_file(file_, routing::encode_sts(collect()));
    if (!trouble.empty()) {
      if (!save_failed_) log::error("MTA-STS policies could not be saved", {{"file", file_.string()}, {"reason", trouble}});
      const std::lock_guard lock(mutex_);
      changed_ = true;
    }
    save_failed_ = !trouble.empty();
  }

  void arm(std::chrono::steady_clock::duration pause) {
    timer_->expires_after(pause);
    timer_->async_wait([this](const boost::system::error_code& error) {
      if (error) return;
      const auto began = std::chrono::steady_clock::now();
      save();
      const auto took = std::chrono::steady_clock::now() - began;
      arm(std::max<std::chrono::steady_clock::duration>(save_interval, took * save_share));
    });
  }

  const std::filesystem::path file_;
  std::atomic<bool> allow_private_;
  const std::unique_ptr<TlsContext> tls_;
  std::unique_ptr<asio::steady_timer> timer_;
  bool save_failed_ = false;

  mutable std::mutex mutex_;  // guards what follows
  RecentMap<CachedPtr> policies_;
  std::size_t octets_ = 0;
  RecentMap<Lookup> lookups_;
  std::set<std::string> in_flight_;
  bool changed_ = false;
};

void StsCache::allow_private(bool allowed) {
  impl_->allow_private(allowed);
}

StsCache::StsCache(const std::filesystem::path& directory, bool allow_private)
    : impl_(std::make_unique<Impl>(directory, allow_private)) {}
StsCache::~StsCache() = default;

asio::awaitable<std::optional<routing::StsPolicy>> StsCache::find(std::string domain, Resolver& resolver, Deadlines& deadlines,
                                                                  Deadline deadline) {
  co_return co_await impl_->find(std::move(domain), resolver, deadlines, deadline);
}

std::size_t StsCache::size() const {
  return impl_->size();
}

void StsCache::start(const asio::any_io_executor& executor) {
  impl_->start(executor);
}

void StsCache::stop() {
  impl_->stop();
}

}  // namespace egret::relay
