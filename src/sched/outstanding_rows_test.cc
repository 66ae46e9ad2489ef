#include "sched/outstanding_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

namespace gimbal::sched {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr SourceSlot slot(int i) {
  return SourceSlot{i};
}

class OutstandingRowsTest : public testing::Test {
 protected:
  // Posts rows of two experts each; row r has the outputs 2r and 2r + 1.
  void post(std::vector<std::pair<int, int>> slots_and_rows, std::uint32_t map_version = 0) {
    std::vector<PostedRow> posted;
    for (const auto& [of, row] : slots_and_rows) {
      posted.push_back(
          {.slot = slot(of), .epoch = rows_.epoch(slot(of)), .row = row, .first_output = 2 * row});
    }
    const std::vector<std::int32_t> experts(2 * posted.size(), 0);
    rows_.post({.source = Rank{0},
                .layer = LayerIndex{0},
                .map_version = map_version,
                .rows = posted,
                .experts = experts});
  }

  [[nodiscard]] ExpertEntry output(int of, int id, std::uint32_t map_version = 0) const {
    return {
        .slot = slot(of), .epoch = rows_.epoch(slot(of)), .output = id, .map_version = map_version};
  }

  const Completion& complete(const std::vector<ExpertEntry>& outputs) {
    rows_.complete(outputs, completion_);
    return completion_;
  }

  OutstandingRows rows_{{.max_slots = 4, .max_outputs = 16}};
  Completion completion_;
};

TEST_F(OutstandingRowsTest, ASequenceIsCompleteWithItsLastOutput) {
  post({{0, 0}, {1, 1}, {0, 2}});
  EXPECT_EQ(rows_.missing(slot(0)), 4);
  EXPECT_EQ(rows_.missing(slot(1)), 2);
  EXPECT_EQ(rows_.missing(), 6);
  EXPECT_THAT(complete({output(0, 4), output(1, 3), output(0, 1)}).complete, IsEmpty());
  EXPECT_THAT(complete({output(1, 2), output(0, 0), output(0, 5)}).complete,
              ElementsAre(slot(1), slot(0)));
  EXPECT_THAT(completion_.dropped, IsEmpty());
  EXPECT_EQ(rows_.missing(), 0);
}

TEST_F(OutstandingRowsTest, OutputsOfADroppedSequenceAreDropped) {
  post({{0, 0}, {1, 1}});
  const std::vector<ExpertEntry> outputs = {output(0, 0), output(1, 2), output(0, 1)};
  EXPECT_EQ(rows_.drop(slot(0)), 2);
  EXPECT_EQ(rows_.missing(), 2);
  EXPECT_THAT(complete(outputs).dropped, ElementsAre(0, 2));
  EXPECT_EQ(rows_.missing(slot(1)), 1);
  EXPECT_EQ(rows_.drop(slot(2)), 0);
}

TEST_F(OutstandingRowsTest, ADroppedSlotAndItsOutputsAreUsedAgainAtOnce) {
  post({{0, 0}});
  const std::vector<ExpertEntry> stale = {output(0, 0), output(0, 1)};
  rows_.drop(slot(0));
  post({{0, 0}});
  EXPECT_THAT(complete(stale).dropped, ElementsAre(0, 1));
  EXPECT_THAT(complete({output(0, 0), output(0, 1)}).complete, ElementsAre(slot(0)));
}

TEST_F(OutstandingRowsTest, OutputsOfAnotherMapVersionAreDropped) {
  post({{0, 0}}, 5);
  EXPECT_THAT(complete({output(0, 0, 4), output(0, 0, 5)}).dropped, ElementsAre(0));
  EXPECT_EQ(rows_.missing(slot(0)), 1);
}

TEST_F(OutstandingRowsTest, ARepostAsksOnlyForWhatIsMissing) {
  post({{0, 0}, {1, 1}, {0, 3}});
  const std::vector<ExpertEntry> early = {output(0, 1)};
  const std::vector<ExpertEntry> late = {output(0, 0), output(0, 7)};
  complete(early);
  std::vector<std::int32_t> missing = {99};
  rows_.repost(slot(0), 1, missing);
  EXPECT_THAT(missing, ElementsAre(0, 6, 7));
  EXPECT_EQ(rows_.missing(slot(0)), 3);
  EXPECT_THAT(complete(late).dropped, ElementsAre(0, 1));
  EXPECT_THAT(complete({output(0, 0, 1), output(0, 6, 1), output(0, 7, 1)}).complete,
              ElementsAre(slot(0)));
}

TEST_F(OutstandingRowsTest, AChunkMayBePostedInPieces) {
  post({{0, 0}});
  post({{0, 1}});
  EXPECT_EQ(rows_.missing(slot(0)), 4);
}

using OutstandingRowsDeathTest = OutstandingRowsTest;

TEST_F(OutstandingRowsDeathTest, MisuseAborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  post({{0, 0}});
  EXPECT_DEATH(post({{1, 0}}), "awaited twice");
  EXPECT_DEATH(post({{0, 1}}, 1), "two map versions");
  EXPECT_DEATH(post({{0, 8}}), "room");
  EXPECT_DEATH(post({{4, 1}}), "");
  EXPECT_DEATH(complete({output(0, 2)}), "nobody waits");
  EXPECT_DEATH(complete({output(0, 0), output(0, 0)}), "nobody waits");
}

}  // namespace
}  // namespace gimbal::sched
