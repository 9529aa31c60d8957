#include "relay/cli/hash_password.hpp"

#include <termios.h>
#include <unistd.h>

#include <iostream>
#include <stdexcept>
#include <string>

#include "relay/auth/password.hpp"

namespace egret::relay {
namespace {

/// Switches the terminal's echo off while it lives.
class Unseen {
 public:
  Unseen() {
    tcgetattr(STDIN_FILENO, &before_);
    termios quiet = before_;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
  }
  ~Unseen() { tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_); }
  Unseen(const Unseen&) = delete;
  Unseen& operator=(const Unseen&) = delete;

 private:
  termios before_{};
};

std::string ask(const char* prompt) {
  std::string out;
  std::cerr << prompt << std::flush;
  std::getline(std::cin, out);
  std::cerr << "\n";
  return out;
}

std::string read_password() {
  std::string out;
  if (!isatty(STDIN_FILENO)) {
    std::getline(std::cin, out);
    return out;
  }
  const Unseen unseen;
  out = ask("Password: ");
  if (ask("Again: ") != out) throw std::runtime_error("the two passwords differ");
  return out;
}

}  // namespace

int hash_password_command(bool scram) {
  const std::string password = read_password();
  const std::string hash = scram ? hash_scram(password) : hash_password(password);
  if (hash.empty()) throw std::runtime_error("this password cannot be used: it is empty, too long or has a NUL");
  std::cout << hash << "\n";
  return 0;
}

}  // namespace egret::relay
