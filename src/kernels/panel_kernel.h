#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/isa.h"
#include "tensor/dtype.h"

// Inside matmul and expert_ffn: the part that is written once per instruction set. Sources that
// implement it are compiled with flags of their own, so this header has nothing that they could
// emit as a shared inline function.
namespace gimbal::kernels {

inline constexpr int kMaxTileRows = 64;    // rows of A in one tile of work
inline constexpr int kMaxTilePanels = 16;  // panels of W in one tile of work
inline constexpr int kPanelLanes = 16;     // kPanelWidth
// Room for staged rows in every layout: 64 rows of one k block and its row padding.
inline constexpr std::size_t kStagedBytes = 64 * (512 + 16) * sizeof(float);

// Where finished rows go: row i of a panel at rows[i] + offset bytes, `lanes` elements.
struct PanelOutput {
  std::byte* const* rows = nullptr;
  std::size_t offset = 0;
  int lanes = kPanelLanes;
  tensor::DType dtype = tensor::DType::kF32;
};

// Functions of one instruction set for one element type. Accumulators are [panel][64][16] float32.
struct PanelKernel {
  // Rows of A are staged in blocks of k_block inputs: [block][rows, padded][stride], zero beyond k.
  int k_block;
  int stride;        // elements
  int element_size;  // of staged elements
  int row_multiple;  // staged rows are padded to it

  // Copies inputs [k_begin, k_begin + k_count) of `count` rows; the stored depth is k_padded
  // (k_count rounded up). k_begin is a multiple of k_block.
  void (*stage)(const std::byte* const* rows, int count, std::int64_t k_begin, std::int64_t k_count,
                std::int64_t k_padded, std::byte* staged);
  // accumulators[p][r][:] (+)= staged row r · panel p over k_padded inputs; replaces them if
  // `first`. `panels` points at the first panel's first input of this pass; panels are panel_bytes
  // apart.
  void (*multiply)(const std::byte* staged, int rows, std::int64_t k_padded,
                   const std::byte* panels, std::size_t panel_bytes, int panel_count,
                   float* accumulators, bool first);
  // Writes one panel's accumulators [rows][16], plus bias [lanes] if there is one; adds to the
  // output (float32) if `accumulate`.
  void (*store)(const float* accumulators, int rows, const float* bias, bool accumulate,
                const PanelOutput& output);
  // Writes silu(gate) * up of two panels' accumulators.
  void (*store_swiglu)(const float* gate, const float* up, int rows, const PanelOutput& output);
};

// Staging layouts: {inputs a block, elements a row}. Row lengths are off powers of two, so that
// rows do not fall into the same sets of the first-level cache.
struct StagedLayout {
  int k_block;
  int stride;
};
inline constexpr StagedLayout kStagedF32{256, 256 + 16};
inline constexpr StagedLayout kStagedWidened{512, 512 + 16};  // bfloat16 rows as float32
inline constexpr StagedLayout kStagedBf16{512, 512 + 32};
inline constexpr StagedLayout kStagedTiles{1024, 1024 + 32};

// Parts that all levels share, compiled for AVX2.
void stage_f32(const std::byte* const* rows, int count, std::int64_t k_begin, std::int64_t k_count,
               std::int64_t k_padded, std::byte* staged);
void stage_widened(const std::byte* const* rows, int count, std::int64_t k_begin,
                   std::int64_t k_count, std::int64_t k_padded, std::byte* staged);
void stage_bf16(const std::byte* const* rows, int count, std::int64_t k_begin, std::int64_t k_count,
                std::int64_t k_padded, std::byte* staged);
void stage_tiles(const std::byte* const* rows, int count, std::int64_t k_begin,
                 std::int64_t k_count, std::int64_t k_padded, std::byte* staged);
void store_panel(const float* accumulators, int rows, const float* bias, bool accumulate,
                 const PanelOutput& output);
void store_panel_swiglu(const float* gate, const float* up, int rows, const PanelOutput& output);

// Products of one level: PanelKernel::multiply.
#define GIMBAL_PANEL_MULTIPLY(name)                                                            \
  void name(const std::byte* staged, int rows, std::int64_t k_padded, const std::byte* panels, \
            std::size_t panel_bytes, int panel_count, float* accumulators, bool first)
GIMBAL_PANEL_MULTIPLY(multiply_f32_avx2);
GIMBAL_PANEL_MULTIPLY(multiply_bf16_avx2);
GIMBAL_PANEL_MULTIPLY(multiply_f32_avx512);
GIMBAL_PANEL_MULTIPLY(multiply_bf16_avx512);
GIMBAL_PANEL_MULTIPLY(multiply_bf16_avx512_bf16);
GIMBAL_PANEL_MULTIPLY(multiply_bf16_amx_bf16);

// The kernel of a level above kReference.
[[nodiscard]] const PanelKernel& panel_kernel(Isa isa, tensor::DType dtype);

}  // namespace gimbal::kernels
