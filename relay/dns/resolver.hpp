// DNS over c-ares, on one io_context: UDP with TCP on truncation, own server list, no search domains. Where the
// servers are trusted to validate, queries ask for the AD bit (RFC 6840 section 5.7) and announce EDNS (RFC 6891).
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "relay/net/tlsa.hpp"
#include "routing/address.hpp"
#include "routing/blocklist.hpp"
#include "routing/site.hpp"

namespace egret::relay {

enum class DnsType { a, aaaa, mx, txt, ptr, tlsa };

/// What one query brought. Everything in it is remote data: bounded, names lower-case and checked.
struct DnsReply {
  enum class Status { ok, nxdomain, nodata, failed };
  Status status = Status::failed;
  std::string error;                          ///< for failed: "SERVFAIL", "timeout", ...
  std::uint32_t ttl = 0;                      ///< seconds; least of all records, 0 where there are none
  std::uint32_t negative_ttl = 0;             ///< seconds for which "there is none" holds (RFC 2308 section 5); 0 if unsaid
  std::vector<routing::IpAddress> addresses;  ///< a, aaaa
  std::vector<routing::MxHost> mx;            ///< host "" is the root: a null MX (RFC 7505)
  std::vector<std::string> texts;             ///< txt (strings of one record joined), ptr
  std::vector<TlsaRecord> tlsa;               ///< tlsa
  std::string canonical;                      ///< a, aaaa, txt: the name that has the records, at the end of all aliases
  /// The server vouches by DNSSEC for this answer, for all aliases in it and also for "there is none" (AD bit,
  /// RFC 4035 section 3.2.3). Never set unless the configuration trusts the servers (dns.dnssec), nor with failed.
  bool secure = false;
};

/// The same as what judge() of a blocklist wants.
routing::DnsAnswer to_answer(const DnsReply& reply);

class Resolver {
 public:
  /// Throws std::runtime_error when c-ares cannot be set up.
  Resolver(const boost::asio::any_io_executor& executor, const config::Dns& options);
  ~Resolver();

  /// `name` without a trailing dot. Never throws; trouble is a `failed` reply. Who asks what is being asked already gets
  /// the same answer: one query is in flight per name and type.
  boost::asio::awaitable<DnsReply> query(std::string name, DnsType type);
  /// Other servers from now on. What is under way ends with those it was sent to.
  void configure(const config::Dns& options);
  /// Fails everything that is under way.
  void cancel();

 private:
  class Impl;
  boost::asio::any_io_executor executor_;
  config::Dns options_;
  std::shared_ptr<Impl> impl_;
  std::vector<std::weak_ptr<Impl>> former_;
};

/// Parses a DNS message as it came from the wire; `secure` is its AD bit. Exposed for tests and fuzzing.
DnsReply parse_dns(const unsigned char* data, std::size_t size, DnsType type);

/// "4.3.2.1.in-addr.arpa" and the IPv6 form.
std::string reverse_name(const routing::IpAddress& address);

}  // namespace egret::relay
