// TLSA records: which certificate a server must show (RFC 6698, for SMTP RFC 7672).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace egret::relay {

/// A TLSA record (RFC 6698 section 2.1) as it is in the zone: whether it is usable is for the reader to say.
struct TlsaRecord {
  std::uint8_t usage = 0;
  std::uint8_t selector = 0;
  std::uint8_t matching = 0;
  std::string data;  ///< octets, not text
  bool operator==(const TlsaRecord&) const = default;
};

/// What a handshake must match instead of a certification authority.
struct Dane {
  std::string base;                 ///< TLSA base domain: SNI and reference name (RFC 7672 section 2.2.3)
  std::vector<std::string> names;   ///< further reference names for usage 2
  std::vector<TlsaRecord> records;  ///< at least one that is usable
};

/// RFC 7672 section 3.1: DANE-TA or DANE-EE, a known selector, a digest of the right length.
bool usable(const TlsaRecord& record);

}  // namespace egret::relay
