#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/random.h"
#include "policy/expert_map.h"

namespace gimbal::engine {

// A map that puts every expert on one to three ranks with any fractions.
inline policy::ExpertMap random_map(const policy::ExpertMapShape& shape, std::uint32_t version,
                                    Rng& rng) {
  std::vector<policy::ExpertPlacement> entries;
  for (std::size_t layer = 0; layer < shape.experts_of_layer.size(); ++layer) {
    for (int expert = 0; expert < shape.experts_of_layer[layer]; ++expert) {
      const int copies = 1 + static_cast<int>(rng.below(std::min(3, shape.ranks)));
      const int first = static_cast<int>(rng.below(shape.ranks));
      double left = 1;
      for (int copy = 0; copy < copies; ++copy) {
        const double part = copy + 1 == copies ? left : left * (0.2 + 0.6 * rng.uniform());
        left -= part;
        entries.push_back({.layer = LayerIndex{static_cast<std::int32_t>(layer)},
                           .expert = ExpertId{expert},
                           .rank = Rank{(first + copy) % shape.ranks},
                           .fraction = part});
      }
    }
  }
  auto map = policy::ExpertMap::make(shape, version, entries);
  EXPECT_TRUE(map.ok()) << map.error().message;
  return std::move(map).value();
}

}  // namespace gimbal::engine
