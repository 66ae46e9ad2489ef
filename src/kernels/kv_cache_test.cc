#include "kernels/kv_cache.h"

#include <gtest/gtest.h>

#include "kernels/test_matrix.h"

namespace gimbal::kernels {
namespace {

using tensor::DType;

float stored(const KvLayout& layout, const std::byte* panel, std::int64_t index) {
  return layout.dtype == DType::kBF16
             ? tensor::to_float(reinterpret_cast<const tensor::BFloat16*>(panel)[index])
             : reinterpret_cast<const float*>(panel)[index];
}

TEST(KvCacheTest, LayoutIndicesAreAPermutationOfAPanel) {
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    const KvLayout layout{dtype, 2, 48};
    std::vector<int> keys(static_cast<std::size_t>(layout.panel_elements()));
    std::vector<int> values(keys.size());
    for (std::int64_t token = 0; token < kPageTokens; ++token) {
      for (std::int64_t dim = 0; dim < layout.head_dim; ++dim) {
        ++keys[static_cast<std::size_t>(layout.key_index(token, dim))];
        ++values[static_cast<std::size_t>(layout.value_index(token, dim))];
      }
    }
    EXPECT_EQ(keys, std::vector<int>(keys.size(), 1));
    EXPECT_EQ(values, std::vector<int>(keys.size(), 1));
    EXPECT_EQ(layout.page_bytes(), 2 * 2 * 48 * 16 * static_cast<std::int64_t>(size_of(dtype)));
  }
}

TEST(KvCacheTest, WritesEachTokenInItsSlotAndNothingElse) {
  ThreadPool pool({.workers = 4, .pin = false});
  Rng rng(1);
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    const KvLayout layout{dtype, 3, 32};
    constexpr std::int64_t kPages = 30;
    std::vector<std::byte> memory(static_cast<std::size_t>(kPages * layout.page_bytes()));
    const KvLayer layer{memory.data(), layout.page_bytes(), layout};
    const std::int32_t first_table[] = {7, 3, 29, 0, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21};
    const std::int32_t second_table[] = {5, 6};
    // Rows of the second sequence come first; a row between the two belongs to nobody.
    const AttentionSequence sequences[] = {{4, 200, 17, first_table}, {0, 3, 15, second_table}};
    const TestMatrix k = TestMatrix::random(rng, dtype, 204, 96, 1.0F, 7);
    const TestMatrix v = TestMatrix::random(rng, dtype, 204, 96, 1.0F, 9);
    write_kv({pool, Isa::kReference}, k.view(), v.view(), sequences, layer);
    std::int64_t written = 0;
    for (const AttentionSequence& sequence : sequences) {
      for (std::int64_t row = 0; row < sequence.rows; ++row) {
        const std::int64_t position = sequence.position + row;
        const std::int64_t page = sequence.pages[position / kPageTokens];
        for (std::int64_t i = 0; i < 96; ++i) {
          const std::int64_t token = position % kPageTokens;
          ASSERT_EQ(stored(layout, layer.keys(page, i / 32), layout.key_index(token, i % 32)),
                    k.at(sequence.first_row + row, i));
          ASSERT_EQ(stored(layout, layer.values(page, i / 32), layout.value_index(token, i % 32)),
                    v.at(sequence.first_row + row, i));
          written += 2;
        }
      }
    }
    std::int64_t nonzero = 0;
    for (std::int64_t i = 0;
         i < kPages * layout.page_bytes() / static_cast<std::int64_t>(size_of(dtype)); ++i) {
      nonzero += stored(layout, memory.data(), i) != 0.0F;
    }
    EXPECT_LE(nonzero, written);
    EXPECT_GE(nonzero, written * 99 / 100);
  }
}

}  // namespace
}  // namespace gimbal::kernels
