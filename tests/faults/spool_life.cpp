// A few seconds in the life of a spool with segments so small that all happens in it that takes days in a relay's: new segments,
// disk taken step by step, messages copied forward, DONE and PROGRESS written again, segments unlinked. Run with the layer
// preloaded, which writes it down; tests/e2e/test_spool_power_loss.py cuts the power at any moment of it.
//
//   spool_life live DIRECTORY LOG SEED SECONDS stop|kill   lives, and says in LOG what is promised from when on
//   spool_life check DIRECTORY                             starts, and says what waits there
//
// LOG has a line for each promise, appended: TIME (CLOCK_MONOTONIC, ns) and one of
//   begun N        message N may be there from now on
//   stored N       it was acknowledged
//   served N I     recipient I is done
//   done N         all of it is
// check prints "waits N" with the recipients that are pending and "bad N" for a body that is not the message's.
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "relay/runtime/clock.hpp"
#include "relay/spool/spool.hpp"

namespace {

using namespace egret;
using namespace egret::relay::spool;
namespace asio = boost::asio;

constexpr std::uint32_t segment = 96 * 1024, step = 16 * 1024;
constexpr std::size_t most_waiting = 60, most_octets = 6000;

Options options(const std::string& directory) {
  Options out{directory, 0, std::chrono::milliseconds(5)};
  out.segment_size = segment;
  out.step = step;
  return out;
}

/// What message `number` says.
std::string body_of(std::uint64_t number) {
  std::mt19937_64 random(number);
  std::string out(200 + random() % most_octets, ' ');
  for (char& c : out) c = static_cast<char>('a' + random() % 26);
  return out;
}

class Life {
 public:
  Life(const std::string& directory, const std::string& log, unsigned seed)
      : random_(seed), log_(log, std::ios::app), next_(std::uint64_t{seed} << 32) {
    spool_ = std::make_unique<Spool>(options(directory), [this](const Recovered& r) { recovered_.push_back(r); });
  }

  void live(std::chrono::milliseconds time) {
    asio::io_context io;
    const auto end = std::chrono::steady_clock::now() + time;
    know_recovered(io);
    while (std::chrono::steady_clock::now() < end) {
      const std::size_t together = 1 + random_() % 4;
      for (std::size_t i = 0; i < together; ++i) asio::co_spawn(io, accept(), asio::detached);
      io.restart();
      io.run();
      while (waiting_.size() > most_waiting || (!waiting_.empty() && random_() % 3 != 0)) end_one();
      std::this_thread::sleep_for(std::chrono::milliseconds(3));  // old segments are looked at twice in a second only
    }
  }
  void stop() { spool_.reset(); }

 private:
  struct Known {
    std::uint64_t number = 0;
    std::set<std::uint32_t> pending;
  };

  void say(const std::string& what) {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    log_ << static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec) << ' ' << what
         << std::endl;
  }

  /// What the life before left goes on, as in a relay that was started again.
  void know_recovered(asio::io_context& io) {
    for (const Recovered& one : recovered_)
      asio::co_spawn(
          io,
          [this, &one]() -> asio::awaitable<void> {
            const auto message = co_await spool_->read(one.id);
            if (!message) std::abort();
            Known& known = waiting_[one.id];
            known.number = std::stoull(message->sender.local);
            for (const auto& group : one.groups)
              for (const auto& [recipient, state] : group.recipients) known.pending.insert(recipient);
          },
          asio::detached);
    io.run();
  }

