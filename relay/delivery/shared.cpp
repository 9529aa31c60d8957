#include "relay/delivery/shared.hpp"

namespace egret::relay {

DeliveryTls::DeliveryTls(const config::Config& config)
    : opportunistic(TlsContext::client(false, "")), verified(TlsContext::client(true, "")), dane(TlsContext::dane()) {
  for (const auto& smarthost : config.smarthosts)
    smarthosts.push_back(smarthost.removed ? nullptr : TlsContext::client(true, smarthost.ca));
}

}  // namespace egret::relay
