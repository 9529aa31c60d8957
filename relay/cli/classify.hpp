// `egret classify`: judges SMTP replies with the rules that the relay would use.
#pragma once

#include <string>

namespace egret::relay {

struct ClassifyOptions {
  std::string file;      ///< configuration whose rules judge; empty: the shipped rules
  std::string ip;        ///< our address on the connection that brought the replies; empty: unknown
  std::string provider;  ///< who said them; empty: unknown
  std::string phase;     ///< when; empty: unknown
  bool explain = false;
  bool as_json = false;
  bool lint = false;
};

/// Reads replies from standard input, one a line, and writes one line for each; with `lint` it looks at the rules
/// instead. The program's exit code. Throws std::runtime_error for bad options.
int classify_command(const ClassifyOptions& options);

}  // namespace egret::relay
