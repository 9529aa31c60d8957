// Which class of mail goes first where several meet: the weights, and who leaves room for whom.
#pragma once

#include <cstdint>
#include <vector>

#include "config/config.hpp"
#include "routing/route.hpp"

namespace egret::relay {

/// Of one configuration. A value; thread-compatible.
class ClassWeights {
 public:
  explicit ClassWeights(const config::Config& config);

  int of(std::uint32_t message_class) const { return weights_[message_class]; }
  /// Some class has a greater weight: in what all classes share, this one leaves a part free.
  bool lesser(std::uint32_t message_class) const { return weights_[message_class] < greatest_; }
  /// The same among the classes that may use the egress.
  bool lesser_at(routing::EgressRef egress, std::uint32_t message_class) const;

 private:
  std::vector<int> weights_;  // by class
  std::vector<int> sources_;  // by source: the greatest weight of a class that may use it
  std::vector<int> smarthosts_;
  int greatest_ = 1;
};

}  // namespace egret::relay
