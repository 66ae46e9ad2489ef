#include "policy/queue_profile.h"

#include "base/check.h"

namespace gimbal::policy {

void QueueProfile::add(const Point& point) {
  GIMBAL_CHECK(size_ < kMostPoints);
  points_[static_cast<std::size_t>(size_++)] = point;
}

double QueueProfile::tokens_before(const OrderKey& key) const {
  Point before;
  for (int i = 0; i < size_; ++i) {
    const Point& point = (*this)[i];
    if (point.key > key) {
      const bool at_point = i > 0 && before.key == key;
      const bool several = !at_point && point.requests - before.requests > 1;
      return several ? (before.tokens + point.tokens) / 2 : before.tokens;
    }
    before = point;
  }
  return before.tokens;
}

}  // namespace gimbal::policy
