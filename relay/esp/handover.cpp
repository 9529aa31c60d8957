#include "relay/esp/handover.hpp"

#include <algorithm>

#include "relay/delivery/report_message.hpp"
#include "routing/esp_id.hpp"

namespace egret::relay {

std::vector<Handover> handovers_of(const config::Config& config, const Job& job, const std::vector<std::uint32_t>& delivered,
                                   const AttemptResult& result, routing::Time time) {
  std::vector<Handover> out;
  const config::Smarthost& host = config.smarthosts[job.egress.index];
  if (!host.events || !job.content) return out;
  const spool::Message& content = *job.content;
  std::string reply, id;
  for (std::size_t i = 0; i < job.recipients.size() && i < result.outcomes.size(); ++i) {
    const std::uint32_t index = job.recipients[i];
    if (std::ranges::find(delivered, index) == delivered.end()) continue;
    // All recipients of one message mostly have one reply, the final dot's.
    std::string text = result.outcomes[i].reply.to_string();
    if (text != reply) {
      id = routing::esp_message_id(host.provider, result.outcomes[i].reply);
      reply = std::move(text);
    }
    const smtp::DsnRcpt asked = content.notify(index);
    Handover& h = out.emplace_back();
    h.smarthost = host.name;
    h.esp_id = id;
    h.message = content.id;
    h.sender = content.sender.to_string();
    h.recipient = content.recipients[index].to_string();
    h.message_class = config.classes[job.message->message_class].name;
    h.user = content.user;
    h.accepted = content.accepted;
    h.time = time;
    h.envid = content.dsn.envid;
    h.orcpt = asked.orcpt;
    h.utf8 = content.utf8;
    h.dsn = !content.report && report_wanted(asked, smtp::DsnAction::failed);
  }
  return out;
}

}  // namespace egret::relay
