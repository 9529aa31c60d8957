#include "routing/route.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace egret::routing {
namespace {

/// splitmix64: spreads the caller's one number over as many draws as a decision needs.
double draw(std::uint64_t& state) {
  state += 0x9E3779B97F4A7C15ULL;
  std::uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  z ^= z >> 31;
  return (static_cast<double>(z >> 11) + 0.5) / 9007199254740992.0;  // (0, 1)
}

class Decision {
 public:
  Decision(const Topology& topology, const Snapshot& snapshot, const Request& request, Time now, std::uint64_t tie_break)
      : t_(topology),
        s_(snapshot),
        r_(request),
        pool_(topology.pools[request.pool]),
        now_(now),
        seed_(tie_break),
        dice_(tie_break) {}

  Route run() {
    if (r_.only_smarthost) return only_smarthost();
    for (const std::uint32_t index : pool_.sources) consider_source(index);
    cap_returning();
    rank_sources();
    const bool overflow = !r_.only_source && overflows();
    const bool exhausted = available_.empty();
    if (exhausted && !busy_ && pool_.when_exhausted == WhenExhausted::send_anyway) send_anyway();
    const std::optional<std::uint32_t> canary = exhausted || overflow ? std::nullopt : draw_canary();
    consider_smarthosts(exhausted || overflow, canary);
    if (r_.only_source && out_.candidates.empty()) return held("waits for " + t_.sources[*r_.only_source].name);
    if (overflow || out_.canary)
      std::ranges::stable_partition(out_.candidates, [](const Candidate& c) { return c.egress.kind == EgressKind::smarthost; });
    if (out_.candidates.empty()) return held("no egress of pool " + pool_.name + " is available" + unready_);
    return std::move(out_);
  }

 private:
  struct Available {
    std::uint32_t index;
    double weight;  // effective: weight x share
    double share;   // of its own full weight
    bool trial;
    double key = 0;
  };

  const Excluded* excluded(EgressRef egress) const {
    const auto it = std::ranges::find(r_.excluded, egress, &Excluded::egress);
    return it == r_.excluded.end() ? nullptr : &*it;
  }

  void reject(EgressRef egress, std::string reason, std::optional<Time> until = {}) {
    // What should have ended by now ends when the owner of the standings next looks: at any moment.
    if (until) until = std::max(*until, now_);
    out_.rejected.push_back({egress, std::move(reason), until});
  }

  void consider_source(std::uint32_t index) {
    const EgressRef ref{EgressKind::source, index};
    const SourceInfo& source = t_.sources[index];
    const StandingView& view = s_.sources[index].with(r_.provider);
    if (source.address.v6 ? !r_.ipv6 : !r_.ipv4)
      return reject(ref, source.address.v6 ? "the site has no IPv6 address" : "the site has no IPv4 address");
    if (r_.only_source && *r_.only_source != index)
      return reject(ref, "the message keeps to source " + t_.sources[*r_.only_source].name);
    const Excluded* const e = excluded(ref);
    // One that is known to wait, for a cap to renew, does not keep the others waiting.
    if (view.standing == Standing::trial && !t_.observe && !(e && e->until)) returning_.push_back({view.since, index});
    if (e) {
      busy_ = busy_ || view.standing == Standing::trial;
      return reject(ref, e->reason, e->until);
    }
    // Observing enforces nothing but what the operator ordered by hand and what cannot work at all.
    const bool enforced = !t_.observe || view.standing == Standing::drained || is_address_fault(view);
    if (!in_service(view.standing) && enforced)
      return reject(ref, std::string(to_string(view.standing)) + ": " + view.reason, view.until);
    const double share = t_.observe ? 1.0 : view.share;
    available_.push_back({index, source.weight * share, share, view.standing == Standing::trial});
  }

  static bool is_address_fault(const StandingView& view) {
    return view.standing == Standing::misconfigured && view.reason.starts_with("address ");
  }

  /// Of the sources that return, those on trial for longest are tried; the others wait until they are through. Only
  /// sources that can reach the site hold a place, and a message that must keep to its source is none of their rivals.
  void cap_returning() {
    const auto places = static_cast<std::size_t>(std::max(t_.returning, 1));
    if (r_.only_source || returning_.size() <= places) return;
    std::ranges::sort(returning_);
    const std::string first = t_.sources[returning_.front().second].name;
    for (auto it = returning_.begin() + static_cast<std::ptrdiff_t>(places); it != returning_.end(); ++it) {
      const auto waits = std::ranges::find(available_, it->second, &Available::index);
      if (waits == available_.end()) continue;
      available_.erase(waits);
      reject({EgressKind::source, it->second}, "trial: waits its turn, " + first + " returns first");
    }
  }

