#include "server/token_router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

namespace gimbal::server {
namespace {

using ::testing::ElementsAre;

struct Recorder final : TokenReceiver {
  void on_output(int choice, cluster::TokenOutput& output, TimePoint) override {
    seen.push_back(choice * 1000 + output.token.value_or(-1));
    if (on_each) on_each();
  }
  void on_delivered() override { ++deliveries; }

  std::vector<int> seen;
  int deliveries = 0;
  std::function<void()> on_each;
};

void emit(TokenRouter& router, std::vector<std::pair<RequestId, TokenId>> tokens) {
  std::vector<cluster::TokenOutput> outputs;
  for (const auto& [id, token] : tokens) {
    outputs.push_back({.request = id, .token = token});
  }
  router.on_outputs(outputs);
}

class TokenRouterTest : public ::testing::Test {
 protected:
  TokenRouterTest() : router(2, clock) {
    for (const int loop : {0, 1}) {
      router.set_wake(loop, [this, loop] { ++wakes[loop]; });
    }
  }

  ManualClock clock;
  TokenRouter router;
  int wakes[2] = {0, 0};
};

TEST_F(TokenRouterTest, DeliversToTheLoopThatOpenedTheRequest) {
  Recorder a;
  Recorder b;
  const RequestId first = router.open(0, a, 1);
  const RequestId second = router.open(1, b, 2);
  EXPECT_NE(first, second);
  emit(router, {{first, 5}, {second, 6}, {first, 7}});
  EXPECT_EQ(wakes[0], 1);
  EXPECT_EQ(wakes[1], 1);
  router.deliver(0);
  EXPECT_THAT(a.seen, ElementsAre(1005, 1007));
  EXPECT_EQ(a.deliveries, 1);
  EXPECT_TRUE(b.seen.empty());
  router.deliver(1);
  EXPECT_THAT(b.seen, ElementsAre(2006));
}

TEST_F(TokenRouterTest, WakesALoopOnceUntilItHasLooked) {
  Recorder a;
  const RequestId id = router.open(0, a, 0);
  emit(router, {{id, 1}});
  emit(router, {{id, 2}});
  EXPECT_EQ(wakes[0], 1);
  EXPECT_EQ(wakes[1], 0);
  router.deliver(0);
  EXPECT_THAT(a.seen, ElementsAre(1, 2));
  EXPECT_EQ(a.deliveries, 1);
  emit(router, {{id, 3}});
  EXPECT_EQ(wakes[0], 2);
}

TEST_F(TokenRouterTest, DropsOutputsOfClosedRequestsEvenWithinADelivery) {
  Recorder a;
  const RequestId first = router.open(0, a, 0);
  const RequestId second = router.open(0, a, 1);
  a.on_each = [&] { router.close(second); };
  emit(router, {{first, 1}, {second, 2}});
  router.deliver(0);
  EXPECT_THAT(a.seen, ElementsAre(1));
}

TEST_F(TokenRouterTest, DropsOutputsWhenNobodyIsToBeWoken) {
  Recorder a;
  const RequestId id = router.open(0, a, 0);
  router.set_wake(0, nullptr);
  emit(router, {{id, 1}});
  router.deliver(0);
  EXPECT_TRUE(a.seen.empty());
}

TEST_F(TokenRouterTest, LosesNothingBetweenThreads) {
  Recorder a;
  const RequestId id = router.open(0, a, 0);
  constexpr int kTokens = 20'000;
  std::thread engine([&] {
    for (int i = 0; i < kTokens; ++i)
      emit(router, {{id, i}});
  });
  while (a.seen.size() < kTokens)
    router.deliver(0);
  engine.join();
  for (int i = 0; i < kTokens; ++i)
    ASSERT_EQ(a.seen[static_cast<std::size_t>(i)], i);
}

}  // namespace
}  // namespace gimbal::server
