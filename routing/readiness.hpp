// Whether a sender domain may leave by an ESP at all, judged before it has to: its mail passes DMARC there only if the ESP's
// DKIM key, or the ESP's return path, is published under the domain (RFC 9989 section 4.4: either one aligned is enough). With
// p=reject or p=quarantine and neither, failing over would lose every message.
//
// Nothing is asked here: what DNS said comes as facts. What DNS did not answer is unknown, and never a reason to refuse.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "routing/sender_records.hpp"

namespace egret::routing {

/// What an ESP wants its customers to publish: its preset, and what the operator says.
struct EspRecords {
  /// Complete sets of selectors, of which one is enough. An entry with "._domainkey." is the whole name.
  std::vector<std::vector<std::string>> selectors;
  /// The one set of these domains, in place of `selectors`. By lower-case domain.
  std::map<std::string, std::vector<std::string>, std::less<>> domain_selectors;
  /// Names of envelope domains that the ESP sends with; "{domain}" stands for the sender domain.
  std::vector<std::string> return_paths;
  std::string zone;  ///< the ESP's own: where its CNAMEs lead; empty: not known
  std::string spf;   ///< what an SPF record includes for it; empty: not known

  /// Nothing is known of an ordinary relay, so there is nothing to check.
  bool known() const { return !selectors.empty() || !domain_selectors.empty() || !return_paths.empty() || !zone.empty(); }
};

/// One name at which an ESP's key is looked for, and the domain that signatures with it are of (d=).
struct EspKeyName {
  std::string name;
  std::string domain;
};
/// The sets to ask for: those below `domain`, then those below `organization` where that is another, because ESPs sign for
/// the names below a verified domain with that one's key.
std::vector<std::vector<EspKeyName>> esp_key_names(const EspRecords& records, std::string_view domain,
                                                   std::string_view organization);
std::vector<std::string> esp_return_paths(const EspRecords& records, std::string_view domain);

/// The organizational domain by the DNS tree walk (RFC 9989 section 4.10.2), from the records found along the whole
/// dmarc_walk(domain); the domain itself where nothing is published.
std::string organizational_domain(const std::vector<std::string>& walk, const std::vector<std::optional<DmarcRecord>>& records);

/// Identifier alignment (RFC 9989 section 4.4.1): strictly, the same name; else within one organizational domain.
bool aligned(std::string_view identifier, std::string_view domain, std::string_view organization, bool strict);

enum class RecordState { present, missing, unknown };

struct EspKeyFact {
  EspKeyName key;
  RecordState state = RecordState::unknown;
  std::string trouble = {};  ///< why it is missing, where that is not plain absence: "revoked (an empty p=)"
};

struct ReturnPathFact {
  std::string name;
  RecordState state = RecordState::unknown;  ///< present: its SPF is the ESP's
};

/// What DNS said of one sender domain and one ESP.
struct ReadinessFacts {
  std::string domain;
  std::string organization;
  bool policy_known = false;          ///< DNS answered: there is that policy, or none
  std::optional<DmarcPolicy> policy;  ///< none is published
  std::vector<std::vector<EspKeyFact>> keys;
  RecordState own_key = RecordState::missing;  ///< our own signature survives the ESP, and this is its key
  std::vector<ReturnPathFact> return_paths;
};

enum class Alignment {
  yes,
  no,
  untold,   ///< which records there should be is not known: the operator has to say
  unknown,  ///< DNS did not answer
};

struct ReadinessVerdict {
  std::optional<bool> ready;  ///< none: DNS did not answer what matters
  Alignment dkim = Alignment::no;
  Alignment spf = Alignment::no;
  std::string reason;  ///< what is missing, also where that does not matter yet; empty: nothing is
  std::string advice;  ///< which record to set
};

/// p=none, or no policy at all, is ready whatever is missing. So is a domain whose records the operator did not name (Postmark's
/// and SparkPost's selectors, SES's tokens differ for each customer): what cannot be known holds no mail.
ReadinessVerdict judge_readiness(const ReadinessFacts& facts, const EspRecords& records);

}  // namespace egret::routing