  /// A random order in which each source is first with probability weight / sum of weights (exponential race).
  void rank_sources() {
    double total = 0;
    for (Available& a : available_) {
      a.key = a.weight > 0 ? -std::log(draw(dice_)) / a.weight : INFINITY;
      total += a.weight;
    }
    std::ranges::sort(available_, {}, &Available::key);
    for (const Available& a : available_)
      out_.candidates.push_back({{EgressKind::source, a.index}, total > 0 ? a.weight / total : 0});
  }

  /// While every usable source is warming, the rest of their mail keeps to the smarthosts. A trial needs no such
  /// share: it takes one message at a time, and what comes meanwhile finds it busy.
  bool overflows() {
    if (available_.empty() || pool_.when_exhausted != WhenExhausted::fallback || r_.no_fallback) return false;
    double best = 0;
    for (const Available& a : available_) {
      if (a.trial) return false;
      best = std::max(best, a.share);
    }
    return best < 1.0 && draw(dice_) >= best;
  }

  void send_anyway() {
    for (const std::uint32_t index : pool_.sources) {
      const EgressRef ref{EgressKind::source, index};
      const StandingView& view = s_.sources[index].with(r_.provider);
      if (view.standing == Standing::drained || is_address_fault(view) || excluded(ref)) continue;
      if (t_.sources[index].address.v6 ? !r_.ipv6 : !r_.ipv4) continue;
      if (r_.only_source && *r_.only_source != index) continue;
      std::erase_if(out_.rejected, [&](const Rejected& r) { return r.egress == ref; });
      out_.candidates.push_back({ref, 0});
    }
  }

  /// Why the smarthost takes nothing now, or nothing of this sender.
  std::optional<Rejected> unwilling(EgressRef ref) const {
    const SmarthostSnapshot& host = s_.smarthosts[ref.index];
    if (host.resting_until && *host.resting_until > now_) return Rejected{ref, "resting: " + host.reason, host.resting_until};
    const RefusedSender* refused = r_.sender ? find_refused(host.senders, *r_.sender, now_) : nullptr;
    if (refused) return Rejected{ref, "does not take this sender: " + refused->reason, refused->until};
    if (host.unready_allowed) return std::nullopt;
    // It ends when a check finds the record, and nobody knows when that is.
    if (const RefusedSender* unready = unready_sender(ref)) return Rejected{ref, not_ready(ref, *unready), std::nullopt};
    return std::nullopt;
  }

  const RefusedSender* unready_sender(EgressRef ref) const {
    return r_.sender ? find_refused(s_.smarthosts[ref.index].unready, *r_.sender, now_) : nullptr;
  }
  std::string not_ready(EgressRef ref, const RefusedSender& unready) const {
    return std::string(*r_.sender) + " is not ready at " + t_.name(ref) + ": " + unready.reason;
  }

  /// A candidate that takes mail of a domain that is not ready says so.
  void note_unready(EgressRef ref) {
    if (const RefusedSender* unready = unready_sender(ref)) out_.notes.push_back(not_ready(ref, *unready) + " (unready: allow)");
  }

  /// The smarthost that a small share of the mail goes by although the sources are in service. Reports, and mail whose sender
  /// is not known, are no samples; what must keep to a source keeps to it. Draws of its own: the order of the sources is
  /// the same with and without it.
  std::optional<std::uint32_t> draw_canary() {
    if (pool_.canary <= 0 || t_.observe || r_.no_fallback || r_.only_source || available_.empty() ||
        pool_.when_exhausted != WhenExhausted::fallback || !r_.sender || r_.sender->empty())
      return std::nullopt;
    std::uint64_t dice = seed_ ^ 0xC2B2AE3D27D4EB4FULL;
    const double at = draw(dice) / pool_.canary;
    if (at >= static_cast<double>(pool_.fallback.size())) return std::nullopt;
    const EgressRef ref{EgressKind::smarthost, pool_.fallback[static_cast<std::size_t>(at)]};
    if (excluded(ref) || unwilling(ref) || unready_sender(ref)) return std::nullopt;
    return ref.index;
  }

