#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace gimbal::tensor {
namespace {

TEST(Dtype, BFloat16RoundsToNearestEven) {
  EXPECT_EQ(to_bfloat16(1.0F).bits, 0x3f80);
  EXPECT_EQ(to_bfloat16(std::bit_cast<float>(0x3f808000U)).bits, 0x3f80);  // tie, even below
  EXPECT_EQ(to_bfloat16(std::bit_cast<float>(0x3f818000U)).bits, 0x3f82);  // tie, even above
  EXPECT_EQ(to_bfloat16(std::bit_cast<float>(0x3f808001U)).bits, 0x3f81);
  EXPECT_EQ(to_bfloat16(std::numeric_limits<float>::max()).bits, 0x7f80);  // overflows to infinity
}

TEST(Dtype, BFloat16KeepsNaN) {
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(std::bit_cast<float>(0x7f800001U)))));
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(-std::numeric_limits<float>::quiet_NaN()))));
}

TEST(Dtype, EveryBFloat16SurvivesARoundTrip) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const BFloat16 value{static_cast<std::uint16_t>(bits)};
    if (std::isnan(to_float(value))) continue;
    EXPECT_EQ(to_bfloat16(to_float(value)), value);
  }
}

TEST(Dtype, HalfCoversSubnormalsAndSpecials) {
  EXPECT_EQ(half_to_float(0x3c00), 1.0F);
  EXPECT_EQ(half_to_float(0xc000), -2.0F);
  EXPECT_EQ(half_to_float(0x0001), 0x1p-24F);
  EXPECT_EQ(half_to_float(0x7bff), 65504.0F);
  EXPECT_TRUE(std::isinf(half_to_float(0x7c00)));
  EXPECT_TRUE(std::isnan(half_to_float(0x7e00)));
  EXPECT_TRUE(std::signbit(half_to_float(0x8000)));
}

TEST(Dtype, ParseNamesTheBadValue) {
  EXPECT_EQ(*parse_dtype("bfloat16"), DType::kBF16);
  const auto failed = parse_dtype("int8");
  ASSERT_FALSE(failed.ok());
  EXPECT_NE(failed.error().message.find("int8"), std::string::npos);
}

}  // namespace
}  // namespace gimbal::tensor
