#include "kernels/combine.h"

#include <gtest/gtest.h>

#include "kernels/test_matrix.h"

namespace gimbal::kernels {
namespace {

using tensor::DType;

constexpr std::int64_t kRows = 61;

void expect_near(const TestMatrix& actual, const TestMatrix& expected, Isa isa) {
  for (std::int64_t r = 0; r < actual.view().rows; ++r) {
    for (std::int64_t i = 0; i < actual.view().cols; ++i) {
      ASSERT_NEAR(actual.at(r, i), expected.at(r, i), 2e-6)
          << to_string(isa) << " " << r << " " << i;
    }
  }
}

// Runs `op(context, first row, rows, hidden)` on a batch with several threads and row by row with
// one, expects the same bits, and returns the result.
template <class Op>
TestMatrix run_both_ways(Isa isa, const TestMatrix& hidden, const Op& op) {
  ThreadPool one({.workers = 1, .pin = false});
  ThreadPool many({.workers = 4, .pin = false});
  TestMatrix all = hidden;
  op(KernelContext{many, isa}, std::int64_t{0}, kRows, all.view());
  TestMatrix single = hidden;
  for (std::int64_t r = 0; r < kRows; ++r) {
    op(KernelContext{one, isa}, r, std::int64_t{1}, single.view().rows_at(r, 1));
  }
  EXPECT_EQ(all, single) << to_string(isa);
  return all;
}

TEST(CombineTest, AddsWeightedSlotsTheSameInAnyBatch) {
  Rng rng(1);
  for (const Isa isa : supported_levels()) {
    for (const DType dtype : {DType::kBF16, DType::kF32}) {
      for (const std::int64_t k : {1, 4, 8}) {
        const TestMatrix outputs = TestMatrix::random(rng, dtype, kRows * k, 533, 1.0F, 2);
        const TestMatrix hidden = TestMatrix::random(rng, DType::kF32, kRows, 533, 1.0F, 1);
        const std::vector<float> weights = random_floats(rng, static_cast<std::size_t>(kRows * k));
        const auto op = [&](const KernelContext& context, std::int64_t first, std::int64_t rows,
                            tensor::MatrixView to) {
          combine(context,
                  std::span(weights).subspan(static_cast<std::size_t>(first * k),
                                             static_cast<std::size_t>(rows * k)),
                  outputs.view().rows_at(first * k, rows * k), to);
        };
        TestMatrix expected = hidden;
        combine_reference(weights, outputs.view(), expected.view());
        expect_near(run_both_ways(isa, hidden, op), expected, isa);
      }
    }
  }
}

TEST(CombineTest, AddsGatedSharedExpertTheSameInAnyBatch) {
  Rng rng(2);
  for (const Isa isa : supported_levels()) {
    for (const DType dtype : {DType::kBF16, DType::kF32}) {
      const TestMatrix shared = TestMatrix::random(rng, dtype, kRows, 101);
      const TestMatrix hidden = TestMatrix::random(rng, DType::kF32, kRows, 101);
      std::vector<float> logits = random_floats(rng, kRows, 20.0F);
      logits[0] = 1000.0F;
      logits[1] = -1000.0F;
      const auto op = [&](const KernelContext& context, std::int64_t first, std::int64_t rows,
                          tensor::MatrixView to) {
        combine_shared(context,
                       std::span(logits).subspan(static_cast<std::size_t>(first),
                                                 static_cast<std::size_t>(rows)),
                       shared.view().rows_at(first, rows), to);
      };
      TestMatrix expected = hidden;
      combine_shared_reference(logits, shared.view(), expected.view());
      expect_near(run_both_ways(isa, hidden, op), expected, isa);
    }
  }
}

TEST(CombineTest, AddsRowsExactly) {
  Rng rng(3);
  for (const Isa isa : supported_levels()) {
    const TestMatrix rows = TestMatrix::random(rng, DType::kBF16, kRows, 45);
    const TestMatrix hidden = TestMatrix::random(rng, DType::kF32, kRows, 45);
    const auto op = [&](const KernelContext& context, std::int64_t first, std::int64_t count,
                        tensor::MatrixView to) {
      add_rows(context, rows.view().rows_at(first, count), to);
    };
    TestMatrix expected = hidden;
    add_rows_reference(rows.view(), expected.view());
    EXPECT_EQ(run_both_ways(isa, hidden, op), expected);
  }
}

}  // namespace
}  // namespace gimbal::kernels
