#include "kernels/rope.h"

#include <gtest/gtest.h>

#include <cmath>

namespace gimbal::kernels {
namespace {

// Expected frequencies are what transformers' modeling_rope_utils gives for the same parameters.
struct Sample {
  std::size_t index;
  double frequency;
};

void expect_frequencies(const RopeParameters& parameters, double attention_factor,
                        const std::vector<Sample>& samples) {
  const RopeFrequencies frequencies = rope_frequencies(parameters);
  ASSERT_EQ(frequencies.inverse.size(), static_cast<std::size_t>(parameters.rotary_dim / 2));
  EXPECT_NEAR(frequencies.attention_factor, attention_factor, 1e-6);
  for (const Sample& sample : samples) {
    EXPECT_NEAR(frequencies.inverse[sample.index], sample.frequency, 1e-6 * sample.frequency)
        << sample.index;
  }
}

TEST(RopeTest, DefaultFrequenciesAreAGeometricSeries) {
  RopeParameters parameters;
  parameters.rotary_dim = 64;
  expect_frequencies(parameters, 1.0, {{0, 1.0}, {8, 0.1}, {16, 0.01}, {24, 0.001}});
}

TEST(RopeTest, LinearDividesByTheFactor) {
  RopeParameters parameters;
  parameters.kind = RopeKind::kLinear;
  parameters.rotary_dim = 64;
  parameters.factor = 4.0;
  expect_frequencies(parameters, 1.0,
                     {{0, 0.25}, {8, 0.025}, {16, 0.0025}, {31, 3.333803761051968e-05}});
}

TEST(RopeTest, Llama3EqualsTransformers) {
  RopeParameters parameters;
  parameters.kind = RopeKind::kLlama3;
  parameters.rotary_dim = 128;
  parameters.rope_theta = 500000.0;
  parameters.factor = 8.0;
  parameters.original_max_position_embeddings = 8192;
  expect_frequencies(parameters, 1.0,
                     {{0, 1.0},
                      {16, 0.03760603070259094},
                      {24, 0.00729266507551074},
                      {32, 0.0005248460220173001},
                      {40, 3.428102354519069e-05},
                      {63, 3.068925877869333e-07}});
}

TEST(RopeTest, YarnEqualsTransformers) {
  RopeParameters parameters;
  parameters.kind = RopeKind::kYarn;
  parameters.rotary_dim = 128;
  parameters.rope_theta = 1000000.0;
  parameters.factor = 4.0;
  parameters.original_max_position_embeddings = 8192;
  expect_frequencies(parameters, 1.138629436111989,
                     {{0, 1.0},
                      {16, 0.03162277862429619},
                      {24, 0.0038867706898599863},
                      {32, 0.0003382352879270911},
                      {40, 4.4456985051510856e-05},
                      {63, 3.102344408034696e-07}});
}

TEST(RopeTest, YarnOptionsEqualTransformers) {
  RopeParameters parameters;
  parameters.kind = RopeKind::kYarn;
  parameters.rotary_dim = 64;
  parameters.factor = 40.0;
  parameters.original_max_position_embeddings = 4096;
  parameters.attention_factor = 1.25;
  expect_frequencies(parameters, 1.25,
                     {{8, 0.1},
                      {12, 0.026879360899329185},
                      {16, 0.005500000435858965},
                      {20, 0.0007905694073997438}});
  parameters.attention_factor.reset();
  parameters.beta_fast = 16.0;
  parameters.beta_slow = 2.0;
  parameters.mscale = 1.0;
  parameters.mscale_all_dim = 0.707;
  parameters.truncate = false;
  expect_frequencies(parameters, 1.0857263992561355,
                     {{8, 0.1},
                      {12, 0.03162277862429619},
                      {16, 0.005790104623883963},
                      {20, 0.00012395245721563697}});
}

TEST(RopeTest, TableHoldsScaledCosinesAndSines) {
  const RopeTable table({{1.0F, 0.01F, 0.0001F}, 2.0F}, 5000);
  EXPECT_EQ(table.rotary_dim(), 6);
  for (const std::int64_t position : {0, 1, 77, 4999}) {
    for (int i = 0; i < 3; ++i) {
      const double angle = static_cast<double>(position) * std::pow(100.0, -i);
      EXPECT_NEAR(table.cos(position)[i], 2.0 * std::cos(angle), 1e-4);
      EXPECT_NEAR(table.sin(position)[i], 2.0 * std::sin(angle), 1e-4);
    }
  }
}

}  // namespace
}  // namespace gimbal::kernels
