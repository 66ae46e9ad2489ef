#include "kernels/panel_tile_avx512.h"

namespace gimbal::kernels {
namespace {

struct F32 {
  static constexpr StagedLayout kLayout = kStagedF32;
  static constexpr int kInputBytes = 4;
  static constexpr int kWeightBytes = 4;

  template <int kRows, int kPanels>
  static void tile(const TileCall& call) {
    Sums512<kRows, kPanels> sums;
    sums.load(call.accumulators, call.first);
    const auto* inputs = reinterpret_cast<const float*>(call.inputs);
    const std::byte* panels = call.panels;
    for (int k = 0; k < call.depth; ++k) {
      __m512 weights[kPanels];
      if (call.few_rows) fetch_near<kPanels>(panels, call.panel_bytes);
#pragma GCC unroll 4
      for (int panel = 0; panel < kPanels; ++panel)
        weights[panel] = _mm512_load_ps(panels + panel * call.panel_bytes);
#pragma GCC unroll 16
      for (int row = 0; row < kRows; ++row) {
        const __m512 input = _mm512_set1_ps(inputs[row * kLayout.stride]);
#pragma GCC unroll 4
        for (int panel = 0; panel < kPanels; ++panel)
          sums.at[row][panel] = _mm512_fmadd_ps(input, weights[panel], sums.at[row][panel]);
      }
      panels += kPanelLanes * kWeightBytes;
      inputs += 1;
    }
    sums.store(call.accumulators);
  }
};

// bfloat16 weights, widened on the way; inputs were widened when they were staged.
struct Widened {
  static constexpr StagedLayout kLayout = kStagedWidened;
  static constexpr int kInputBytes = 4;
  static constexpr int kWeightBytes = 2;

  template <int kRows, int kPanels>
  __attribute__((always_inline)) static void add(Sums512<kRows, kPanels>& sums, const float* inputs,
                                                 const __m512* weights) {
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
      const __m512 input = _mm512_set1_ps(inputs[row * kLayout.stride]);
#pragma GCC unroll 4
      for (int panel = 0; panel < kPanels; ++panel)
        sums.at[row][panel] = _mm512_fmadd_ps(input, weights[panel], sums.at[row][panel]);
    }
  }

  template <int kRows, int kPanels>
  static void tile(const TileCall& call) {
    Sums512<kRows, kPanels> sums;
    sums.load(call.accumulators, call.first);
    const auto* inputs = reinterpret_cast<const float*>(call.inputs);
    const std::byte* panels = call.panels;
    for (int k = 0; k < call.depth; k += 2) {
      __m512 weights[kPanels];
      const std::byte* lines = panels;
      if (call.few_rows) fetch_near<kPanels>(panels, call.panel_bytes);
#pragma GCC unroll 4
      for (int panel = 0; panel < kPanels; ++panel) {
        const __m512i pairs = _mm512_load_si512(lines + panel * call.panel_bytes);
        weights[panel] = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
      }
      add(sums, inputs, weights);
      // Makes the compiler load the lines again: with them in registers, the sums would not fit.
      asm("" : "+r"(lines));
#pragma GCC unroll 4
      for (int panel = 0; panel < kPanels; ++panel) {
        const __m512i pairs = _mm512_load_si512(lines + panel * call.panel_bytes);
        weights[panel] = _mm512_castsi512_ps(
            _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000U))));
      }
      add(sums, inputs + 1, weights);
      panels += 2 * kPanelLanes * kWeightBytes;
      inputs += 2;
    }
    sums.store(call.accumulators);
  }
};

}  // namespace

void multiply_f32_avx512(const PanelProduct& product) {
  multiply_512<F32>(product);
}

void multiply_bf16_avx512(const PanelProduct& product) {
  multiply_512<Widened>(product);
}

}  // namespace gimbal::kernels
