#pragma once

#include <algorithm>
#include <cstdint>

namespace gimbal::kernels {

// How the panels of a matrix are cut into tasks, in order: large ones first, then small ones, so
// that a region of many tasks reads in long runs and yet ends on all workers at once. Value type.
struct PanelCut {
  std::int64_t panels = 0;
  std::int64_t large_panels = 0;  // of them, in tasks of large_size
  int large_size = 1;
  int small_size = 1;

  struct Range {
    std::int64_t first = 0;
    int count = 0;
  };

  [[nodiscard]] int large_tasks() const {
    return static_cast<int>((large_panels + large_size - 1) / large_size);
  }
  [[nodiscard]] int tasks() const {
    return large_tasks() + static_cast<int>((panels - large_panels + small_size - 1) / small_size);
  }
  [[nodiscard]] Range range(int task) const {
    const bool large = task < large_tasks();
    const int size = large ? large_size : small_size;
    const std::int64_t end = large ? large_panels : panels;
    const std::int64_t first = large ? static_cast<std::int64_t>(task) * size
                                     : large_panels + std::int64_t{task - large_tasks()} * size;
    return {first, static_cast<int>(std::min<std::int64_t>(size, end - first))};
  }
};

}  // namespace gimbal::kernels
