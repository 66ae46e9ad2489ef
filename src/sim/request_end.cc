#include "sim/request_end.h"

#include <array>

namespace gimbal::sim {

std::string_view to_string(RequestEnd end) {
  constexpr std::array<std::string_view, kRequestEnds> kNames = {
      "unfinished", "completed", "too long", "refused", "failed", "cancelled"};
  return kNames[static_cast<std::size_t>(end)];
}

}  // namespace gimbal::sim
