// `egret spool verify|salvage|dump`: a spool looked at, and what can be saved of it, without a running egret.
#pragma once

#include <string>

namespace egret::relay {

struct SpoolCommand {
  std::string config;     ///< its data_dir is looked at, unless `directory` is given
  std::string directory;  ///< a spool, or a data_dir
  std::string to;         ///< salvage: the new spool
  std::string id;         ///< dump: this message
  bool as_json = false;
};

/// Each returns the exit code: 0, or 1 where there is damage (verify) or something could not be saved (salvage). Throw
/// std::runtime_error with one line for people where the command cannot be carried out.
int spool_verify(const SpoolCommand& command);
int spool_dump(const SpoolCommand& command);
int spool_salvage(const SpoolCommand& command);

}  // namespace egret::relay
