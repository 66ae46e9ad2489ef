#pragma once

#include <cstdint>

// For sources with instruction-set flags of their own too, so everything here has internal linkage.
// Inside the kernels for AMX, which all use the eight tile registers alike: sums in 0 to 3, inputs
// in 4 (and 5, for twice as many rows), weights, keys or values in the others.
namespace gimbal::kernels {

inline constexpr int kAmxRows = 16;

// The shapes as LDTILECFG reads them (palette 1): sums and inputs have `rows` rows, the others 16;
// a row is 64 bytes.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16];

  constexpr explicit TileConfig(std::uint8_t count = kAmxRows)
      : rows{count, count, count, count, count, 16, 16, 16} {}
};
static_assert(sizeof(TileConfig) == 64);

// Constants in memory, read by an instruction that the compiler does not look into: GCC takes its
// own intrinsic for a read of eight bytes, and may leave out stores to the rest of a variable.
struct TileConfigs {
  TileConfig of[kAmxRows + 1];
  constexpr TileConfigs() {
    for (int rows = 1; rows <= kAmxRows; ++rows)
      of[rows] = TileConfig(static_cast<std::uint8_t>(rows));
  }
};
inline constexpr TileConfigs kTileConfigs;

// For `rows` rows of sums and inputs, 1 to 16. Only with 16 may tile 5 hold inputs.
static inline void configure_tiles(int rows = kAmxRows) {
  asm volatile("ldtilecfg %0" : : "m"(kTileConfigs.of[rows]));
}
// Gives the tiles up, so that the system need not save them.
static inline void release_tiles() {
  asm volatile("tilerelease");
}

// What was stored before is in memory after this: loads of tiles do not tell the compiler what they
// read.
static inline void before_tile_loads() {
  asm volatile("" : : : "memory");
}

}  // namespace gimbal::kernels
