#include "config/read_brakes.hpp"

#include "config/brakes.hpp"

namespace egret::config {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t max_limits = 8;  // of one kind

void read_budgets(Section& s, std::string_view key, std::vector<routing::Budget>& out) {
  std::vector<std::string> texts;
  s.texts(key, texts);
  for (const auto& text : texts) {
    const auto budget = parse_budget(text);
    if (budget && budget->recipients > 0)
      out.push_back(*budget);
    else
      s.problem(key, "expected a count in a period, e.g. 500/h or [2000/h, 10000/d]");
  }
  if (out.size() > max_limits) s.problem(key, "expected at most " + std::to_string(max_limits));
}

SendingRates read_rates(Section& parent, std::string_view key) {
  SendingRates out;
  Section s = parent.section(key);
  read_budgets(s, "messages", out.messages);
  read_budgets(s, "recipients", out.recipients);
  s.finish();
  return out;
}

void read_share(Section& s, std::string_view key, double& out) {
  std::string text;
  s.text(key, text);
  if (text.empty()) return;
  const auto share = parse_share(text);
  if (share && *share > 0)
    out = *share;
  else
    s.problem(key, "expected a share above 0, e.g. 10%");
}

void read_count(Section& s, std::string_view key, std::uint64_t& out) {
  int value = static_cast<int>(out);
  s.integer(key, value, 0, 1'000'000'000);
  out = static_cast<std::uint64_t>(value);
}

void read_usual(Section& parent, routing::UsualPolicy& out) {
  Section s = parent.section("baseline");
  s.number("factor", out.factor, 1.1, 1000);
  read_count(s, "recipients", out.least);
  s.duration("learn", out.learn);
  if (out.learn > std::chrono::hours(90 * 24)) s.problem("learn", "expected at most 90d");
  std::string action;
  s.text("action", action);
  if (const auto parsed = routing::parse_usual_action(action))
    out.action = *parsed;
  else if (!action.empty())
    s.problem("action", "expected alert, slow or suspend");
  s.finish();
}

void read_step(Section& parent, std::string_view key, routing::BrakeStep& out) {
  Section s = parent.section(key);
  read_share(s, "share", out.share);
  read_count(s, "hour", out.hour);
  read_count(s, "day", out.day);
  read_share(s, "complaint_share", out.complaint_share);
  read_count(s, "complaints", out.complaints);
  s.finish();
}

}  // namespace

const Brakes& brakes_of(const Config& config) {
  static const Brakes defaults;
  return config.brakes ? *config.brakes : defaults;
}

void read_brakes(Section& root, Config& config) {
  auto out = std::make_shared<Brakes>();
  out->observe = config.topology.observe;
  Section s = root.section("brakes");
  std::string mode;
  s.text("mode", mode);
  if (mode == "observe" || mode == "enforce")
    out->observe = mode == "observe";
  else if (!mode.empty())
    s.problem("mode", "expected enforce or observe");
  out->user = read_rates(s, "user");
  out->network = read_rates(s, "network");
  out->sender_domain = read_rates(s, "sender_domain");
  read_usual(s, out->usual);
  Section suspend = s.section("suspend");
  read_step(suspend, "slow", out->judge.slow);
  read_step(suspend, "suspend", out->judge.suspend);
  suspend.duration("slow_for", out->judge.slow_for);
  if (out->judge.slow_for < 1s || out->judge.slow_for > std::chrono::hours(30 * 24))
    suspend.problem("slow_for", "expected 1s to 30d");
  std::string rate;
  suspend.text("rate", rate);
  if (const auto parsed = parse_budget(rate); parsed && parsed->recipients > 0)
    out->slow_rate = *parsed;
  else if (!rate.empty())
    suspend.problem("rate", "expected messages in a period, e.g. 10/m");
  suspend.finish();
  s.finish();
  config.brakes = std::move(out);
}

}  // namespace egret::config
