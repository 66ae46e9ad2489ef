#include "base/strong_id.h"

#include <gtest/gtest.h>

#include <type_traits>
#include <unordered_set>

#include "base/cursor.h"
#include "base/ids.h"

namespace gimbal {
namespace {

TEST(StrongId, KindsDoNotMix) {
  static_assert(!std::is_convertible_v<int, ExpertId>);
  static_assert(!std::is_convertible_v<ExpertId, LayerIndex>);
  static_assert(!std::is_convertible_v<ExpertId, int>);
  const std::unordered_set<ExpertId> set{ExpertId{1}, ExpertId{1}, ExpertId{2}};
  EXPECT_EQ(set.size(), 2U);
}

TEST(Cursor, WalksStagesInOrder) {
  Cursor cursor;
  for (int index = 0; index < 7; ++index) {
    EXPECT_EQ(cursor.index(), index);
    EXPECT_EQ(Cursor::from_index(index), cursor);
    const Cursor next = cursor.next();
    EXPECT_LT(cursor, next);
    cursor = next;
  }
  EXPECT_EQ(Cursor::end(2), Cursor::from_index(6));
}

}  // namespace
}  // namespace gimbal
