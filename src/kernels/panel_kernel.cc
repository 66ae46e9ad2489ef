#include "kernels/panel_kernel.h"

#include "base/check.h"

namespace gimbal::kernels {
namespace {

constexpr PanelKernel on_f32(decltype(PanelKernel::multiply) multiply) {
  return {.k_block = kStagedF32.k_block,
          .stride = kStagedF32.stride,
          .element_size = 4,
          .row_multiple = 1,
          .stage = stage_f32,
          .multiply = multiply,
          .store = store_panel,
          .store_swiglu = store_panel_swiglu};
}

constexpr PanelKernel on_widened(decltype(PanelKernel::multiply) multiply) {
  return {.k_block = kStagedWidened.k_block,
          .stride = kStagedWidened.stride,
          .element_size = 4,
          .row_multiple = 1,
          .stage = stage_widened,
          .multiply = multiply,
          .store = store_panel,
          .store_swiglu = store_panel_swiglu};
}

constexpr PanelKernel kF32Avx2 = on_f32(multiply_f32_avx2);
constexpr PanelKernel kF32Avx512 = on_f32(multiply_f32_avx512);
constexpr PanelKernel kBf16Avx2 = on_widened(multiply_bf16_avx2);
constexpr PanelKernel kBf16Avx512 = on_widened(multiply_bf16_avx512);
constexpr PanelKernel kBf16Avx512Bf16 = {.k_block = kStagedBf16.k_block,
                                         .stride = kStagedBf16.stride,
                                         .element_size = 2,
                                         .row_multiple = 1,
                                         .stage = stage_bf16,
                                         .multiply = multiply_bf16_avx512_bf16,
                                         .store = store_panel,
                                         .store_swiglu = store_panel_swiglu};
constexpr PanelKernel kBf16AmxBf16 = {.k_block = kStagedTiles.k_block,
                                      .stride = kStagedTiles.stride,
                                      .element_size = 2,
                                      .row_multiple = 16,
                                      .stage = stage_tiles,
                                      .multiply = multiply_bf16_amx_bf16,
                                      .store = store_panel,
                                      .store_swiglu = store_panel_swiglu};

}  // namespace

const PanelKernel& panel_kernel(Isa isa, tensor::DType dtype) {
  GIMBAL_CHECK(dtype == tensor::DType::kBF16 || dtype == tensor::DType::kF32);
  const bool bf16 = dtype == tensor::DType::kBF16;
  switch (isa) {
    case Isa::kReference:
      break;
    case Isa::kAvx2:
      return bf16 ? kBf16Avx2 : kF32Avx2;
    case Isa::kAvx512:
      return bf16 ? kBf16Avx512 : kF32Avx512;
    case Isa::kAvx512Bf16:
      return bf16 ? kBf16Avx512Bf16 : kF32Avx512;
    case Isa::kAmxBf16:
      return bf16 ? kBf16AmxBf16 : kF32Avx512;
  }
  check_failed(__FILE__, __LINE__, "isa has panel kernels");
}

}  // namespace gimbal::kernels
