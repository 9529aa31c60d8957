#include "relay/delivery/report_message.hpp"

#include <algorithm>

#include "relay/runtime/clock.hpp"

namespace egret::relay {

bool report_wanted(const smtp::DsnRcpt& asked, smtp::DsnAction action) {
  if (asked.never) return false;
  switch (action) {
    case smtp::DsnAction::failed:
      return !asked.notify_given || asked.failure;
    case smtp::DsnAction::delayed:
      return !asked.notify_given || asked.delay;
    case smtp::DsnAction::relayed:
      return asked.success;
  }
  return true;
}

std::shared_ptr<spool::Message> report_message(const smtp::DsnInput& in, const std::string& class_name) {
  auto dsn = std::make_shared<spool::Message>();
  dsn->id = in.dsn_id;
  dsn->class_name = class_name;
  dsn->recipients = {in.sender};
  dsn->utf8 = !in.sender.ascii() || in.utf8;
  dsn->report = true;
  dsn->accepted = now();
  dsn->client = "local";
  dsn->tail.push_back(smtp::build_dsn(in));
  dsn->eight_bit = std::ranges::any_of(dsn->tail.front(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
  dsn->body_size = dsn->tail.front().size();
  const std::size_t end = dsn->tail.front().find("\r\n\r\n");
  dsn->header_end = end == std::string::npos ? 0 : end + 2;
  return dsn;
}

}  // namespace egret::relay
