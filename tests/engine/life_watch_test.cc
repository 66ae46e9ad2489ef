// Who is declared dead: a rank that was rung again and again and did not move, and nobody else.

#include "engine/rank_watch.h"

#include <gtest/gtest.h>

#include "engine_fixture.h"

namespace gimbal::engine {
namespace {

class RankWatchTest : public EngineFixture {
 protected:
  static TimePoint at(double seconds) { return TimePoint{} + from_ms(seconds * 1000); }
  std::vector<Rank> look(double seconds) {
    const std::span<const Rank> dead = watch_.look(at(seconds));
    return {dead.begin(), dead.end()};
  }

  SteadyClock clock_;
  std::unique_ptr<ExpertGroup> group_ =
      std::move(ExpertGroup::make(*model_, {.ranks = 3, .executor = {.max_batch_rows = 8}}, clock_))
          .value();
  RankWatch watch_{*group_, Rank{0}, std::chrono::seconds(9)};  // rings once a second
};

TEST_F(RankWatchTest, DeclaresDeadWhoDoesNotMoveForSoLong) {
  for (int second = 0; second < 9; ++second) {
    const std::uint32_t rings = group_->bell(Rank{2}).rings();
    EXPECT_TRUE(look(second).empty());
    EXPECT_EQ(group_->bell(Rank{2}).rings(), rings + (second > 0 ? 1U : 0U));
    group_->beat(Rank{1});
  }
  EXPECT_EQ(group_->bell(Rank{1}).rings(), 0U);  // it moves by itself
  EXPECT_EQ(look(9), std::vector<Rank>{Rank{2}});
  group_->retire(Rank{2});
  // The other one moved for the last time before second 9.
  for (int second = 10; second < 18; ++second)
    EXPECT_TRUE(look(second).empty());
  EXPECT_EQ(look(18), std::vector<Rank>{Rank{1}});
}

TEST_F(RankWatchTest, OneThatIsNotDeclaredIsFoundAgain) {
  for (int second = 0; second < 9; ++second)
    EXPECT_TRUE(look(second).empty());
  EXPECT_EQ(look(9).size(), 2U);
  for (int second = 10; second < 17; ++second)
    EXPECT_TRUE(look(second).empty());
  EXPECT_EQ(look(17).size(), 2U);
}

TEST_F(RankWatchTest, TimeWithoutRingsIsNobodysDeath) {
  EXPECT_TRUE(look(0).empty());
  EXPECT_TRUE(look(100).empty());  // it looks again only now
  EXPECT_EQ(group_->bell(Rank{1}).rings(), 1U);
  for (int second = 101; second < 108; ++second)
    EXPECT_TRUE(look(second).empty());
  EXPECT_EQ(look(108).size(), 2U);
}

TEST_F(RankWatchTest, LooksOnlyWhenTheNextLookIsDue) {
  EXPECT_TRUE(look(0).empty());
  EXPECT_EQ(watch_.next_look(), at(1));
  for (int i = 0; i < 100; ++i)
    EXPECT_TRUE(look(0.5).empty());
  EXPECT_EQ(group_->bell(Rank{1}).rings(), 0U);
}

}  // namespace
}  // namespace gimbal::engine