  asio::awaitable<void> accept() {
    const std::uint64_t number = ++next_;
    const std::string body = body_of(number);
    auto message = std::make_shared<Message>();
    message->id = spool_->next_id();
    message->class_name = "transactional";
    message->sender = {std::to_string(number), "example.com"};
    for (std::size_t i = 0; i < 1 + number % 3; ++i) message->recipients.push_back({"r" + std::to_string(i), "example.net"});
    message->body_size = body.size();
    std::string rest = body;
    say("begun " + std::to_string(number));
    while (rest.size() > 1000 && random_() % 8 == 0) {
      const auto chunk = co_await spool_->chunk(rest.substr(0, 900));
      if (chunk.trouble != Trouble::none) std::abort();
      message->extents.push_back(chunk.extent);
      rest.erase(0, 900);
    }
    message->tail = {rest};
    const Trouble trouble = co_await spool_->accept(message);
    if (trouble != Trouble::none) std::abort();
    say("stored " + std::to_string(number));
    Known& known = waiting_[message->id];
    known.number = number;
    for (std::uint32_t i = 0; i < message->recipients.size(); ++i) known.pending.insert(i);
  }

  /// The oldest mostly, so that segments get empty; now and then another, so that some stay sparse.
  void end_one() {
    auto it = waiting_.begin();
    std::advance(it, random_() % 5 == 0 ? random_() % waiting_.size() : random_() % std::min<std::size_t>(4, waiting_.size()));
    if (old_.size() < 12 && random_() % 40 == 0) old_.insert(it->first);
    if (old_.contains(it->first) && random_() % 200 != 0) return;
    auto& [id, known] = *it;
    Progress progress;
    progress.id = id;
    progress.attempts = 1;
    progress.reply = "451 4.2.1 later";
    for (const auto recipient : known.pending) progress.recipients.emplace_back(recipient, RecipientState::pending);
    const std::string number = std::to_string(known.number);
    if (random_() % 4 == 0) return spool_->progress(std::move(progress));
    if (known.pending.size() > 1) {
      progress.recipients.front().second = RecipientState::delivered;
      const auto served = *known.pending.begin();
      known.pending.erase(known.pending.begin());
      say("served " + number + " " + std::to_string(served));
      return spool_->progress(std::move(progress));
    }
    say("done " + number);
    spool_->done(id);
    old_.erase(id);
    waiting_.erase(it);
  }

  std::mt19937_64 random_;
  std::ofstream log_;
  std::uint64_t next_;
  std::unique_ptr<Spool> spool_;
  std::vector<Recovered> recovered_;
  std::map<smtp::MessageId, Known> waiting_;
  std::set<smtp::MessageId> old_;  // of those that wait: they stay for long
};

int check(const std::string& directory) {
  std::vector<Recovered> found;
  Spool spool(options(directory), [&](const Recovered& r) { found.push_back(r); });
  asio::io_context io;
  asio::co_spawn(
      io,
      [&]() -> asio::awaitable<void> {
        for (const Recovered& one : found) {
          const auto message = co_await spool.read(one.id);
          if (!message) std::abort();
          const std::string& number = message->sender.local;
          std::string body;
          for (const Extent& extent : message->extents) body += co_await spool.read(extent);
          for (const auto& piece : message->tail) body += piece;
          if (body != body_of(std::stoull(number))) std::cout << "bad " << number << '\n';
          std::cout << "waits " << number;
          for (const auto& group : one.groups)
            for (const auto& [recipient, state] : group.recipients) std::cout << ' ' << recipient;
          std::cout << '\n';
        }
      },
      asio::detached);
  io.run();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  try {
    if (arguments.size() == 2 && arguments[0] == "check") return check(arguments[1]);
    if (arguments.size() != 6 || arguments[0] != "live") {
      std::cerr << "usage: spool_life live DIRECTORY LOG SEED SECONDS stop|kill, or check DIRECTORY\n";
      return 2;
    }
    Life life(arguments[1], arguments[2], static_cast<unsigned>(std::stoul(arguments[3])));
    life.live(std::chrono::milliseconds(static_cast<long>(std::stod(arguments[4]) * 1000)));
    if (arguments[5] == "kill") _exit(0);
    life.stop();
    return 0;
  } catch (const std::exception& e) {
    std::cerr << e.what() << '\n';
    return 1;
  }
}
