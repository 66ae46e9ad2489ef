#include "server/recent_answers.h"

#include <gtest/gtest.h>

namespace gimbal::server {
namespace {

TEST(RecentAnswersTest, KnowsTheLastOnes) {
  RecentAnswers answers(2);
  answers.add("a", {RequestId{1}});
  answers.add("b", {RequestId{2}, RequestId{3}});
  EXPECT_EQ(answers.requests_of("a"), (std::vector{RequestId{1}}));
  answers.add("c", {RequestId{4}});
  EXPECT_TRUE(answers.requests_of("a").empty());
  EXPECT_EQ(answers.requests_of("b"), (std::vector{RequestId{2}, RequestId{3}}));
  EXPECT_TRUE(answers.requests_of("none").empty());
}

}  // namespace
}  // namespace gimbal::server
