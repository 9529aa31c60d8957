// Fills a spool with waiting messages, without SMTP: for the scenario that starts on a million of them.
//
//   bench_spool_fill DIRECTORY COUNT BODY_OCTETS [NEXT_ATTEMPT_SECONDS]
//
// Every message has one recipient, in one of 1000 domains, and was tried once: a PROGRESS record says when the next
// attempt is. Deterministic but for ids and times.
#include <charconv>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <thread>

#include "relay/runtime/clock.hpp"
#include "relay/spool/spool.hpp"

namespace {

using namespace egret;
using namespace egret::relay::spool;

constexpr std::uint64_t at_once = 2000;  // handed in and not yet written: bounds the memory

std::uint64_t number(const char* text) {
  std::uint64_t out = 0;
  std::from_chars(text, text + std::strlen(text), out);
  return out;
}

void fill(const std::string& directory, std::uint64_t count, std::uint64_t body_size, std::chrono::seconds next) {
  Spool spool(Options{directory, 0}, [](const Recovered&) {});
  const std::string header = "From: a@sender.example\r\nSubject: waiting\r\n\r\n";
  std::string body = header;
  while (body.size() + 2 < body_size) body += body.size() % 78 < 76 ? "x" : "\r\n";
  body += "\r\n";
  const auto time = relay::now();
  for (std::uint64_t i = 0; i < count; ++i) {
    auto message = std::make_shared<Message>();
    message->id = spool.next_id();
    message->class_name = i % 10 == 0 ? "transactional" : "bulk";
    message->sender = {"bounce+" + std::to_string(i), "sender.example"};
    message->recipients = {{"user" + std::to_string(i), "site" + std::to_string(i % 1000) + ".test"}};
    message->accepted = time - std::chrono::minutes(30);
    message->header_end = header.size() - 2;
    message->client = "192.0.2.7";
    message->body_size = body.size();
    message->tail = {body};
    Progress progress;
    progress.id = message->id;
    progress.recipients = {{0, RecipientState::pending}};
    progress.attempts = 1;
    progress.next_at = time + next + std::chrono::milliseconds(i % 600'000);
    progress.reply = "451 4.7.1 Temporarily deferred, try again later";
    progress.reply_host = "mx" + std::to_string(i % 1000) + ".test";
    spool.accept_internal(std::move(message));
    spool.progress(std::move(progress));
    while (spool.counters().waiting + at_once < i) std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: " << argv[0] << " DIRECTORY COUNT BODY_OCTETS [NEXT_ATTEMPT_SECONDS]\n";
    return 2;
  }
  fill(argv[1], number(argv[2]), number(argv[3]), std::chrono::seconds(argc > 4 ? number(argv[4]) : 3600));
  return 0;
}
