#include "kernels/panel_kernel.h"

#include "base/check.h"

namespace gimbal::kernels {
namespace {

using Stage = decltype(PanelKernel::stage);
using Multiply = decltype(PanelKernel::multiply);

constexpr PanelKernel with_stores(PanelKernel kernel, bool avx512) {
  kernel.store = avx512 ? store_panel_avx512 : store_panel;
  kernel.store_swiglu = avx512 ? store_panel_swiglu_avx512 : store_panel_swiglu;
  return kernel;
}

constexpr PanelKernel on_staged(StagedLayout layout, int element_size, Stage stage,
                                Multiply multiply, bool avx512) {
  return with_stores({.k_block = layout.k_block,
                      .stride = layout.stride,
                      .element_size = element_size,
                      .stage = stage,
                      .multiply = multiply},
                     avx512);
}

constexpr PanelKernel kF32Avx2 = on_staged(kStagedF32, 4, stage_f32, multiply_f32_avx2, false);
constexpr PanelKernel kF32Avx512 = on_staged(kStagedF32, 4, stage_f32, multiply_f32_avx512, true);
constexpr PanelKernel kBf16Avx2 =
    on_staged(kStagedWidened, 4, stage_widened, multiply_bf16_avx2, false);
constexpr PanelKernel kBf16Avx512 =
    on_staged(kStagedWidened, 4, stage_widened, multiply_bf16_avx512, true);
constexpr PanelKernel kBf16Avx512Bf16 =
    on_staged(kStagedBf16, 2, stage_bf16, multiply_bf16_avx512_bf16, true);
constexpr PanelKernel kBf16AmxBf16 = with_stores({.k_block = kStagedTiles.k_block,
                                                  .stride = kStagedTiles.stride,
                                                  .element_size = 2,
                                                  .row_multiple = 16,
                                                  .reads_in_place = true,
                                                  .stage = stage_tiles,
                                                  .begin = begin_amx,
                                                  .end = end_amx,
                                                  .multiply = multiply_bf16_amx_bf16},
                                                 true);

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
