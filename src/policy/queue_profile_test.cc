#include "policy/queue_profile.h"

#include <gtest/gtest.h>

namespace gimbal::policy {
namespace {

TEST(QueueProfileTest, SaysWhatRunsBefore) {
  QueueProfile profile;
  EXPECT_EQ(profile.tokens_before({0, 5}), 0);
  profile.add({QueueProfile::kFirst, 100, 1});
  profile.add({{0, 10}, 150, 2});
  profile.add({{0, 20}, 350, 5});
  profile.add({{1, 0}, 360, 6});
  EXPECT_EQ(profile.tokens_before({0, -1e9}), 100);
  EXPECT_EQ(profile.tokens_before({0, 9}), 100);
  EXPECT_EQ(profile.tokens_before({0, 10}), 150);  // equal keys: who came first
  EXPECT_EQ(profile.tokens_before({0, 19}), 250);  // of three requests half
  EXPECT_EQ(profile.tokens_before({0, 21}), 350);
  EXPECT_EQ(profile.tokens_before({1, 1}), 360);
}

}  // namespace
}  // namespace gimbal::policy
