#include "kernels/isa.h"

#include <gtest/gtest.h>

namespace gimbal::kernels {
namespace {

TEST(Isa, NamesRoundTrip) {
  for (const Isa isa : kAllIsas) {
    const auto parsed = parse_isa(to_string(isa));
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(*parsed, isa);
  }
}

TEST(Isa, UnknownNameIsAnErrorThatNamesIt) {
  const auto parsed = parse_isa("avx9");
  ASSERT_FALSE(parsed.ok());
  EXPECT_NE(parsed.error().message.find("'avx9'"), std::string::npos);
}

TEST(Isa, BestIsTheHighestSupportedLevelAndReferenceAlwaysRuns) {
  EXPECT_TRUE(isa_supported(Isa::kReference));
  EXPECT_TRUE(isa_supported(best_isa()));
  for (const Isa isa : kAllIsas) {
    if (isa > best_isa()) {
      EXPECT_FALSE(isa_supported(isa)) << to_string(isa);
    }
  }
}

}  // namespace
}  // namespace gimbal::kernels
