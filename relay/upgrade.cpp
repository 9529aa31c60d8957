#include "relay/upgrade.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "relay/runtime/log.hpp"
#include "relay/runtime/service_manager.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using namespace std::chrono_literals;

constexpr auto check_time = 20s;
constexpr std::size_t max_output = 64 * 1024;
constexpr const char* own_executable = "/proc/self/exe";

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (const auto& string : strings) out.push_back(const_cast<char*>(string.c_str()));
  out.push_back(nullptr);
  return out;
}

/// The path without what the kernel adds when the file was replaced.
std::string own_path() {
  std::error_code error;
  std::string path = std::filesystem::read_symlink(own_executable, error).string();
  constexpr std::string_view mark = " (deleted)";
  if (path.ends_with(mark)) path.resize(path.size() - mark.size());
  return path;
}

/// Starts it in a process group of its own, with nothing of ours but standard input (empty), and `out` for what it prints.
/// Returns an errno value.
int spawn(const std::string& program, const std::vector<std::string>& arguments, int out, pid_t& child) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  sigset_t none, defaults;
  sigemptyset(&none);
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out, 1);
  posix_spawn_file_actions_adddup2(&actions, out, 2);
  posix_spawn_file_actions_addclosefrom_np(&actions, 3);
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  const int error = posix_spawn(&child, program.c_str(), &actions, &attributes, pointers(arguments).data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

std::string exit_text(int status) {
  if (WIFEXITED(status)) return WEXITSTATUS(status) == 0 ? "" : "exit code " + std::to_string(WEXITSTATUS(status));
  return WIFSIGNALED(status) ? "ended by signal " + std::to_string(WTERMSIG(status)) : "ended in an unknown way";
}

std::string first_line(const std::string& text) {
  return text.substr(0, std::min(text.find('\n'), std::size_t{500}));
}

/// What `egret check --json` has against the configuration; empty where it is valid.
std::string problem_in(const std::string& answer) {
  boost::system::error_code error;
  const json::value value = json::parse(answer, error);
  const json::object* object = error ? nullptr : value.if_object();
  const json::value* valid = object ? object->if_contains("valid") : nullptr;
  if (!valid || !valid->is_bool()) return "it is not an egret: check --json answered " + first_line(answer);
  if (valid->get_bool()) return "";
  const json::value* problems = object->if_contains("problems");
  const json::array* list = problems ? problems->if_array() : nullptr;
  if (!list || list->empty() || !list->front().is_object()) return "it refuses the configuration";
  const json::object& first = list->front().get_object();
  const auto text = [&](const char* key) {
    const json::value* found = first.if_contains(key);
    if (!found) return std::string();
    return found->is_string() ? std::string(found->get_string()) : json::serialize(*found);
  };
  std::string key = text("key");
  return "it refuses the configuration: " + text("file") + ":" + text("line") + ":" + text("column") + ": " +
         (key.empty() ? "" : key + ": ") + text("text");
}

/// 3, 4, ... as sd_listen_fds(3) wants them; everything above is closed by exec. False: no descriptors left to do it with.
bool arrange(const std::vector<int>& sockets) {
  const int count = static_cast<int>(sockets.size());
  std::vector<int> aside;
  for (const int socket : sockets) {
    aside.push_back(fcntl(socket, F_DUPFD_CLOEXEC, 3 + count));
    if (aside.back() < 0) return false;
  }
  for (int i = 0; i < count; ++i)
    if (dup2(aside[static_cast<std::size_t>(i)], 3 + i) < 0) return false;
  return close_range(3 + static_cast<unsigned>(count), ~0u, CLOSE_RANGE_CLOEXEC) == 0;
}

std::vector<std::string> environment_with(std::size_t sockets) {
  std::vector<std::string> out;
  for (char** entry = environ; *entry; ++entry)
    if (!std::string_view(*entry).starts_with("LISTEN_")) out.emplace_back(*entry);
  out.push_back("LISTEN_PID=" + std::to_string(getpid()));
  out.push_back("LISTEN_FDS=" + std::to_string(sockets));
  return out;
}

}  // namespace

Invocation Invocation::of_this_process() {
  Invocation out;
  std::ifstream in("/proc/self/cmdline", std::ios::binary);
  const std::string all{std::istreambuf_iterator<char>(in), {}};
  for (std::size_t at = 0; at < all.size();) {
    out.arguments.emplace_back(all.c_str() + at);
    at += out.arguments.back().size() + 1;
  }
  const auto* called = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  out.program = called ? called : "";
  // One that replaced nothing after all (hand_over() below) was called by this name.
  if (out.program.empty() || out.program == own_executable)
    out.program =
        !out.arguments.empty() && out.arguments.front().find('/') != std::string::npos ? out.arguments.front() : own_path();
  std::error_code error;
  const auto absolute = std::filesystem::absolute(out.program, error);
  if (!error) out.program = absolute.string();
  return out;
}

