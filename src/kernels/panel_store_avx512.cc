#include <immintrin.h>

#include "kernels/panel_kernel.h"

namespace gimbal::kernels {
namespace {

// Rounds to bfloat16 (nearest, ties to even; NaN stays NaN).
__m256i round_to_bf16(__m512 value) {
  const __m512i bits = _mm512_castps_si512(value);
  const __m512i high = _mm512_srli_epi32(bits, 16);
  const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_srli_epi32(
      _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd), 16);
  const __mmask16 is_nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(
      _mm512_mask_or_epi32(rounded, is_nan, high, _mm512_set1_epi32(0x40)));
}

// Rows' outputs: the lanes that there are, in the output's type.
class Target {
 public:
  explicit Target(const PanelOutput& output)
      : output_(output),
        lanes_(static_cast<__mmask16>((1U << output.lanes) - 1)),
        f32_(output.dtype == tensor::DType::kF32) {}

  __attribute__((always_inline)) void store(int row, __m512 value, bool accumulate) const {
    std::byte* const target = output_.rows[row] + output_.offset;
    if (f32_) {
      if (accumulate) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(lanes_, target));
      _mm512_mask_storeu_ps(target, lanes_, value);
    } else {
      _mm256_mask_storeu_epi16(target, lanes_, round_to_bf16(value));
    }
  }
  [[nodiscard]] __mmask16 lanes() const { return lanes_; }

 private:
  const PanelOutput& output_;
  __mmask16 lanes_;
  bool f32_;
};

// e^x for x in [-87, 88], within 2 units in the last place: 2^n times a Taylor polynomial.
__m512 exp_bounded(__m512 x) {
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341F)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  // ln 2 in two parts; the first has few bits, so that n times it is exact.
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375F), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4F), r);
  __m512 y = _mm512_set1_ps(1.0F / 5040);
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0F / 720));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0F / 120));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0F / 24));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0F / 6));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0.5F));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0F));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0F));
  return _mm512_scalef_ps(y, n);
}

__m512 swiglu(__m512 gate, __m512 up) {
  const __m512 minus = _mm512_sub_ps(_mm512_setzero_ps(), gate);
  const __m512 bounded =
      _mm512_min_ps(_mm512_max_ps(minus, _mm512_set1_ps(-87.0F)), _mm512_set1_ps(88.0F));
  const __m512 silu =
      _mm512_div_ps(gate, _mm512_add_ps(_mm512_set1_ps(1.0F), exp_bounded(bounded)));
  return _mm512_mul_ps(silu, up);
}

}  // namespace

void store_panel_avx512(const float* accumulators, int rows, const float* bias, bool accumulate,
                        const PanelOutput& output) {
  const Target target(output);
  const __m512 biases =
      bias == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(target.lanes(), bias);
  for (int row = 0; row < rows; ++row) {
    target.store(row, _mm512_add_ps(_mm512_load_ps(accumulators + row * kPanelLanes), biases),
                 accumulate);
  }
}

void store_panel_swiglu_avx512(const float* gate, const float* up, int rows,
                               const PanelOutput& output) {
  const Target target(output);
  for (int row = 0; row < rows; ++row) {
    target.store(
        row,
        swiglu(_mm512_load_ps(gate + row * kPanelLanes), _mm512_load_ps(up + row * kPanelLanes)),
        false);
  }
}

}  // namespace gimbal::kernels
