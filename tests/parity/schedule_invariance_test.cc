// Whatever is suspended, resumed, merged, split or cut into chunks, a request gets the same logits
// bit for bit (docs/architecture.md, "Batch invariance").

#include <gtest/gtest.h>

#include "models/tiny_model.h"
#include "parity/random_scheduler.h"

namespace gimbal::parity {
namespace {

using synthetic::Family;
using tests::make_and_load;
using tests::tiny_options;

class ScheduleInvariance : public ::testing::TestWithParam<std::tuple<Family, tensor::DType>> {};

TEST_P(ScheduleInvariance, RandomSchedulesGiveTheSameBits) {
  const auto [family, dtype] = GetParam();
  ThreadPool pool({.workers = 2, .pin = false});
  const auto model = make_and_load(tiny_options(family), dtype, pool);
  for (const kernels::Isa isa : {kernels::Isa::kReference, kernels::best_isa()}) {
    const Trace plain = RandomScheduler(*model, {.pool = pool, .isa = isa}, 0).run();
    ASSERT_EQ(plain.tokens.size(), 6U);
    int interruptions = 0;
    for (std::uint64_t seed = 1; seed <= (isa == kernels::Isa::kReference ? 3 : 12); ++seed) {
      RandomScheduler scheduler(*model, {.pool = pool, .isa = isa}, seed);
      const Trace trace = scheduler.run();
      interruptions += scheduler.interruptions();
      EXPECT_EQ(trace.tokens, plain.tokens) << "seed " << seed;
      EXPECT_EQ(trace.logits, plain.logits) << "seed " << seed;
    }
    EXPECT_GT(interruptions, 50);
  }
}

std::string name_of(const ::testing::TestParamInfo<std::tuple<Family, tensor::DType>>& info) {
  const auto [family, dtype] = info.param;
  return std::string(model_config::model_type_of(family)) + "_" +
         std::string(tensor::to_string(dtype));
}

INSTANTIATE_TEST_SUITE_P(
    Families, ScheduleInvariance,
    ::testing::Combine(::testing::Values(Family::kMixtral, Family::kQwen2Moe, Family::kQwen3Moe,
                                         Family::kOlmoe, Family::kLlama, Family::kQwen3),
                       ::testing::Values(tensor::DType::kBF16, tensor::DType::kF32)),
    name_of);

}  // namespace
}  // namespace gimbal::parity
