#include "kernels/packed_matrix.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "kernels/test_weights.h"

namespace gimbal::kernels {
namespace {

using tensor::DType;

// Packs `source` with `pack` into memory that held something else before.
template <class Pack>
tensor::Buffer packed(const tensor::ConstMatrixView& source, DType dtype, Pack pack) {
  tensor::Buffer memory(packed_bytes(dtype, source.rows, source.cols), tensor::PageKind::kSmall);
  std::memset(memory.data(), 0x5a, memory.size());
  pack(source, memory.data());
  return memory;
}

TEST(PackedMatrix, EveryWeightIsFoundAgainAndPaddingIsZero) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const TestMatrix source = random_matrix(dtype, 37, 45, 1);
    const auto memory = packed(source.view(), dtype, [&](const auto& view, std::byte* target) {
      pack_rows_reference(view, 0, dtype, target);
    });
    const PackedMatrixView view{memory.data(), dtype, 37, 45};
    for (std::int64_t row = 0; row < panels_of(37) * kPanelWidth; ++row) {
      for (std::int64_t k = 0; k < padded_depth(dtype, 45); ++k) {
        ASSERT_EQ(packed_weight(view, row, k), row < 37 && k < 45 ? source.at(row, k) : 0.0F);
      }
    }
  }
}

TEST(PackedMatrix, PacksLikeTheReferenceForAllTypesAndOddShapes) {
  for (const DType from : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const DType to : {DType::kF32, DType::kBF16}) {
      for (const std::int64_t n : {1, 16, 33}) {
        for (const std::int64_t k : {1, 7, 16, 31, 32, 33, 64, 96, 100}) {
          TestMatrix source(from, n, k, 3);
          Rng rng(n * 1000 + k);
          for (std::int64_t row = 0; row < n; ++row) {
            for (std::int64_t col = 0; col < k; ++col) {
              if (from == DType::kF16) {  // any finite half
                source.view().row_as<std::uint16_t>(row)[col] =
                    static_cast<std::uint16_t>(rng.below(0x7c00) | (rng.below(2) << 15));
              } else {
                set_element(source.view(), row, col, static_cast<float>(rng.uniform() - 0.5));
              }
            }
          }
          const auto want = packed(source.view(), to, [&](const auto& view, std::byte* target) {
            pack_rows_reference(view, 0, to, target);
          });
          const auto got = packed(source.view(), to, [&](const auto& view, std::byte* target) {
            pack_rows(view, 0, to, target);
          });
          ASSERT_EQ(std::memcmp(want.data(), got.data(), want.size()), 0)
              << to_string(from) << " to " << to_string(to) << " n " << n << " k " << k;
        }
      }
    }
  }
}

TEST(PackedMatrix, RowRangesMakeTheSameMatrixAsOneCall) {
  const TestMatrix source = random_matrix(DType::kBF16, 75, 48, 2);
  const auto whole = packed(source.view(), DType::kBF16, [](const auto& view, std::byte* target) {
    pack_rows(view, 0, DType::kBF16, target);
  });
  const auto parts = packed(source.view(), DType::kBF16, [](const auto& view, std::byte* target) {
    pack_rows(view.rows_at(48, 27), 48, DType::kBF16, target);
    pack_rows(view.rows_at(0, 16), 0, DType::kBF16, target);
    pack_rows(view.rows_at(16, 32), 16, DType::kBF16, target);
  });
  EXPECT_EQ(std::memcmp(whole.data(), parts.data(), whole.size()), 0);
}

TEST(PackedMatrix, PlacementInterleavesTwoSources) {
  const TestMatrix gate = random_matrix(DType::kF32, 40, 20, 3);
  const TestMatrix up = random_matrix(DType::kF32, 40, 20, 4);
  tensor::Buffer memory(packed_bytes(DType::kF32, 96, 20), tensor::PageKind::kSmall);
  pack_rows(up.view(), 0, DType::kF32, memory.data(), {.first = 1, .step = 2});
  pack_rows(gate.view(), 0, DType::kF32, memory.data(), {.first = 0, .step = 2});
  const PackedMatrixView view{memory.data(), DType::kF32, 96, 20};
  for (std::int64_t row = 0; row < 40; ++row) {
    const std::int64_t lane = row / 16 * 32 + row % 16;
    EXPECT_EQ(packed_weight(view, lane, 19), gate.at(row, 19));
    EXPECT_EQ(packed_weight(view, lane + 16, 19), up.at(row, 19));
  }
}

TEST(PackedMatrix, ConversionKeepsNotANumberAndRoundsTiesToEven) {
  TestMatrix source(DType::kF32, 16, 32);
  const float values[] = {std::nanf(""), INFINITY, -INFINITY, 1.00390625F, 1.01171875F, 1e-40F};
  for (int i = 0; i < 6; ++i)
    set_element(source.view(), 0, i, values[i]);
  tensor::Buffer memory(packed_bytes(DType::kBF16, 16, 32), tensor::PageKind::kSmall);
  pack_rows(source.view(), 0, DType::kBF16, memory.data());
  const PackedMatrixView view{memory.data(), DType::kBF16, 16, 32};
  EXPECT_TRUE(std::isnan(packed_weight(view, 0, 0)));
  EXPECT_EQ(packed_weight(view, 0, 1), INFINITY);
  EXPECT_EQ(packed_weight(view, 0, 2), -INFINITY);
  EXPECT_EQ(packed_weight(view, 0, 3), 1.0F);
  EXPECT_EQ(packed_weight(view, 0, 4), 1.015625F);
  EXPECT_EQ(packed_weight(view, 0, 5), tensor::to_float(tensor::to_bfloat16(1e-40F)));
}

}  // namespace
}  // namespace gimbal::kernels
