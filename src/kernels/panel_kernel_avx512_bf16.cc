#include "kernels/panel_tile_avx512.h"

namespace gimbal::kernels {
namespace {

// The bfloat16 dot product: a pair of inputs and a pair of weights for each of 16 sums. It treats
// subnormal numbers as zero.
struct Bf16 {
  static constexpr StagedLayout kLayout = kStagedBf16;
  static constexpr int kInputBytes = 2;
  static constexpr int kWeightBytes = 2;

  template <int kRows, int kPanels>
  static void tile(const TileCall& call) {
    Sums512<kRows, kPanels> sums;
    sums.load(call.accumulators, call.first);
    const std::byte* inputs = call.inputs;
    const std::byte* panels = call.panels;
    for (int k = 0; k < call.depth; k += 2) {
      __m512bh weights[kPanels];
      if (call.few_rows) fetch_near<kPanels>(panels, call.panel_bytes);
#pragma GCC unroll 4
      for (int panel = 0; panel < kPanels; ++panel)
        weights[panel] =
            reinterpret_cast<__m512bh>(_mm512_load_si512(panels + panel * call.panel_bytes));
#pragma GCC unroll 16
      for (int row = 0; row < kRows; ++row) {
        int pair;
        __builtin_memcpy(&pair, inputs + row * kLayout.stride * kInputBytes, sizeof(pair));
        const auto input = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
#pragma GCC unroll 4
        for (int panel = 0; panel < kPanels; ++panel)
          sums.at[row][panel] = _mm512_dpbf16_ps(sums.at[row][panel], input, weights[panel]);
      }
      panels += 2 * kPanelLanes * kWeightBytes;
      inputs += 2 * kInputBytes;
    }
    sums.store(call.accumulators);
  }
};

}  // namespace

void multiply_bf16_avx512_bf16(const PanelProduct& product) {
  multiply_512<Bf16>(product);
}

}  // namespace gimbal::kernels
