#include "relay/cli/spool.hpp"

#include <boost/json.hpp>
#include <filesystem>
#include <iostream>
#include <stdexcept>

#include "config/config.hpp"
#include "relay/cli/table.hpp"
#include "relay/runtime/clock.hpp"
#include "relay/spool/inspect.hpp"
#include "routing/types.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

namespace json = boost::json;
namespace fs = std::filesystem;
using spool::Inspection;

/// The directory with the segments, of the argument or of the configuration.
fs::path directory_of(const SpoolCommand& command) {
  fs::path base = command.directory;
  if (command.directory.empty()) {
    config::Problems problems;
    const auto config = config::load_file(command.config, config::process_environment(), problems);
    if (!config) throw std::runtime_error(problems.front().to_string() + " (or give the spool's directory)");
    base = config->data_dir;
  }
  std::error_code error;
  return fs::is_directory(base / "spool", error) ? base / "spool" : base;
}

/// What a running egret writes meanwhile may look like damage; what it has unlinked is not missed.
void warn_if_running(const spool::InspectionLock& lock, const fs::path& directory) {
  if (lock.in_use())
    std::cerr << "egret: warning: a running egret uses " << directory.string()
              << "; what it changes meanwhile may be shown wrongly\n";
}

std::string joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const auto& part : parts) out += (out.empty() ? "" : ", ") + part;
  return out;
}

json::array strings(const std::vector<std::string>& parts) {
  json::array out;
  for (const auto& part : parts) out.emplace_back(part);
  return out;
}

json::array lost_json(const std::vector<spool::Lost>& lost) {
  json::array out;
  for (const auto& one : lost)
    out.push_back(json::object{
        {"id", smtp::to_string(one.id)}, {"sender", one.sender}, {"recipients", strings(one.recipients)}, {"why", one.why}});
  return out;
}

std::string lost_line(const spool::Lost& lost) {
  std::string out = smtp::to_string(lost.id);
  if (!lost.recipients.empty()) out += " from <" + lost.sender + "> to " + joined(lost.recipients);
  return smtp::printable(out + ": " + lost.why);
}

std::vector<std::string> pending_of(const spool::Found& found) {
  std::vector<std::string> out;
  for (const auto& group : found.groups)
    for (const auto& [index, state] : group.recipients) out.push_back(found.envelope.recipients[index].to_string());
  return out;
}

struct Summary {
  std::string state = "waiting";
  std::uint32_t attempts = 0;
  routing::Time next_at{};
};

Summary summary_of(const spool::Found& found) {
  Summary out;
  if (found.groups.empty()) out.state = "done";
  for (const auto& group : found.groups) {
    if (group.held) out.state = "held";
    out.attempts = std::max(out.attempts, group.attempts);
    if (group.next_at != routing::Time{} && (out.next_at == routing::Time{} || group.next_at < out.next_at))
      out.next_at = group.next_at;
  }
  if (found.body_lost) out.state = "damaged";
  return out;
}

json::object found_json(const spool::Found& found) {
  const Summary summary = summary_of(found);
  json::object out{{"id", smtp::to_string(found.envelope.id)},
                   {"state", summary.state},
                   {"class", found.envelope.class_name},
                   {"sender", found.envelope.sender.to_string()},
                   {"recipients", strings(pending_of(found))},
                   {"size", found.envelope.sent_size()},
                   {"attempts", summary.attempts},
                   {"accepted", routing::to_rfc3339(found.envelope.accepted)},
                   {"maybe_done", found.maybe_done}};
  if (summary.next_at != routing::Time{}) out["next_at"] = routing::to_rfc3339(summary.next_at);
  return out;
}

/// Writes stored octets as they leave: without the cuts, with what is added, and each line's stuffed dot taken off.
class Unstuffed {
 public:
  Unstuffed(const spool::Message& message, std::ostream& out) : message_(message), out_(out) {}

  void take(std::string_view octets) {
    for (const char c : octets) {
      if (at_ == message_.header_end) plain(message_.added);
      const bool cut = cut_ < message_.cuts.size() && at_ >= message_.cuts[cut_].offset;
      ++at_;
      if (!cut) plain({&c, 1});
      while (cut_ < message_.cuts.size() && at_ >= message_.cuts[cut_].offset + message_.cuts[cut_].length) ++cut_;
    }
    flush();
  }
  void finish() {
    if (at_ == message_.header_end) plain(message_.added);
    flush();
  }

 private:
  void plain(std::string_view octets) {
    for (const char c : octets) {
      if (!(c == '.' && line_start_)) buffer_ += c;
      line_start_ = c == '\n';
    }
  }
  void flush() {
    out_ << buffer_;
    buffer_.clear();
  }
  const spool::Message& message_;
  std::ostream& out_;
  std::string buffer_;
  std::uint64_t at_ = 0;
  std::size_t cut_ = 0;
  bool line_start_ = true;
};

