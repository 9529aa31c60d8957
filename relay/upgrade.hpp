// Another program takes this one's place: the same process, the same listening sockets, another executable.
//
// The executable on disk is asked first whether it is an egret that can use the configuration. Then the program ends as at
// SIGTERM, but keeps its listening sockets: new connections wait in their queues. execve(2) is the last step, and names the
// sockets as a service manager would (sd_listen_fds(3)), so that the program has one way to inherit them.
#pragma once

#include <sys/types.h>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/readable_pipe.hpp>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace egret::relay {

/// How this process was started.
struct Invocation {
  std::string program;                 ///< absolute, as it was called: a symbolic link is followed when it is used, not before
  std::vector<std::string> arguments;  ///< argv, with the name in front

  /// Reads it from the system. Called before the working directory changes, if it ever does.
  static Invocation of_this_process();
};

/// What came of asking to be replaced.
struct UpgradeResult {
  bool ok = false;
  std::string program;
  std::string version;  ///< as the new program says it
  std::string refusal;  ///< why nothing happens, in one line
};

/// Asks the executable on disk. Used from its executor's thread.
class Successor {
 public:
  Successor(const boost::asio::any_io_executor& executor, Invocation invocation);

  /// Runs `PROGRAM check --json -c file` and `PROGRAM --version`, for at most 20 s together. One at a time.
  boost::asio::awaitable<UpgradeResult> check(std::string file);
  /// Ends a check that is under way: it refuses.
  void cancel();
  const Invocation& invocation() const { return invocation_; }

 private:
  struct Answer {
    std::string failure;  ///< empty: it ran and ended with code 0
    std::string output;
  };
  boost::asio::awaitable<Answer> run(std::vector<std::string> arguments, std::chrono::steady_clock::time_point deadline);

  void end_child();

  boost::asio::any_io_executor executor_;
  Invocation invocation_;
  pid_t child_ = -1;                            ///< leads a process group of its own
  boost::asio::readable_pipe* pipe_ = nullptr;  ///< what it prints
  bool cancelled_ = false;
};

/// Executes the program again with these listening sockets; where that fails, this one's own executable, which is still there
/// even if its file is not. Logs, and returns only when neither can be executed; nothing else may run any more.
void hand_over(const Invocation& invocation, const std::vector<int>& sockets, const std::string& log_level,
               const std::string& log_format);

}  // namespace egret::relay
