#include "routing/advice.hpp"

namespace egret::routing {

namespace {

/// ". Consulted by: comcast, microsoft": who is known to refuse because of the list.
std::string consulted_by(const Providers& providers, std::string_view blocklist) {
  std::string out;
  for (const auto name : providers.consulting(blocklist)) (out += out.empty() ? ". Consulted by: " : ", ") += name;
  return out;
}

}  // namespace

std::string event_kind(const Transition& t) {
  if (t.to == Standing::listed) return "listed";
  if (t.from == Standing::listed && in_service(t.to)) return "delisted";
  return std::string(to_string(t.to));
}

std::string advice(const Transition& t, const Blocklists& lists, const Providers& providers) {
  if (in_service(t.to)) return {};
  std::string out;
  if (t.until && !t.observed) out = "out of service until " + to_rfc3339(*t.until) + ". ";
  const auto list = lists.find(t.blocklist);
  if (list != lists.end() && !list->second.delist.empty())
    out += "Removal: " + list->second.delist + consulted_by(providers, t.blocklist);
  else if (const auto* provider = providers.named(t.provider); provider && !provider->postmaster.empty())
    out += "Contact: " + provider->postmaster;
  else if (t.to == Standing::misconfigured)
    out += "Check the address, its PTR record and EHLO name";
  if (out.ends_with(". ")) out.resize(out.size() - 2);
  return out;
}

std::string exhausted_action(WhenExhausted when) {
  switch (when) {
    case WhenExhausted::fallback:
      return "its mail goes by its smarthosts";
    case WhenExhausted::hold:
      return "its mail is held until a source is back";
    case WhenExhausted::send_anyway:
      return "its mail is sent anyway (when_exhausted: send-anyway)";
  }
  return {};
}

SourceSnapshot snapshot_of(const SourceState& state, const StandingContext& context) {
  SourceSnapshot out;
  out.standing = view(state, "", context);
  for (const auto& [name, provider] : state.providers) out.providers[name] = view(state, name, context);
  for (const auto& [name, listing] : state.listings)
    if (const auto list = context.lists.find(name); list != context.lists.end())
      for (const auto& provider : list->second.concerns) out.providers[provider] = view(state, provider, context);
  return out;
}

}  // namespace egret::routing
