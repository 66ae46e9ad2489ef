#pragma once

#include <compare>
#include <cstdint>

#include "base/ids.h"

namespace gimbal {

// The three resumable parts of a decoder layer, in order. A batch may stop at the start of any.
enum class Stage : std::uint8_t {
  kAttention,  // norm, QKV, attention, output projection
  kRouter,     // norm, gate, top-k: the choices can be seen before any expert runs
  kExperts,    // post rows to the expert services, expert FFNs, combine (dense layers: the FFN)
};

inline constexpr int kStagesPerLayer = 3;

// Where a batch stands in the forward pass: the next stage to run. The end of a forward pass of L
// layers is {L, kAttention}. Value type; ordered by progress.
struct Cursor {
  LayerIndex layer{0};
  Stage stage = Stage::kAttention;

  auto operator<=>(const Cursor&) const = default;

  // Stages run since the start of the forward pass.
  [[nodiscard]] constexpr int index() const {
    return layer.value() * kStagesPerLayer + static_cast<int>(stage);
  }
  [[nodiscard]] static constexpr Cursor from_index(int index) {
    return {LayerIndex{index / kStagesPerLayer}, static_cast<Stage>(index % kStagesPerLayer)};
  }
  [[nodiscard]] constexpr Cursor next() const { return from_index(index() + 1); }
  [[nodiscard]] static constexpr Cursor end(int layers) { return {LayerIndex{layers}}; }
};

}  // namespace gimbal