  std::string canary_share() const {
    if (pool_.canary <= 0 || t_.observe) return {};
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "; %g%% as canary", pool_.canary * 100);
    return text.data();
  }

  void consider_smarthosts(bool needed, std::optional<std::uint32_t> canary) {
    for (const std::uint32_t index : pool_.fallback) {
      const EgressRef ref{EgressKind::smarthost, index};
      if (r_.no_fallback || r_.only_source) {
        reject(ref, "the message keeps to its source");
      } else if (pool_.when_exhausted != WhenExhausted::fallback) {
        reject(ref, "the pool does not fall back");
      } else if (const Excluded* e = excluded(ref)) {
        reject(ref, e->reason, e->until);
      } else if (auto why = unwilling(ref)) {
        if (unready_.empty() && !why->until && unready_sender(ref)) unready_ = ": " + why->reason;
        reject(ref, std::move(why->reason), why->until);
      } else if (needed) {
        out_.candidates.push_back({ref, out_.candidates.empty() ? 1.0 : 0.0});
        note_unready(ref);
      } else if (canary == index) {
        out_.candidates.push_back({ref, pool_.canary});
        out_.canary = true;
        out_.notes.push_back("canary: shows that " + t_.name(ref) + " works, the sources are in service");
      } else {
        reject(ref, "not needed: a source is in service" + canary_share());
      }
    }
  }

  Route only_smarthost() {
    const EgressRef mine{EgressKind::smarthost, *r_.only_smarthost};
    const std::string keeps = "the message keeps to " + t_.name(mine);
    for (const std::uint32_t index : pool_.sources) reject({EgressKind::source, index}, keeps);
    for (const std::uint32_t index : pool_.fallback)
      if (index != mine.index) reject({EgressKind::smarthost, index}, keeps);
    if (const Excluded* e = excluded(mine)) {
      reject(mine, e->reason, e->until);
    } else if (auto why = unwilling(mine)) {
      reject(mine, std::move(why->reason), why->until);
    } else {
      out_.candidates.push_back({mine, 1.0});
      note_unready(mine);
      return std::move(out_);
    }
    return held("waits for " + t_.name(mine));
  }

  Route held(std::string reason) {
    Hold hold{std::move(reason), {}};
    for (const Rejected& rejected : out_.rejected)
      if (rejected.until && (!hold.until || *rejected.until < *hold.until)) hold.until = rejected.until;
    out_.hold = std::move(hold);
    return std::move(out_);
  }

  const Topology& t_;
  const Snapshot& s_;
  const Request& r_;
  const PoolInfo& pool_;
  Time now_;
  std::uint64_t seed_;
  std::uint64_t dice_;
  std::vector<Available> available_;
  std::vector<std::pair<Time, std::uint32_t>> returning_;  // in trial, and since when
  std::string unready_;                                    // what mail is held for that has no other way
  bool busy_ = false;  // a source on trial has its one message under way: the pool is not exhausted
  Route out_;
};

}  // namespace

std::optional<std::uint32_t> Topology::source_named(std::string_view name) const {
  for (std::uint32_t i = 0; i < sources.size(); ++i)
    if (!sources[i].removed && sources[i].name == name) return i;
  return std::nullopt;
}

const RefusedSender* find_barred(const SmarthostSnapshot& host, std::string_view domain, Time now) {
  if (const RefusedSender* refused = find_refused(host.senders, domain, now)) return refused;
  return host.unready_allowed ? nullptr : find_refused(host.unready, domain, now);
}

Route route(const Topology& topology, const Snapshot& snapshot, const Request& request, Time now, std::uint64_t tie_break) {
  return Decision(topology, snapshot, request, now, tie_break).run();
}

std::string explain(const Route& route, const Topology& topology) {
  std::string out;
  for (const Candidate& candidate : route.candidates) {
    if (!out.empty()) out += ", ";
    out += topology.name(candidate.egress);
  }
  if (route.hold) out = "hold: " + route.hold->reason + (route.hold->until ? " until " + to_rfc3339(*route.hold->until) : "");
  for (const auto& note : route.notes) out += "; " + note;
  for (const Rejected& rejected : route.rejected) {
    out += "; not " + topology.name(rejected.egress) + ": " + rejected.reason;
    if (rejected.until) out += " until " + to_rfc3339(*rejected.until);
  }
  return out;
}

}  // namespace egret::routing
