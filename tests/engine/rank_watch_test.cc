// Who is declared dead: a rank that was rung again and again and did not move, and nobody else.

#include "engine/rank_watch.h"

#include <gtest/gtest.h>

#include "engine_fixture.h"

namespace gimbal::engine {
namespace {

class RankWatchTest : public EngineFixture {
 protected:
  static TimePoint at(double seconds) { return TimePoint{} + from_ms(seconds * 1000); }

  SteadyClock clock_;
  std::unique_ptr<ExpertGroup> group_ =
      std::move(ExpertGroup::make(*model_, {.ranks = 3, .executor = {.max_batch_rows = 8}}, clock_))
          .value();
  RankWatch watch_{*group_, Rank{0}, std::chrono::seconds(9)};  // rings once a second
};

TEST_F(RankWatchTest, DeclaresDeadWhoDoesNotMoveForSoLong) {
  for (int second = 0; second < 9; ++second) {
    const std::uint32_t rings = group_->bell(Rank{2}).rings();
    EXPECT_TRUE(watch_.waited(at(second)).dead.empty());
    EXPECT_EQ(group_->bell(Rank{2}).rings(), rings + (second > 0 ? 1U : 0U));
    group_->beat(Rank{1});
  }
  EXPECT_EQ(watch_.waited(at(9)).dead, std::vector<Rank>{Rank{2}});
  // It is rung as often again, as is one that moved until now.
  for (int second = 10; second < 17; ++second)
    EXPECT_TRUE(watch_.waited(at(second)).dead.empty());
  EXPECT_EQ(watch_.waited(at(17)).dead, (std::vector<Rank>{Rank{1}, Rank{2}}));
  group_->retire(Rank{2});
  for (int second = 18; second < 25; ++second)
    EXPECT_TRUE(watch_.waited(at(second)).dead.empty());
  EXPECT_EQ(watch_.waited(at(25)).dead, std::vector<Rank>{Rank{1}});
}

TEST_F(RankWatchTest, TimeWithoutRingsIsNobodysDeath) {
  EXPECT_TRUE(watch_.waited(at(0)).dead.empty());
  EXPECT_TRUE(watch_.waited(at(100)).dead.empty());  // it looks again only now
  EXPECT_EQ(group_->bell(Rank{1}).rings(), 1U);
  for (int second = 101; second < 108; ++second)
    EXPECT_TRUE(watch_.waited(at(second)).dead.empty());
  EXPECT_EQ(watch_.waited(at(108)).dead.size(), 2U);
}

TEST_F(RankWatchTest, BeginsAnewAfterWork) {
  for (int second = 0; second < 9; ++second)
    EXPECT_TRUE(watch_.waited(at(second)).dead.empty());
  watch_.worked();
  EXPECT_TRUE(watch_.waited(at(9)).dead.empty());
  EXPECT_TRUE(watch_.waited(at(9.5)).dead.empty());
  EXPECT_EQ(group_->bell(Rank{1}).rings(), 8U);
}

}  // namespace
}  // namespace gimbal::engine
