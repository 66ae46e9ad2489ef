#include "kernels/router.h"

#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "kernels/test_matrix.h"

namespace gimbal::kernels {
namespace {

using tensor::DType;

struct Choices {
  std::vector<std::int32_t> experts;
  std::vector<float> weights;
  bool operator==(const Choices&) const = default;
};

Choices route_all(const KernelContext& context, const RouterOptions& options,
                  tensor::ConstMatrixView logits) {
  Choices choices;
  choices.experts.resize(static_cast<std::size_t>(logits.rows * options.top_k));
  choices.weights.resize(choices.experts.size());
  route(context, options, logits, choices.experts, choices.weights);
  return choices;
}

TEST(RouterTest, EqualsTheReferenceOnRandomAndTiedLogits) {
  ThreadPool pool({.workers = 3, .pin = false});
  Rng rng(1);
  for (const Isa isa : supported_levels()) {
    for (const std::int64_t experts : {1, 2, 8, 60, 64, 128}) {
      for (const std::int64_t k : {1, 2, 4, 8}) {
        if (k > experts) continue;
        for (const bool renormalize : {false, true}) {
          TestMatrix logits = TestMatrix::random(rng, DType::kF32, 90, experts, 8.0F, 1);
          // Every other row is made of a few values, so that ties decide.
          for (std::int64_t r = 0; r < 90; r += 2) {
            for (std::int64_t e = 0; e < experts; ++e) {
              set_element(logits.view(), r, e, static_cast<float>(rng.below(3)));
            }
          }
          const RouterOptions options{k, renormalize};
          const Choices actual = route_all({pool, isa}, options, logits.view());
          const Choices expected = route_all({pool, Isa::kReference}, options, logits.view());
          ASSERT_EQ(actual.experts, expected.experts);
          for (std::size_t i = 0; i < actual.weights.size(); ++i) {
            ASSERT_NEAR(actual.weights[i], expected.weights[i], 3e-6 * expected.weights[i] + 1e-9);
          }
        }
      }
    }
  }
}

TEST(RouterTest, TiesGoToTheLowerIdAndIdsAscend) {
  ThreadPool pool({.workers = 1, .pin = false});
  TestMatrix logits(DType::kF32, 1, 6);
  const float values[] = {0.0F, 3.0F, 1.0F, 1.0F, 5.0F, 1.0F};
  for (int e = 0; e < 6; ++e)
    set_element(logits.view(), 0, e, values[e]);
  std::vector<Isa> levels = supported_levels();
  levels.push_back(Isa::kReference);
  for (const Isa isa : levels) {
    const Choices choices = route_all({pool, isa}, {3, true}, logits.view());
    EXPECT_EQ(choices.experts, (std::vector<std::int32_t>{1, 2, 4}));
    EXPECT_GT(choices.weights[2], choices.weights[0]);
    EXPECT_NEAR(choices.weights[0] + choices.weights[1] + choices.weights[2], 1.0, 1e-6);
  }
}

TEST(RouterTest, ARowGivesTheSameBitsInAnyBatch) {
  ThreadPool one({.workers = 1, .pin = false});
  ThreadPool many({.workers = 4, .pin = false});
  Rng rng(3);
  for (const Isa isa : supported_levels()) {
    const TestMatrix logits = TestMatrix::random(rng, DType::kF32, 300, 60, 5.0F);
    const RouterOptions options{4, false};
    const Choices all = route_all({many, isa}, options, logits.view());
    Choices joined;
    for (std::int64_t r = 0; r < 300; ++r) {
      const Choices row = route_all({one, isa}, options, logits.view().rows_at(r, 1));
      joined.experts.insert(joined.experts.end(), row.experts.begin(), row.experts.end());
      joined.weights.insert(joined.weights.end(), row.weights.begin(), row.weights.end());
    }
    EXPECT_EQ(all, joined);
  }
}

TEST(RouterTest, NanLogitsStillGiveDistinctValidIds) {
  ThreadPool pool({.workers = 1, .pin = false});
  Rng rng(4);
  std::vector<Isa> levels = supported_levels();
  levels.push_back(Isa::kReference);
  for (const Isa isa : levels) {
    TestMatrix logits = TestMatrix::random(rng, DType::kF32, 50, 16);
    for (std::int64_t r = 0; r < 50; ++r) {
      for (std::int64_t e = 0; e < 16; ++e) {
        if (rng.below(2) == 0) {
          set_element(logits.view(), r, e, std::numeric_limits<float>::quiet_NaN());
        }
      }
    }
    const Choices choices = route_all({pool, isa}, {8, true}, logits.view());
    for (std::size_t r = 0; r < 50; ++r) {
      const std::set<std::int32_t> ids(
          choices.experts.begin() + static_cast<std::ptrdiff_t>(8 * r),
          choices.experts.begin() + static_cast<std::ptrdiff_t>(8 * r + 8));
      EXPECT_EQ(ids.size(), 8U);
      EXPECT_GE(*ids.begin(), 0);
      EXPECT_LT(*ids.rbegin(), 16);
    }
  }
}

}  // namespace
}  // namespace gimbal::kernels
