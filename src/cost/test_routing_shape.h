#pragma once

#include <cstddef>
#include <vector>

#include "cost/routing_model.h"

namespace gimbal::cost {

inline RoutingShape shape_of(int layers, int experts, int experts_per_token) {
  return {.experts_of_layer = std::vector<int>(static_cast<std::size_t>(layers), experts),
          .experts_per_token = experts_per_token};
}

}  // namespace gimbal::cost
