#include "kernels/row_statistics.h"

#include <gtest/gtest.h>

#include <limits>

#include "kernels/test_matrix.h"

namespace gimbal::kernels {
namespace {

using tensor::DType;

TEST(RowStatisticsTest, EqualsTheReference) {
  ThreadPool pool({.workers = 3, .pin = false});
  Rng rng(1);
  for (const Isa isa : supported_levels()) {
    for (const std::int64_t n : {1, 5, 16, 33, 1000, 4099}) {
      TestMatrix logits = TestMatrix::random(rng, DType::kF32, 20, n, 30.0F, 3);
      for (std::int64_t i = 1; i < n; i += 3) {
        set_element(logits.view(), 7, i, -std::numeric_limits<float>::infinity());
      }
      std::vector<RowStatistics> actual(20);
      std::vector<RowStatistics> expected(20);
      row_statistics({pool, isa}, logits.view(), actual);
      row_statistics_reference(logits.view(), expected);
      for (std::size_t r = 0; r < 20; ++r) {
        EXPECT_EQ(actual[r].argmax, expected[r].argmax);
        EXPECT_EQ(actual[r].maximum, expected[r].maximum);
        EXPECT_NEAR(actual[r].log_sum_exp, expected[r].log_sum_exp, 1e-5);
      }
    }
  }
}

TEST(RowStatisticsTest, ArgmaxIsTheLowestIndexOfTheMaximum) {
  ThreadPool pool({.workers = 1, .pin = false});
  std::vector<Isa> levels = supported_levels();
  levels.push_back(Isa::kReference);
  for (const Isa isa : levels) {
    TestMatrix logits(DType::kF32, 1, 100);
    for (const std::int64_t i : {90, 33, 40})
      set_element(logits.view(), 0, i, 2.0F);
    RowStatistics statistics;
    row_statistics({pool, isa}, logits.view(), {&statistics, 1});
    EXPECT_EQ(statistics.argmax, 33);
  }
}

TEST(RowStatisticsTest, ARowGivesTheSameBitsInAnyBatch) {
  ThreadPool one({.workers = 1, .pin = false});
  ThreadPool many({.workers = 4, .pin = false});
  Rng rng(2);
  for (const Isa isa : supported_levels()) {
    const TestMatrix logits = TestMatrix::random(rng, DType::kF32, 33, 2003, 10.0F);
    std::vector<RowStatistics> all(33);
    row_statistics({many, isa}, logits.view(), all);
    for (std::int64_t r = 0; r < 33; ++r) {
      RowStatistics alone;
      row_statistics({one, isa}, logits.view().rows_at(r, 1), {&alone, 1});
      EXPECT_EQ(alone.log_sum_exp, all[static_cast<std::size_t>(r)].log_sum_exp);
    }
  }
}

}  // namespace
}  // namespace gimbal::kernels
