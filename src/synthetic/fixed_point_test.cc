#include "synthetic/fixed_point.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "base/hash.h"
#include "base/random.h"
#include "tensor/dtype.h"

namespace gimbal::synthetic {
namespace {

TEST(FixedPoint, Float32BitsAreTheNearestFloat) {
  Rng rng(1);
  for (int i = 0; i < 200000; ++i) {
    const Fixed value = static_cast<Fixed>(rng()) >> (9 + rng.below(55));
    const float expected = std::ldexp(static_cast<float>(value), -kFractionBits);
    ASSERT_EQ(float32_bits(value), std::bit_cast<std::uint32_t>(value == 0 ? 0.0F : expected))
        << value;
  }
}

TEST(FixedPoint, BFloat16BitsRoundToNearestEven) {
  Rng rng(2);
  for (int i = 0; i < 200000; ++i) {
    // 24 significant bits, so that the float is exact and only the step to bfloat16 rounds.
    const Fixed value = (static_cast<Fixed>(rng()) >> 40) << rng.below(31);
    const float exact = std::ldexp(static_cast<float>(value), -kFractionBits);
    ASSERT_EQ(bfloat16_bits(value), tensor::to_bfloat16(exact).bits) << value;
  }
}

TEST(FixedPoint, Float16BitsRoundToTheNearestHalfAlsoBelowTheSmallestNormal) {
  Rng rng(3);
  for (int i = 0; i < 200000; ++i) {
    const Fixed value = static_cast<Fixed>(rng()) >> (9 + rng.below(55));
    const auto bits = float16_bits(value);
    const double exact = std::ldexp(static_cast<double>(value), -kFractionBits);
    const double rounded = tensor::half_to_float(bits);
    const double above = tensor::half_to_float(static_cast<std::uint16_t>(bits + 1));
    ASSERT_LE(std::abs(rounded - exact), std::abs(above - rounded) / 2) << value;
  }
}

TEST(FixedPoint, IntegerSqrtIsTheFloor) {
  Rng rng(4);
  for (int i = 0; i < 20000; ++i) {
    const std::uint64_t value = rng() >> rng.below(64);
    const std::uint64_t root = integer_sqrt(value);
    __extension__ using Wide = unsigned __int128;
    ASSERT_LE(static_cast<Wide>(root) * root, value);
    ASSERT_GT(static_cast<Wide>(root + 1) * (root + 1), value);
  }
}

TEST(FixedPoint, LogarithmIsCloseToTheLibrarys) {
  EXPECT_EQ(log_fixed16(1), 0);
  for (std::uint32_t value = 1; value < 5000; ++value) {
    ASSERT_NEAR(static_cast<double>(log_fixed16(value)) / 65536, std::log(value), 3e-5) << value;
  }
  EXPECT_NEAR(static_cast<double>(log_fixed16(~0U)) / 65536, std::log(4294967295.0), 3e-5);
}

TEST(FixedPoint, NoiseHasTheStandardDeviationItsStepAsksFor) {
  for (const std::uint64_t fan_in : {1ULL, 64ULL, 1024ULL, 7168ULL}) {
    const Fixed step = noise_step(512, fan_in);
    double sum = 0;
    double squares = 0;
    constexpr int kCount = 100000;
    for (std::uint64_t i = 0; i < kCount; ++i) {
      const auto noise = irwin_hall(mix64(i * 0x9e3779b97f4a7c15ULL + 7));
      const double value = std::ldexp(static_cast<double>(noise * step), -kFractionBits);
      sum += value;
      squares += value * value;
    }
    const double expected = 2.0 / std::sqrt(static_cast<double>(fan_in));
    EXPECT_NEAR(std::sqrt(squares / kCount), expected, expected * 0.02);
    EXPECT_NEAR(sum / kCount, 0.0, expected * 0.02);
  }
}

}  // namespace
}  // namespace gimbal::synthetic