Successor::Successor(const asio::any_io_executor& executor, Invocation invocation)
    : executor_(executor), invocation_(std::move(invocation)) {}

void Successor::cancel() {
  cancelled_ = true;
  end_child();
}

/// With those that it started. One that left its group may hold the pipe still: nobody waits for that.
void Successor::end_child() {
  if (child_ <= 0) return;
  kill(-child_, SIGKILL);
  boost::system::error_code ignored;
  if (pipe_) pipe_->close(ignored);
}

asio::awaitable<UpgradeResult> Successor::check(std::string file) {
  const auto deadline = std::chrono::steady_clock::now() + check_time;
  UpgradeResult out;
  out.program = invocation_.program;
  const std::vector<std::string> version{out.program, "--version"}, check{out.program, "check", "--json", "-c", file};
  const Answer named = co_await run(version, deadline);
  out.version = first_line(named.output);
  if (!named.failure.empty() || !out.version.starts_with("egret ")) {
    out.refusal = named.failure.empty() ? "it is not an egret: --version answered " + out.version : "--version: " + named.failure;
    co_return out;
  }
  const Answer checked = co_await run(check, deadline);
  out.refusal = checked.output.starts_with('{') ? problem_in(checked.output) : "";
  if (out.refusal.empty() && !checked.failure.empty()) out.refusal = "check: " + checked.failure;
  if (out.refusal.empty()) out.refusal = problem_in(checked.output);
  out.ok = out.refusal.empty();
  co_return out;
}

asio::awaitable<Successor::Answer> Successor::run(std::vector<std::string> arguments,
                                                  std::chrono::steady_clock::time_point deadline) {
  Answer out;
  if (cancelled_) {
    out.failure = "the program ends";
    co_return out;
  }
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) {
    out.failure = std::strerror(errno);
    co_return out;
  }
  asio::readable_pipe pipe(executor_, ends[0]);
  const int failed = spawn(arguments.front(), arguments, ends[1], child_);
  close(ends[1]);
  if (failed != 0) {
    child_ = -1;
    out.failure = std::strerror(failed);
    co_return out;
  }
  asio::steady_timer late(executor_, deadline);
  late.async_wait([this, child = child_](const boost::system::error_code& error) {
    if (!error && child_ == child) end_child();
  });
  pipe_ = &pipe;
  boost::system::error_code error;
  std::array<char, 4096> buffer;
  while (!error) {
    const std::size_t got = co_await pipe.async_read_some(asio::buffer(buffer), asio::redirect_error(asio::use_awaitable, error));
    if (out.output.size() + got > max_output) break;  // it hears of that by SIGPIPE, or by the end of its time
    out.output.append(buffer.data(), got);
  }
  pipe_ = nullptr;
  pipe.close(error);
  // Not pidfd_open(): glibc 2.36 declares it without C linkage.
  const int descriptor = static_cast<int>(syscall(SYS_pidfd_open, child_, 0));
  if (descriptor >= 0) {
    asio::posix::stream_descriptor ended(executor_, descriptor);
    co_await ended.async_wait(asio::posix::stream_descriptor::wait_read, asio::redirect_error(asio::use_awaitable, error));
  }
  int status = 0;
  kill(-child_, SIGKILL);  // whom it left behind; it itself only where its end could not be awaited
  waitpid(child_, &status, 0);
  child_ = -1;
  late.cancel();
  out.failure = std::chrono::steady_clock::now() >= deadline ? "no answer in time" : exit_text(status);
  co_return out;
}

void hand_over(const Invocation& invocation, const std::vector<int>& sockets, const std::string& log_level,
               const std::string& log_format) {
  log::info("handing over", {{"program", invocation.program}, {"sockets", std::to_string(sockets.size())}});
  log::stop();
  service_manager::alive();
  // What arrives until the new program listens to signals would otherwise end it.
  std::signal(SIGHUP, SIG_IGN);
  std::signal(SIGUSR2, SIG_IGN);
  const auto environment = environment_with(sockets.size());
  const auto arguments = pointers(invocation.arguments);
  const bool arranged = arrange(sockets);
  int error = arranged ? 0 : errno;
  if (arranged) {
    execve(invocation.program.c_str(), arguments.data(), pointers(environment).data());
    error = errno;
  }
  log::start(log_level, log_format);
  log::error(arranged ? "the new program cannot be executed; this one starts again" : "the sockets cannot be handed over",
             {{"program", invocation.program}, {"reason", std::strerror(error)}});
  log::stop();
  if (arranged) execve(own_executable, arguments.data(), pointers(environment).data());
}

}  // namespace egret::relay
