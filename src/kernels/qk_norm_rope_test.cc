#include "kernels/qk_norm_rope.h"

#include <gtest/gtest.h>

#include "kernels/test_matrix.h"

namespace gimbal::kernels {
namespace {

using tensor::DType;

struct Case {
  QkvShape shape;
  QkNorm norm;
  bool clip;
  std::int64_t rotary_dim;
};

std::vector<Case> cases() {
  return {{{4, 2, 64}, QkNorm::kPerHead, false, 64},
          {{4, 4, 32}, QkNorm::kWholeProjection, true, 32},
          {{3, 1, 80}, QkNorm::kNone, false, 80},
          {{2, 1, 256}, QkNorm::kNone, true, 256},
          {{5, 1, 48}, QkNorm::kPerHead, true, 20}};  // partial rotation, no whole vectors
}

// Keeps the weights and the table that a QkNormRope refers to.
struct Inputs {
  RopeTable table;
  std::vector<float> q_weight;
  std::vector<float> k_weight;
  QkNormRope what;

  Inputs(Rng& rng, const Case& c)
      : table(rope_frequencies({.rotary_dim = c.rotary_dim}), 1000),
        q_weight(random_floats(rng, weights(c, c.shape.q_cols()), 2.0F)),
        k_weight(random_floats(rng, weights(c, c.shape.kv_cols()), 2.0F)),
        what{c.shape, c.norm, q_weight, k_weight, 1e-6F, {}, &table} {
    if (c.clip) what.clip = 0.7F;
  }

 private:
  static std::size_t weights(const Case& c, std::int64_t whole) {
    return static_cast<std::size_t>(c.norm == QkNorm::kWholeProjection ? whole : c.shape.head_dim);
  }
};

std::vector<std::int32_t> random_positions(Rng& rng, std::size_t rows) {
  std::vector<std::int32_t> positions(rows);
  for (auto& position : positions)
    position = static_cast<std::int32_t>(rng.below(1000));
  return positions;
}

TEST(QkNormRopeTest, EqualsTheFormulaWithinRounding) {
  ThreadPool pool({.workers = 3, .pin = false});
  Rng rng(1);
  for (const Isa isa : supported_levels()) {
    for (const Case& c : cases()) {
      for (const DType dtype : {DType::kBF16, DType::kF32}) {
        const Inputs inputs(rng, c);
        const std::vector<std::int32_t> positions = random_positions(rng, 70);
        TestMatrix qkv = TestMatrix::random(rng, dtype, 70, c.shape.cols(), 2.0F, 5);
        TestMatrix expected = qkv;
        qk_norm_rope({pool, isa}, inputs.what, positions, qkv.view());
        qk_norm_rope_reference(inputs.what, positions, expected.view());
        for (std::int64_t r = 0; r < 70; ++r) {
          for (std::int64_t i = 0; i < c.shape.cols(); ++i) {
            ASSERT_NEAR(qkv.at(r, i), expected.at(r, i),
                        std::abs(expected.at(r, i)) * relative_tolerance(dtype) + 3e-6)
                << to_string(isa) << " head_dim " << c.shape.head_dim << " col " << i;
          }
        }
      }
    }
  }
}

TEST(QkNormRopeTest, ARowGivesTheSameBitsInAnyBatch) {
  ThreadPool one({.workers = 1, .pin = false});
  ThreadPool many({.workers = 4, .pin = false});
  Rng rng(2);
  for (const Isa isa : supported_levels()) {
    for (const Case& c : cases()) {
      const Inputs inputs(rng, c);
      const std::vector<std::int32_t> positions = random_positions(rng, 120);
      TestMatrix all = TestMatrix::random(rng, DType::kF32, 120, c.shape.cols());
      TestMatrix single = all;
      qk_norm_rope({many, isa}, inputs.what, positions, all.view());
      for (std::int64_t r = 0; r < 120; ++r) {
        qk_norm_rope({one, isa}, inputs.what,
                     std::span(positions).subspan(static_cast<std::size_t>(r), 1),
                     single.view().rows_at(r, 1));
      }
      EXPECT_EQ(all, single) << to_string(isa);
    }
  }
}

TEST(QkNormRopeTest, ValuesStayWithoutAClip) {
  ThreadPool pool({.workers = 1, .pin = false});
  Rng rng(3);
  const Case c = cases()[0];
  const Inputs inputs(rng, c);
  const std::vector<std::int32_t> positions = random_positions(rng, 9);
  const TestMatrix before = TestMatrix::random(rng, DType::kBF16, 9, c.shape.cols());
  for (const Isa isa : supported_levels()) {
    TestMatrix after = before;
    qk_norm_rope({pool, isa}, inputs.what, positions, after.view());
    for (std::int64_t r = 0; r < 9; ++r) {
      for (std::int64_t i = c.shape.q_cols() + c.shape.kv_cols(); i < c.shape.cols(); ++i) {
        ASSERT_EQ(after.at(r, i), before.at(r, i));
      }
    }
  }
}

}  // namespace
}  // namespace gimbal::kernels
