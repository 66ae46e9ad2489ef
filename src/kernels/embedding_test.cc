#include "kernels/embedding.h"

#include <gtest/gtest.h>

#include "kernels/test_matrix.h"

namespace gimbal::kernels {
namespace {

using tensor::DType;

TEST(EmbeddingTest, GathersAndWidensRowsExactly) {
  ThreadPool pool({.workers = 3, .pin = false});
  Rng rng(1);
  std::vector<Isa> levels = supported_levels();
  levels.push_back(Isa::kReference);
  for (const Isa isa : levels) {
    for (const DType dtype : {DType::kBF16, DType::kF32}) {
      const TestMatrix table = TestMatrix::random(rng, dtype, 50, 37, 2.0F, 3);
      std::vector<std::int32_t> tokens(3000);
      for (auto& token : tokens)
        token = static_cast<std::int32_t>(rng.below(50));
      TestMatrix hidden(DType::kF32, 3000, 37, 1);
      embedding({pool, isa}, table.view(), tokens, hidden.view());
      for (std::int64_t r = 0; r < 3000; ++r) {
        for (std::int64_t i = 0; i < 37; ++i) {
          ASSERT_EQ(hidden.at(r, i), table.at(tokens[static_cast<std::size_t>(r)], i));
        }
      }
    }
  }
}

}  // namespace
}  // namespace gimbal::kernels
