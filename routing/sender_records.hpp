// What a sender domain publishes beside SPF: DKIM keys (RFC 6376 section 3.6.1) and its DMARC policy (RFC 9989, successor of
// RFC 7489). Only what an operator's check needs: is our key the one that is published, and which policy do receivers find.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace egret::routing {

/// "v=DKIM1; k=rsa; p=..." as tag and value; white space around both is gone. nullopt when it is no tag list, or has a tag twice.
std::optional<std::map<std::string, std::string>> parse_tags(std::string_view text);

enum class PublishedKey { matches, differs, revoked, missing, several };
/// Whether `texts` (TXT records of a selector) hold the key that `expected` (DkimKey::dns_record) describes. Several key records
/// at one selector have an undefined meaning (RFC 6376 section 3.6.2.2), even if one of them is right.
PublishedKey judge_dkim_records(const std::vector<std::string>& texts, std::string_view expected);

struct DmarcRecord {
  std::string policy;            ///< p=: none, quarantine, reject
  std::string subdomain_policy;  ///< sp=, or p
  bool strict_dkim = false;      ///< adkim=s
  bool strict_spf = false;       ///< aspf=s
  char psd = 'u';                ///< psd=: y, n or u
};
/// The one DMARC record among the TXT records of a name; nullopt where there is none or several (then none counts). A policy that
/// is missing or unknown counts as none.
std::optional<DmarcRecord> find_dmarc(const std::vector<std::string>& texts);

/// The names below "_dmarc." that are asked in turn, at most eight: the domain, then its parents (the "DNS tree walk").
std::vector<std::string> dmarc_walk(std::string_view domain);

/// The policy that receivers apply to `domain`, from the records found along dmarc_walk() (parallel to it): its own record, else
/// that of the organizational domain.
struct DmarcPolicy {
  std::string policy;
  std::string found_at;  ///< the domain whose record it is
  DmarcRecord record;
};
std::optional<DmarcPolicy> discover_dmarc(const std::vector<std::string>& walk,
                                          const std::vector<std::optional<DmarcRecord>>& records);

}  // namespace egret::routing
