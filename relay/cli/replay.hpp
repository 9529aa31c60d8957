// `egret replay`: recorded replies judged again, to see what changed rules would change.
#pragma once

#include <iosfwd>
#include <string>

#include "config/config.hpp"

namespace egret::relay {

/// Judges every reply of `in` by the rules of `config` (null: the shipped ones) and prints the differences.
///
/// A line is a JSON object of Egret's own log (`log.format: json`), compared with the label and rule that it records,
/// or a bare SMTP reply as `egret classify` takes it, compared with what the shipped rules say. Lines of other kinds are
/// counted and passed over. The exit code: 0, differences or not.
int replay(std::istream& in, const config::Config* config, bool as_json);

/// The same for a file ("-": standard input) and a configuration file; where that is the default and does not exist,
/// the shipped rules. 1 when either cannot be read.
int replay_command(const std::string& recorded, const std::string& configuration, bool is_default, bool as_json);

}  // namespace egret::relay
