#include "kernels/matmul.h"

#include <gtest/gtest.h>

#include <cmath>
#include <iostream>
#include <numeric>
#include <optional>

#include "kernels/test_weights.h"

namespace gimbal::kernels {
namespace {

using tensor::DType;

struct Case {
  Isa isa;
  DType dtype;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << to_string(c.isa) << "_" << to_string(c.dtype);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  std::cout << "levels of this machine:";
  for (const Isa isa : supported_levels()) {
    std::cout << " " << to_string(isa);
    all.push_back({isa, DType::kF32});
    all.push_back({isa, DType::kBF16});
  }
  std::cout << std::endl;
  return all;
}

class Matmul : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override { use_workers(2); }
  void use_workers(int workers) {
    pool_.emplace(ThreadPoolOptions{.workers = workers, .pin = false});
  }
  KernelContext context() { return {*pool_, GetParam().isa}; }

  std::optional<ThreadPool> pool_;
};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Matmul);
INSTANTIATE_TEST_SUITE_P(EachLevel, Matmul, testing::ValuesIn(cases()), [](const auto& test) {
  return std::string(to_string(test.param.isa)) + "_" + std::string(to_string(test.param.dtype));
});

// |got - want| within the rounding of `k` products in float and of the output type.
void expect_close(const TestMatrix& got, const TestMatrix& want, std::int64_t k) {
  const double output_step = got.view().dtype == DType::kF32 ? 1e-7 : 1.0 / 128;
  const double sums = 1e-7 * static_cast<double>(k);
  for (std::int64_t row = 0; row < got.view().rows; ++row) {
    for (std::int64_t col = 0; col < got.view().cols; ++col) {
      const double tolerance = sums + output_step * std::abs(want.at(row, col)) + 1e-6;
      ASSERT_NEAR(got.at(row, col), want.at(row, col), tolerance)
          << "row " << row << " of " << got.view().rows << " column " << col << " of "
          << got.view().cols << " k " << k;
    }
  }
}

TEST_P(Matmul, AgreesWithTheReferenceForAnyShape) {
  const DType dtype = GetParam().dtype;
  for (const std::int64_t k : {1, 2, 15, 33, 64, 257, 544, 1100}) {
    for (const std::int64_t n : {1, 16, 40, 130}) {
      const TestWeights weights(dtype, n, k, k * 100 + n);
      for (const std::int64_t m : {1, 2, 3, 5, 6, 8, 13, 16, 17, 33, 40, 130}) {
        if (m * n * k > 2000000) continue;
        for (const DType out_type : {DType::kF32, DType::kBF16}) {
          const TestMatrix a = random_matrix(dtype, m, k, m * 7 + k, m % 3);
          TestMatrix got(out_type, m, n, m % 2);
          TestMatrix want(out_type, m, n);
          matmul(context(), a.view(), weights.view(), got.view());
          matmul_reference(a.view(), weights.view(), want.view());
          expect_close(got, want, k);
        }
      }
    }
  }
}

TEST_P(Matmul, AddsBiasAndAccumulates) {
  const DType dtype = GetParam().dtype;
  const TestWeights weights(dtype, 45, 70, 5);
  const TestMatrix a = random_matrix(dtype, 9, 70, 6);
  const TestMatrix bias = random_matrix(DType::kF32, 1, 45, 7);
  for (const bool accumulate : {false, true}) {
    TestMatrix got = random_matrix(DType::kF32, 9, 45, 8);
    TestMatrix want = random_matrix(DType::kF32, 9, 45, 8);
    const MatmulOptions options{.bias = bias.view().row_as<float>(0), .accumulate = accumulate};
    matmul(context(), a.view(), weights.view(), got.view(), options);
    matmul_reference(a.view(), weights.view(), want.view(), options);
    expect_close(got, want, 70);
  }
}

TEST_P(Matmul, GathersInputRows) {
  const DType dtype = GetParam().dtype;
  const TestWeights weights(dtype, 20, 64, 5);
  const TestMatrix a = random_matrix(dtype, 9, 64, 6);
  const std::vector<std::int32_t> rows = {8, 0, 3, 3};
  TestMatrix whole(DType::kF32, 9, 20);
  TestMatrix chosen(DType::kF32, 4, 20);
  matmul(context(), a.view(), weights.view(), whole.view());
  matmul(context(), a.view(), weights.view(), chosen.view(), {.input_rows = rows});
  for (std::size_t i = 0; i < rows.size(); ++i)
    EXPECT_TRUE(same_row_bits(chosen, i, whole, rows[i])) << i;
}

// Row i of a call with any number of rows and workers is the call with that row alone, bit for bit.
TEST_P(Matmul, ARowDoesNotDependOnItsBatchOrTheWorkers) {
  const DType dtype = GetParam().dtype;
  constexpr std::int64_t kMostRows = 131;
  for (const auto& [n, k] : {std::pair{72, 1130}, std::pair{260, 95}}) {
    const TestWeights weights(dtype, n, k, 11);
    const TestMatrix a = random_matrix(dtype, kMostRows, k, 12);
    TestMatrix alone(DType::kF32, kMostRows, n);
    for (std::int64_t row = 0; row < kMostRows; ++row)
      matmul(context(), a.view().rows_at(row, 1), weights.view(), alone.view().rows_at(row, 1));
    for (const int workers : {1, 2, 3, 8}) {
      use_workers(workers);
      for (std::int64_t m = 1; m <= kMostRows; m += m < 40 ? 1 : 13) {
        const std::int64_t first = m % 3 == 0 ? kMostRows - m : 0;
        TestMatrix got(DType::kF32, m, n);
        matmul(context(), a.view().rows_at(first, m), weights.view(), got.view());
        for (std::int64_t row = 0; row < m; ++row) {
          ASSERT_TRUE(same_row_bits(got, row, alone, first + row))
              << "row " << row << " of " << m << ", " << workers << " workers";
        }
      }
    }
  }
}

TEST(MatmulReferenceLevel, IsTheReference) {
  const TestWeights weights(DType::kBF16, 20, 64, 5);
  const TestMatrix a = random_matrix(DType::kBF16, 7, 64, 6);
  TestMatrix got(DType::kF32, 7, 20);
  TestMatrix want(DType::kF32, 7, 20);
  ThreadPool pool({.workers = 2, .pin = false});
  matmul({pool, Isa::kReference}, a.view(), weights.view(), got.view());
  matmul_reference(a.view(), weights.view(), want.view());
  EXPECT_EQ(got, want);
}

TEST_P(Matmul, NoRowsAreNoWork) {
  const TestWeights weights(GetParam().dtype, 20, 64, 5);
  const TestMatrix a(GetParam().dtype, 0, 64);
  TestMatrix out(DType::kF32, 0, 20);
  matmul(context(), a.view(), weights.view(), out.view());
}

// An infinite input reaches its own row only, and padding does not turn it into NaN.
TEST_P(Matmul, InfinityStaysInItsRow) {
  const DType dtype = GetParam().dtype;
  const TestWeights weights(dtype, 16, 33, 5);
  TestMatrix a = random_matrix(dtype, 3, 33, 6);
  set_element(a.view(), 1, 32, INFINITY);
  TestMatrix out(DType::kF32, 3, 16);
  matmul(context(), a.view(), weights.view(), out.view());
  for (std::int64_t col = 0; col < 16; ++col) {
    EXPECT_TRUE(std::isfinite(out.at(0, col)));
    EXPECT_TRUE(std::isinf(out.at(1, col)));
    EXPECT_TRUE(std::isfinite(out.at(2, col)));
  }
}

}  // namespace
}  // namespace gimbal::kernels
