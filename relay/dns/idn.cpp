#include "relay/dns/idn.hpp"

#include <idn2.h>

#include <algorithm>

#include "smtp/text.hpp"

namespace egret::relay {

std::string to_a_labels(std::string_view domain) {
  // Most domains are ASCII, and this is asked for each message.
  const bool plain = std::ranges::none_of(domain, [](unsigned char c) { return c >= 0x80; });
  if (plain && domain.find("--") == std::string_view::npos) return smtp::lower(domain);
  const std::string copy(domain);
  char* out = nullptr;
  const int status = idn2_to_ascii_8z(copy.c_str(), &out, IDN2_NONTRANSITIONAL | IDN2_NFC_INPUT);
  if (status != IDN2_OK) return {};
  std::string ascii = smtp::lower(out);
  idn2_free(out);
  return ascii;
}

}  // namespace egret::relay
