// The reply rules of a configuration: the shipped ones, with the operator's laid over them.
#pragma once

#include <memory>

#include "config/config.hpp"
#include "config/data.hpp"

namespace egret::config {

/// Reads `reputation.replies`. Rules that cannot work are problems at their place. Without the key: the shipped rules.
std::shared_ptr<const routing::ReplyRules> read_own_replies(Section& reputation, const routing::Blocklists& blocklists,
                                                            Problems& problems);

}  // namespace egret::config
