#include "server/digest.h"

#include <gtest/gtest.h>

namespace gimbal::server {
namespace {

TEST(DigestTest, AdmitsEveryoneWithoutKeysAndOnlyKeysOtherwise) {
  EXPECT_TRUE(ApiKeys({}).admit(""));
  const ApiKeys keys({"alpha", "beta"});
  EXPECT_TRUE(keys.admit("Bearer alpha"));
  EXPECT_TRUE(keys.admit("BEARER beta"));
  for (const char* wrong : {"", "alpha", "Bearer", "Bearer ", "Bearer alph", "Bearer alphaa",
                            "Bearer  alpha", "Basic alpha", "Bearer ALPHA"}) {
    EXPECT_FALSE(keys.admit(wrong)) << wrong;
  }
}

TEST(DigestTest, GivesKeysThatDifferAndStay) {
  EXPECT_EQ(secure_key("a"), secure_key("a"));
  EXPECT_NE(secure_key("a"), secure_key("b"));
  EXPECT_NE(secure_key(""), 0U);
  EXPECT_EQ(secure_key("abc"), 0xeacf018fbf1678baU);  // SHA-256 of FIPS 180-4's first example
}

}  // namespace
}  // namespace gimbal::server
