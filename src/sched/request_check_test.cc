#include "sched/request_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <utility>
#include <vector>

namespace gimbal::sched {
namespace {

using testing::HasSubstr;

Request request_of(std::vector<TokenId> prompt, int max_tokens) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  return request;
}

TEST(RequestCheckTest, TakesWhatFits) {
  EXPECT_TRUE(check_request(request_of({0, 9}, 6), 8, 10).ok());
  EXPECT_TRUE(check_request(request_of({0}, 0), 1, 1).ok());
}

TEST(RequestCheckTest, NamesTheFieldAtFault) {
  const auto refused = [](const Request& request, const char* field, const char* text) {
    const auto checked = check_request(request, 8, 10);
    ASSERT_FALSE(checked.ok());
    EXPECT_EQ(checked.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(checked.error().field, field);
    EXPECT_THAT(checked.error().message, HasSubstr(text));
  };
  refused(request_of({}, 1), "prompt", "has none");
  refused(request_of({1}, -1), "max_tokens", "is -1");
  refused(request_of({1, 2}, 7), "prompt", "are 2 + 7");
  refused(request_of({1}, std::numeric_limits<int>::max()), "prompt", "at most 8 tokens");
  refused(request_of({1, -1}, 1), "prompt", "from 0 to 9, one is -1");
  refused(request_of({1, 10}, 1), "prompt", "one is 10");
}

}  // namespace
}  // namespace gimbal::sched
