// A report to a sender as a message for the spool, and whether he wants it.
#pragma once

#include <memory>
#include <string>

#include "relay/spool/format.hpp"
#include "smtp/dsn.hpp"
#include "smtp/dsn_parameters.hpp"

namespace egret::relay {

/// NOTIFY (RFC 3461 section 4.1); without it failures and delays are reported.
bool report_wanted(const smtp::DsnRcpt& asked, smtp::DsnAction action);

/// From the null sender, and marked as a report, so that nothing answers it.
std::shared_ptr<spool::Message> report_message(const smtp::DsnInput& in, const std::string& class_name);

}  // namespace egret::relay
