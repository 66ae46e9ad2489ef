// Who is declared dead: a thread that was rung again and again and did not move, and nobody else.

#include "engine/life_watch.h"

#include <gtest/gtest.h>

#include <span>
#include <vector>

namespace gimbal::engine {
namespace {

class LifeWatchTest : public testing::Test {
 protected:
  LifeWatchTest() {
    for (int place = 0; place < 3; ++place)
      life_.beat(place);
  }
  static TimePoint at(double seconds) { return TimePoint{} + from_ms(seconds * 1000); }
  std::vector<int> look(double seconds) {
    const std::span<const int> dead = watch_.look(at(seconds));
    return {dead.begin(), dead.end()};
  }

  LifeSigns life_{3};
  LifeWatch watch_{life_, 0, std::chrono::seconds(9)};  // rings once a second
};

TEST_F(LifeWatchTest, DeclaresDeadWhoDoesNotMoveForSoLong) {
  for (int second = 0; second < 9; ++second) {
    const std::uint32_t rings = life_.bell(2).rings();
    EXPECT_TRUE(look(second).empty());
    EXPECT_EQ(life_.bell(2).rings(), rings + (second > 0 ? 1U : 0U));
    life_.beat(1);
  }
  EXPECT_EQ(life_.bell(1).rings(), 0U);  // it moves by itself
  EXPECT_EQ(look(9), std::vector<int>{2});
  life_.retire(2);
  // The other one moved for the last time before second 9.
  for (int second = 10; second < 18; ++second)
    EXPECT_TRUE(look(second).empty());
  EXPECT_EQ(look(18), std::vector<int>{1});
}

TEST_F(LifeWatchTest, OneThatIsNotDeclaredIsFoundAgain) {
  for (int second = 0; second < 9; ++second)
    EXPECT_TRUE(look(second).empty());
  EXPECT_EQ(look(9).size(), 2U);
  for (int second = 10; second < 17; ++second)
    EXPECT_TRUE(look(second).empty());
  EXPECT_EQ(look(17).size(), 2U);
}

TEST_F(LifeWatchTest, TimeWithoutRingsIsNobodysDeath) {
  EXPECT_TRUE(look(0).empty());
  EXPECT_TRUE(look(100).empty());  // it looks again only now
  EXPECT_EQ(life_.bell(1).rings(), 1U);
  for (int second = 101; second < 108; ++second)
    EXPECT_TRUE(look(second).empty());
  EXPECT_EQ(look(108).size(), 2U);
}

TEST_F(LifeWatchTest, WhoHasNotStartedIsNotLookedFor) {
  LifeSigns life(2);
  LifeWatch watch(life, 0, std::chrono::seconds(9));
  for (int second = 0; second < 40; ++second)
    EXPECT_TRUE(watch.look(at(second)).empty());
  EXPECT_EQ(life.bell(1).rings(), 0U);
}

TEST_F(LifeWatchTest, LooksOnlyWhenTheNextLookIsDue) {
  EXPECT_TRUE(look(0).empty());
  EXPECT_EQ(watch_.next_look(), at(1));
  for (int i = 0; i < 100; ++i)
    EXPECT_TRUE(look(0.5).empty());
  EXPECT_EQ(life_.bell(1).rings(), 0U);
}

}  // namespace
}  // namespace gimbal::engine
