#pragma once

#include <cstdint>

// Inside the kernels for AMX, which all use the same shapes of the eight tile registers: 16 rows of
// 64 bytes. Rows and depths are padded to it.
namespace gimbal::kernels {

// Palette 1, as LDTILECFG reads it.
struct alignas(64) TileShapes {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileShapes) == 64);

// A constant in memory, read by an instruction that the compiler does not look into: GCC takes its
// own intrinsic for a read of eight bytes, and may leave out stores to the rest of a variable.
inline constexpr TileShapes kTileShapes;

inline void configure_tiles() {
  asm volatile("ldtilecfg %0" : : "m"(kTileShapes));
}
// Gives the tiles up, so that the system need not save them.
inline void release_tiles() {
  asm volatile("tilerelease");
}

}  // namespace gimbal::kernels
