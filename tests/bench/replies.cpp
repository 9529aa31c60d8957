// How long the shipped rules take for one reply. Reads replies from standard input, one a line (the two characters
// "\n" stand for a line break), and prints nanoseconds: of every reply the best of many rounds.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <numeric>

#include "config/config.hpp"

namespace {

using Clock = std::chrono::steady_clock;

double nanoseconds(const egret::routing::ReplyRules& rules, const egret::smtp::ReplyText& reply) {
  constexpr int repeats = 5;
  std::size_t sink = 0;
  const auto start = Clock::now();
  for (int i = 0; i < repeats; ++i) sink += rules.classify(reply, {}).rule.size();
  const auto end = Clock::now();
  if (sink == 0) std::cerr << "a rule without a name\n";
  return std::chrono::duration<double, std::nano>(end - start).count() / repeats;
}

}  // namespace

int main() {
  egret::config::Problems problems;
  const auto rules = egret::config::shipped_reply_rules(problems);
  std::vector<egret::smtp::ReplyText> replies;
  for (std::string line; std::getline(std::cin, line);) {
    for (std::size_t at; (at = line.find("\\n")) != std::string::npos;) line.replace(at, 2, "\n");
    replies.push_back(egret::smtp::reply_text(line));
  }
  if (replies.empty()) return 1;
  constexpr int rounds = 30;
  std::vector<double> best(replies.size(), 1e12);
  for (int round = 0; round < rounds; ++round)
    for (std::size_t i = 0; i < replies.size(); ++i) best[i] = std::min(best[i], nanoseconds(*rules, replies[i]));
  std::ranges::sort(best);
  const auto share = [&](double q) { return best[static_cast<std::size_t>(q * static_cast<double>(best.size() - 1))]; };
  std::cout << "replies " << best.size() << "  mean "
            << std::accumulate(best.begin(), best.end(), 0.0) / static_cast<double>(best.size()) << " ns  median " << share(0.5)
            << " ns  95% " << share(0.95) << " ns  slowest " << best.back() << " ns\n";
}
