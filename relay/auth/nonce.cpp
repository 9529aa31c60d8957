#include "relay/auth/nonce.hpp"

#include <openssl/rand.h>

#include <stdexcept>

#include "smtp/text.hpp"

namespace egret::relay {

std::string random_octets(std::size_t count) {
  std::string out(count, '\0');
  if (RAND_bytes(reinterpret_cast<unsigned char*>(out.data()), static_cast<int>(count)) != 1)
    throw std::runtime_error("no random numbers from OpenSSL");
  return out;
}

std::string random_nonce() {
  return smtp::base64_encode(random_octets(18));
}

}  // namespace egret::relay
