#include "sched/order_decision.h"

#include <array>

namespace gimbal::sched {

std::string_view to_string(OrderReason reason) {
  constexpr std::array<std::string_view, kOrderReasons> kNames{
      "arrived", "evicted", "made room", "given back", "promoted", "retuned"};
  return kNames[static_cast<std::size_t>(reason)];
}

}  // namespace gimbal::sched
