#include "relay/ingress/brake_claims.hpp"

#include "smtp/text.hpp"

namespace egret::relay {
namespace {

constexpr std::size_t most_name = 120;  // octets of a name in a reply line

class Builder {
 public:
  explicit Builder(const BrakeSubject& subject) : subject_(subject) {}

  void add(std::string_view kind, std::string_view name, std::string_view rule, const routing::Budget& rate, bool messages,
           bool enforced) {
    // A further recipient of a message that was counted: asking for room would refuse the last message its others.
    if (messages && subject_.messages == 0 && subject_.recipients > 0) return;
    BrakeClaim out;
    const std::string who = std::string(kind) + ' ' + std::string(name);
    out.claim = {who, rate, messages ? subject_.messages : subject_.recipients, messages};
    out.what = smtp::printable(smtp::cut_text(who, most_name)) + " may send " + (messages ? "" : "to ") +
               std::to_string(rate.recipients) + (messages ? " messages in " : " recipients in ") + routing::to_string(rate.per);
    out.rule = rule;
    out.name = name;
    out.enforced = enforced;
    claims_.push_back(std::move(out));
  }

  void add_all(std::string_view kind, std::string_view name, std::string_view rule, const config::SendingRates& rates,
               bool with_recipients, bool enforced) {
    for (const auto& rate : rates.messages) add(kind, name, rule, rate, true, enforced);
    if (!with_recipients) return;
    for (const auto& rate : rates.recipients) add(kind, name, rule, rate, false, enforced);
  }

  std::vector<BrakeClaim>& claims() { return claims_; }

 private:
  const BrakeSubject& subject_;
  std::vector<BrakeClaim> claims_;
};

}  // namespace

std::vector<BrakeClaim> brake_claims(const config::Config& config, const BrakeSubject& subject) {
  const config::Brakes& brakes = config::brakes_of(config);
  const bool enforced = !brakes.observe;
  Builder out(subject);
  if (subject.user.empty()) {
    if (config.limits.rate_per_client)
      out.add("client", subject.client.customer().to_string(), "rate-per-client", *config.limits.rate_per_client, false, true);
  } else {
    if (subject.own_rate) out.add("user", subject.user, "rate-per-user", *subject.own_rate, false, true);
    out.add_all("user", subject.user, "rate-per-user", brakes.user, !subject.own_rate, enforced);
  }
  if (brakes.network.any())
    out.add_all("client network", routing::network_of(subject.client.to_string()), "rate-per-network", brakes.network, true,
                enforced);
  if (brakes.sender_domain.any() && !subject.sender_domain.empty())
    out.add_all("sender domain", smtp::lower(subject.sender_domain), "rate-per-sender-domain", brakes.sender_domain, true,
                enforced);
  if (subject.barrier && subject.barrier->state == routing::UserState::slowed) {
    out.add("slowed user", subject.user, "slowed", brakes.slow_rate, true, true);
    for (BrakeClaim& claim : out.claims()) {
      if (claim.rule != "slowed") continue;
      claim.told = false;
      claim.what += ", because " + smtp::printable(smtp::cut_text(subject.barrier->reason, 200));
    }
  }
  return std::move(out.claims());
}

std::optional<RateRefusal> take_claims(Rates& rates, const std::vector<BrakeClaim>& claims, bool enforced, routing::Time now) {
  std::vector<RateClaim> some;
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < claims.size(); ++i)
    if (claims[i].enforced == enforced) {
      some.push_back(claims[i].claim);
      places.push_back(i);
    }
  if (some.empty()) return std::nullopt;
  auto refusal = rates.take(some, now);
  if (refusal) refusal->claim = places[refusal->claim];
  return refusal;
}

std::string suspended_text(std::string_view reason, std::string_view user) {
  return smtp::printable(smtp::cut_text(reason, 300)) + "; it ends by: egret user resume " +
         smtp::printable(smtp::cut_text(user, most_name));
}

}  // namespace egret::relay
