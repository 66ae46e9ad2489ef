#pragma once

#include <memory>
#include <string_view>
#include <vector>

namespace gimbal::apps {

// A matrix product of somebody else's making, to hold our own against. One thread.
class MatrixYardstick {
 public:
  virtual ~MatrixYardstick() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;
  // Floating-point operations a second, measured in some tenths of a second.
  [[nodiscard]] virtual double rate() = 0;
};

// oneDNN's product of two matrices 2048 x 2048, both already in the layout that it asks for, in
// bfloat16 ("onednn_bf16") or float32 ("onednn_f32"). It runs on threads of its own, one for each
// of `cpus`, bound to them if `pin`. Null in builds without oneDNN (matrix_yardstick_absent.cc).
[[nodiscard]] std::unique_ptr<MatrixYardstick> onednn_yardstick(std::vector<int> cpus, bool pin,
                                                                bool bf16);

}  // namespace gimbal::apps
