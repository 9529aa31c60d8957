#include "smtp/trace.hpp"

#include <array>
#include <ctime>

namespace egret::smtp {
namespace {
constexpr std::string_view alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
}

std::string to_string(MessageId id) {
  auto value = static_cast<std::uint64_t>(id);
  std::string out(13, '0');
  for (std::size_t i = 13; i-- > 0; value >>= 5) out[i] = alphabet[value & 31];
  return out;
}

std::optional<MessageId> parse_message_id(std::string_view text) {
  if (text.size() != 13) return std::nullopt;
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::size_t digit = alphabet.find(text[i] >= 'a' && text[i] <= 'z' ? static_cast<char>(text[i] - 32) : text[i]);
    if (digit == std::string_view::npos || (i == 0 && digit > 15)) return std::nullopt;
    value = value << 5 | digit;
  }
  return MessageId{value};
}

std::string rfc5322_date(std::chrono::system_clock::time_point time) {
  static constexpr std::array<const char*, 7> days{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr std::array<const char*, 12> months{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::string out = days[static_cast<std::size_t>(parts.tm_wday)];
  const auto number = [&out](char before, int value, int digits) {
    out += before;
    for (int unit = digits == 4 ? 1000 : 10; unit > 0; unit /= 10) out += static_cast<char>('0' + value / unit % 10);
  };
  out += ',';
  number(' ', parts.tm_mday, 2);
  out += ' ';
  out += months[static_cast<std::size_t>(parts.tm_mon)];
  number(' ', parts.tm_year + 1900, 4);
  number(' ', parts.tm_hour, 2);
  number(':', parts.tm_min, 2);
  number(':', parts.tm_sec, 2);
  return out += " +0000";
}

namespace {

/// The "with" keyword: RFC 3848, RFC 6531 section 4.3.
std::string protocol(const TraceInfo& info) {
  if (!info.esmtp && !info.utf8) return "SMTP";
  std::string out = info.utf8 ? "UTF8SMTP" : "ESMTP";
  if (info.tls) out += 'S';
  if (info.authenticated) out += 'A';
  return out;
}

}  // namespace

std::string received_field(const TraceInfo& info) {
  const bool v6 = info.client.find(':') != std::string::npos;
  std::string out = "Received: from " + info.helo + " ([" + (v6 ? "IPv6:" : "") + info.client + "])\r\n\tby " + info.hostname +
                    " with " + protocol(info) + " id " + to_string(info.id);
  if (!info.recipient.empty()) out += "\r\n\tfor <" + info.recipient + ">";
  out += ";\r\n\t" + rfc5322_date(info.time) + "\r\n";
  return out;
}

}  // namespace egret::smtp
