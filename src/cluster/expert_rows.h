#pragma once

#include <cstdint>
#include <vector>

namespace gimbal::cluster {

// Which ranks of a group ran how much of something: (row, expert) pairs.
struct ExpertRows {
  std::uint64_t map = 0;        // ExpertMap::fingerprint() of the map that sent them there
  std::vector<double> by_rank;  // by rank of the group; empty: not known

  bool operator==(const ExpertRows&) const = default;
};

}  // namespace gimbal::cluster
