#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/isa.h"
#include "tensor/dtype.h"

// Inside matmul and expert_ffn: the part that is written once per instruction set. Sources that
// implement it are compiled with flags of their own, so this header has nothing that they could
// emit as a shared inline function.
namespace gimbal::kernels {

inline constexpr int kMaxTileRows = 64;    // rows of A in one product
inline constexpr int kMaxTilePanels = 16;  // panels of W in one product
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

// Staged rows times consecutive panels, over k_padded inputs of both. Accumulators are
// [panel][64][16] float32.
struct PanelProduct {
  const std::byte* staged = nullptr;
  // Bytes between rows, and between blocks of k_block inputs. A kernel without reads_in_place
  // knows them.
  std::int64_t row_bytes = 0;
  std::int64_t block_bytes = 0;
  int rows = 0;
  std::int64_t k_padded = 0;
  const std::byte* panels = nullptr;  // the first panel's first input of this pass
  std::size_t panel_bytes = 0;        // from panel to panel
  int panel_count = 0;
  // Panels that will be wanted next, to be fetched into a cache meanwhile, by this product and
  // others on the same panels: it is number ahead_part of ahead_parts.
  const std::byte* ahead = nullptr;
  int ahead_count = 0;
  int ahead_part = 0;
  int ahead_parts = 1;
  float* accumulators = nullptr;
  bool first = false;  // replaces the accumulators instead of adding to them
};

// Inputs [k_begin, k_begin + k_count) of `count` rows, to be copied beside each other. The stored
// depth is k_padded (k_count rounded up), and `padding` rows of zeros follow. k_begin is a multiple
// of k_block.
struct RowsToStage {
  const std::byte* const* rows = nullptr;
  int count = 0;
  int padding = 0;
  std::int64_t k_begin = 0;
  std::int64_t k_count = 0;
  std::int64_t k_padded = 0;
};

// Functions of one instruction set for one element type.
struct PanelKernel {
  // Rows of A are staged in blocks of k_block inputs: [block][rows, padding][stride], zero beyond
  // k.
  int k_block = 0;
  int stride = 0;        // elements
  int element_size = 0;  // of staged elements
  int row_multiple = 1;  // how rows are best cut
  // Takes evenly spaced rows of whole depth as they lie, unstaged; see `begin`.
  bool reads_in_place = false;

  void (*stage)(const RowsToStage& rows, std::byte* staged) = nullptr;
  // Around any number of products of at most `rows` rows each on one thread: sets the processor up
  // for them. Returns the multiple of rows that the products will read. Null: of one.
  int (*begin)(int rows) = nullptr;
  void (*end)() = nullptr;
  // accumulators[p][r][:] (+)= staged row r · panel p.
  void (*multiply)(const PanelProduct& product) = nullptr;
  // Writes one panel's accumulators [rows][16], plus bias [lanes] if there is one; adds to the
  // output (float32) if `accumulate`.
  void (*store)(const float* accumulators, int rows, const float* bias, bool accumulate,
                const PanelOutput& output) = nullptr;
  // Writes silu(gate) * up of two panels' accumulators.
  void (*store_swiglu)(const float* gate, const float* up, int rows,
                       const PanelOutput& output) = nullptr;
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

// Parts that several levels share, compiled for AVX2 and AVX-512.
void stage_f32(const RowsToStage& rows, std::byte* staged);
void stage_widened(const RowsToStage& rows, std::byte* staged);
void stage_bf16(const RowsToStage& rows, std::byte* staged);
void stage_tiles(const RowsToStage& rows, std::byte* staged);
void store_panel(const float* accumulators, int rows, const float* bias, bool accumulate,
                 const PanelOutput& output);
void store_panel_swiglu(const float* gate, const float* up, int rows, const PanelOutput& output);
void store_panel_avx512(const float* accumulators, int rows, const float* bias, bool accumulate,
                        const PanelOutput& output);
void store_panel_swiglu_avx512(const float* gate, const float* up, int rows,
                               const PanelOutput& output);

// Products of one level: PanelKernel::multiply.
void multiply_f32_avx2(const PanelProduct& product);
void multiply_bf16_avx2(const PanelProduct& product);
void multiply_f32_avx512(const PanelProduct& product);
void multiply_bf16_avx512(const PanelProduct& product);
void multiply_bf16_avx512_bf16(const PanelProduct& product);
void multiply_bf16_amx_bf16(const PanelProduct& product);
int begin_amx(int rows);
void end_amx();

// The kernel of a level above kReference.
[[nodiscard]] const PanelKernel& panel_kernel(Isa isa, tensor::DType dtype);

}  // namespace gimbal::kernels
