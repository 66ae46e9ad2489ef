#pragma once

#include <cstdint>
#include <string_view>

namespace gimbal::cost {

// How far two ranks are from each other.
enum class Tier : std::uint8_t {
  kOwnRank,   // the same device: nothing is exchanged
  kSameNode,  // another device of the same host
  kOtherNode  // a device of another host
};

[[nodiscard]] constexpr std::string_view to_string(Tier tier) {
  switch (tier) {
    case Tier::kOwnRank:
      return "own_rank";
    case Tier::kSameNode:
      return "same_node";
    case Tier::kOtherNode:
      return "other_node";
  }
  return "";
}

}  // namespace gimbal::cost