int dump_one(const Inspection& inspection, const SpoolCommand& command) {
  const auto id = smtp::parse_message_id(command.id);
  const auto found = id ? inspection.find(*id) : std::nullopt;
  if (!found) throw std::runtime_error("no message " + command.id + " waits there");
  if (command.as_json) {
    std::cout << json::serialize(found_json(*found)) << "\n";
    return 0;
  }
  Unstuffed out(found->envelope, std::cout);
  if (!inspection.read_body(*found, [&](std::string_view octets) { out.take(octets); }))
    throw std::runtime_error("a part of the message's body cannot be read");
  out.finish();
  std::cout.flush();
  return std::cout ? 0 : 2;
}

}  // namespace

int spool_verify(const SpoolCommand& command) {
  const fs::path directory = directory_of(command);
  const spool::InspectionLock lock(directory);
  warn_if_running(lock, directory);
  const Inspection inspection(directory);
  const auto& n = inspection.counts();
  if (command.as_json) {
    json::array damage;
    for (const auto& one : inspection.damage())
      damage.push_back(json::object{
          {"file", one.file}, {"segment", one.segment}, {"offset", one.offset}, {"length", one.length}, {"what", one.what}});
    json::object counts{{"segments", n.segments}, {"hints", n.hints},       {"waiting", n.waiting}, {"accept", n.accepts},
                        {"chunk", n.chunks},      {"progress", n.progress}, {"done", n.dones}};
    std::cout << json::serialize(json::object{{"directory", directory.string()},
                                              {"sound", inspection.damage().empty()},
                                              {"damage", std::move(damage)},
                                              {"lost", lost_json(inspection.lost())},
                                              {"notes", strings(inspection.notes())},
                                              {"counts", std::move(counts)}})
              << "\n";
    return inspection.damage().empty() ? 0 : 1;
  }
  for (const auto& one : inspection.damage()) {
    std::cout << "DAMAGE " << one.file << " at offset " << one.offset;
    if (one.length) std::cout << ", " << one.length << " octets";
    std::cout << ": " << smtp::printable(one.what) << "\n";
  }
  for (const auto& lost : inspection.lost()) std::cout << "LOST " << lost_line(lost) << "\n";
  for (const auto& note : inspection.notes()) std::cout << "note: " << note << "\n";
  std::cout << n.waiting << " messages wait; " << n.segments << " segments (" << n.hints << " hints), " << n.accepts
            << " ACCEPT, " << n.chunks << " CHUNK, " << n.progress << " PROGRESS, " << n.dones << " DONE records\n";
  if (inspection.damage().empty())
    std::cout << directory.string() << ": sound\n";
  else
    std::cout << directory.string() << ": " << inspection.damage().size()
              << " damaged; egret spool salvage saves the rest into a new spool\n";
  return inspection.damage().empty() ? 0 : 1;
}

int spool_dump(const SpoolCommand& command) {
  const fs::path directory = directory_of(command);
  const spool::InspectionLock lock(directory);
  warn_if_running(lock, directory);
  const Inspection inspection(directory);
  if (!command.id.empty()) return dump_one(inspection, command);
  if (command.as_json) {
    // One object a line: there may be a million.
    inspection.each_waiting([](const spool::Found& found) { std::cout << json::serialize(found_json(found)) << "\n"; });
    return 0;
  }
  Table table({"ID", "STATE", "CLASS", "SIZE", "ATTEMPTS", "SENDER", "RECIPIENTS"});
  inspection.each_waiting([&](const spool::Found& found) {
    const Summary summary = summary_of(found);
    table.add({smtp::to_string(found.envelope.id), summary.state, found.envelope.class_name,
               std::to_string(found.envelope.sent_size()), std::to_string(summary.attempts),
               smtp::printable("<" + found.envelope.sender.to_string() + ">"), smtp::printable(joined(pending_of(found)))});
  });
  std::cout << table.str();
  return 0;
}

int spool_salvage(const SpoolCommand& command) {
  const fs::path directory = directory_of(command);
  const spool::InspectionLock lock(directory);
  if (lock.in_use()) throw std::runtime_error("the spool " + directory.string() + " is in use by a running egret: stop it first");
  const Inspection inspection(directory);
  const spool::Salvaged result = spool::salvage(inspection, command.to);
  if (command.as_json) {
    json::array twice;
    for (const auto id : result.maybe_done) twice.emplace_back(smtp::to_string(id));
    std::cout << json::serialize(json::object{{"from", directory.string()},
                                              {"to", command.to},
                                              {"saved", result.saved},
                                              {"lost", lost_json(result.lost)},
                                              {"maybe_done", std::move(twice)}})
              << "\n";
    return result.lost.empty() ? 0 : 1;
  }
  for (const auto& lost : result.lost) std::cout << "LOST " << lost_line(lost) << "\n";
  for (const auto id : result.maybe_done)
    std::cout << smtp::to_string(id) << ": saved; may be delivered twice, what the spool said of its end may be lost\n";
  std::cout << result.saved << " messages saved to " << command.to << ", " << result.lost.size() << " lost\n"
            << "The old spool was not changed. To start on the new one, move it to where the old one was.\n";
  return result.lost.empty() ? 0 : 1;
}

}  // namespace egret::relay
