#pragma once

#include <array>
#include <cstdint>

#include "policy/request_order.h"

namespace gimbal::policy {

// A queue in short: how many prompt tokens wait up to which keys. Value type; allocates nothing.
class QueueProfile {
 public:
  static constexpr int kMostPoints = 16;
  // The key of one who runs before all others.
  static constexpr OrderKey kFirst{-1'000'000, -1e15};

  struct Point {
    OrderKey key;
    double tokens = 0;    // of all requests up to this key, itself too
    double requests = 0;  // their number
  };

  // Adds the next point in the order of the queue. Requires: fewer than kMostPoints.
  void add(const Point& point);

  // Tokens of those that run before a request with this key. Of several requests between two points
  // half; beyond the last point all.
  [[nodiscard]] double tokens_before(const OrderKey& key) const;

  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] const Point& operator[](int i) const {
    return points_[static_cast<std::size_t>(i)];
  }

 private:
  std::array<Point, kMostPoints> points_{};
  int size_ = 0;
};

}  // namespace gimbal::policy
