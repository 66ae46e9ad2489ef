#include "kernels/rms_norm.h"

#include <gtest/gtest.h>

#include "kernels/test_matrix.h"

namespace gimbal::kernels {
namespace {

using tensor::DType;

TEST(RmsNormTest, EqualsTheFormulaWithinRounding) {
  ThreadPool pool({.workers = 3, .pin = false});
  Rng rng(1);
  for (const Isa isa : supported_levels()) {
    for (const DType from : {DType::kBF16, DType::kF32}) {
      for (const DType to : {DType::kBF16, DType::kF32}) {
        for (const std::int64_t n : {1, 7, 16, 64, 100, 1024, 1027}) {
          const TestMatrix in = TestMatrix::random(rng, from, 40, n, 5.0F, 3);
          const std::vector<float> weight = random_floats(rng, static_cast<std::size_t>(n));
          TestMatrix out(to, 40, n, 5);
          TestMatrix expected(to, 40, n, 5);
          rms_norm({pool, isa}, in.view(), weight, 1e-5F, out.view());
          rms_norm_reference(in.view(), weight, 1e-5F, expected.view());
          for (std::int64_t r = 0; r < 40; ++r) {
            for (std::int64_t i = 0; i < n; ++i) {
              ASSERT_NEAR(out.at(r, i), expected.at(r, i),
                          std::abs(expected.at(r, i)) * relative_tolerance(to) + 1e-6)
                  << to_string(isa) << " n " << n;
            }
          }
        }
      }
    }
  }
}

TEST(RmsNormTest, ARowGivesTheSameBitsInAnyBatch) {
  ThreadPool one({.workers = 1, .pin = false});
  ThreadPool many({.workers = 4, .pin = false});
  Rng rng(2);
  for (const Isa isa : supported_levels()) {
    const TestMatrix in = TestMatrix::random(rng, DType::kF32, 97, 530);
    const std::vector<float> weight = random_floats(rng, 530);
    TestMatrix all(DType::kF32, 97, 530);
    rms_norm({many, isa}, in.view(), weight, 1e-6F, all.view());
    for (std::int64_t r = 0; r < 97; ++r) {
      TestMatrix alone(DType::kF32, 1, 530);
      rms_norm({one, isa}, in.view().rows_at(r, 1), weight, 1e-6F, alone.view());
      ASSERT_TRUE(same_row_bits(all, r, alone, 0)) << to_string(isa) << " row " << r;
    }
  }
}

TEST(RmsNormTest, WorksInPlace) {
  ThreadPool pool({.workers = 1, .pin = false});
  Rng rng(3);
  for (const Isa isa : supported_levels()) {
    TestMatrix in = TestMatrix::random(rng, DType::kBF16, 3, 77);
    const std::vector<float> weight = random_floats(rng, 77);
    TestMatrix out(DType::kBF16, 3, 77);
    rms_norm({pool, isa}, in.view(), weight, 1e-6F, out.view());
    rms_norm({pool, isa}, in.view(), weight, 1e-6F, in.view());
    EXPECT_EQ(in, out);
  }
}

}  // namespace
}  // namespace gimbal::kernels
