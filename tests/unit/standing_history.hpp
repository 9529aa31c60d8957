// Random histories of evidence for property tests: the same seed gives the same history.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "routing/standing.hpp"

namespace egret::routing::history {

inline const std::vector<std::string> providers{"google", "yahoo", "microsoft"};

inline Blocklist list(double weight, std::vector<std::string> concerns = {}) {
  Blocklist out;
  out.weight = weight;
  out.concerns = std::move(concerns);
  return out;
}

inline Blocklists lists() {
  return {{"zen", list(1.0)}, {"half", list(0.5)}, {"other", list(0.5)}, {"ms", list(1.0, {"microsoft"})}};
}

inline std::string any_list(std::mt19937& random) {
  static const std::vector<std::string> names{"zen", "half", "other", "ms"};
  return names[random() % names.size()];
}

inline const std::string& any_provider(std::mt19937& random) {
  return providers[random() % providers.size()];
}

/// A refusal of one of nine messages, or of an unknown one.
inline Refused any_refusal(std::mt19937& random) {
  static const std::vector<Label> labels{Label::ip_blocked, Label::ip_blocked, Label::ip_config, Label::ip_throttled};
  Refused out{any_provider(random), labels[random() % labels.size()], {}, "some-rule", "550 blocked"};
  if (random() % 3 == 0) out.blocklist = any_list(random);
  out.message = random() % 10;
  out.jitter = static_cast<double>(random() % 100) / 100;
  return out;
}

inline ListChecked checked(std::string name, Judgement::Result result, bool policy = false) {
  return {std::move(name), {result, policy, {"127.0.0.2"}, {}}, {}};
}

/// Any evidence but unknown answers.
inline Evidence any(std::mt19937& random) {
  switch (random() % 16) {
    case 0:
    case 1:
      return checked(any_list(random), Judgement::Result::listed, random() % 16 == 0);
    case 2:
    case 3:
    case 4:
      return checked(any_list(random), Judgement::Result::clean);
    case 5:
    case 6:
      return any_refusal(random);
    case 7:
      return Withdrawn{any_provider(random), random() % 10};
    case 8:
    case 9:
    case 10:
      return Delivered{any_provider(random)};
    case 11:
      if (random() % 4 == 0) return ListWithdrawn{any_list(random)};
      return Tick{};
    case 12:
      if (random() % 8 == 0) return Drain{random() % 2 ? any_provider(random) : ""};
      return Resume{random() % 2 ? any_provider(random) : ""};
    default:
      return Tick{};
  }
}

/// One source, the time, and what was seen of it.
struct World {
  StandingPolicy policy;
  Blocklists lists = history::lists();
  SourceState state;
  Time now{std::chrono::hours(500'000)};

  StandingContext context() const { return {policy, lists}; }
  std::vector<Transition> fold(const Evidence& evidence) { return routing::fold(state, evidence, context(), now); }
  StandingView view(std::string_view provider = "") const { return routing::view(state, provider, context()); }
  /// A random time passes, from a moment to some hours.
  void pass(std::mt19937& random) { now += Duration(random() % (random() % 4 ? 600'000 : 40'000'000)); }
  void live(std::mt19937& random, int steps) {
    for (int i = 0; i < steps; ++i) {
      pass(random);
      fold(any(random));
    }
  }
  /// What it looks like from outside.
  std::string picture() const {
    std::string out;
    for (const auto* provider : {"", "google", "yahoo", "microsoft"}) {
      const StandingView v = view(provider);
      out += std::string(to_string(v.standing)) + " " + std::to_string(v.share) + " " + std::to_string(v.throttle) + " " +
             v.reason + " " + (v.until ? to_rfc3339(*v.until) : "-") + " " + to_rfc3339(v.since) + " " +
             std::to_string(score(state, provider, context())) + "\n";
    }
    return out;
  }
};

}  // namespace egret::routing::history
