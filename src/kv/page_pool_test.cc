#include "kv/page_pool.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace gimbal::kv {
namespace {

TEST(PagePool, HandsOutEveryPageOnceThenNone) {
  PagePool pool(5);
  std::set<PageId> pages;
  for (int i = 0; i < 5; ++i)
    pages.insert(pool.allocate().value());
  EXPECT_EQ(pages.size(), 5u);
  EXPECT_EQ(*pages.begin(), PageId{0});
  EXPECT_EQ(*pages.rbegin(), PageId{4});
  EXPECT_EQ(pool.allocate(), std::nullopt);
  EXPECT_EQ(pool.referenced(), 5);
}

TEST(PagePool, ASharedPageIsFreeOnlyAfterItsLastRelease) {
  PagePool pool(1);
  const PageId page = *pool.allocate();
  pool.share(page);
  EXPECT_EQ(pool.references(page), 2);
  pool.release(page);
  EXPECT_EQ(pool.referenced(), 1);
  EXPECT_EQ(pool.allocate(), std::nullopt);
  pool.release(page);
  EXPECT_EQ(pool.referenced(), 0);
  EXPECT_EQ(pool.allocate(), page);
}

TEST(PagePool, AnUnreferencedCachedPageIsIdleAndNotAllocated) {
  PagePool pool(2);
  const PageId page = *pool.allocate();
  pool.set_cached(page);
  pool.release(page);
  EXPECT_EQ(pool.idle(), 1);
  EXPECT_EQ(pool.clean(), 1);
  EXPECT_EQ(pool.referenced(), 0);
  EXPECT_NE(*pool.allocate(), page);
  EXPECT_EQ(pool.allocate(), std::nullopt);
}

TEST(PagePool, AnIdlePageIsSharedAgainOrMadeClean) {
  PagePool pool(1);
  const PageId page = *pool.allocate();
  pool.set_cached(page);
  pool.release(page);
  pool.share(page);
  EXPECT_EQ(pool.idle(), 0);
  EXPECT_EQ(pool.references(page), 1);
  pool.release(page);
  pool.clear_cached(page);
  EXPECT_EQ(pool.idle(), 0);
  EXPECT_EQ(pool.allocate(), page);
}

// Pages 0 to `count` − 1, idle in this order.
PagePool with_idle(int count) {
  PagePool pool(count);
  for (int i = 0; i < count; ++i)
    pool.set_cached(*pool.allocate());
  for (int i = 0; i < count; ++i)
    pool.release(PageId{i});
  return pool;
}

std::vector<int> taken_in_order(PagePool& pool) {
  std::vector<int> order;
  while (pool.oldest_idle() != kNoPage) {
    order.push_back(pool.oldest_idle().value());
    pool.clear_cached(pool.oldest_idle());
  }
  EXPECT_EQ(pool.idle(), 0);
  EXPECT_EQ(pool.clean(), static_cast<int>(order.size()));
  return order;
}

TEST(PagePool, IdlePagesStandInOrderOfLastUse) {
  PagePool pool = with_idle(5);
  EXPECT_EQ(pool.oldest_idle(), PageId{0});
  for (const int i : {2, 0, 4})  // from the middle, the front and the back
    pool.renew(PageId{i});
  EXPECT_EQ(pool.idle(), 5);
  EXPECT_EQ(taken_in_order(pool), (std::vector{1, 3, 2, 0, 4}));
}

TEST(PagePool, SharedPagesLeaveTheOrder) {
  for (int shared = 0; shared < 3; ++shared) {
    PagePool pool = with_idle(3);
    pool.share(PageId{shared});
    pool.share(PageId{shared});
    EXPECT_EQ(pool.references(PageId{shared}), 2);
    EXPECT_EQ(pool.idle(), 2);
    pool.renew(PageId{shared});  // no effect: it is referenced
    EXPECT_EQ(pool.references(PageId{shared}), 2);
    pool.release(PageId{shared});
    pool.release(PageId{shared});
    EXPECT_EQ(taken_in_order(pool).back(), shared);
  }
}

TEST(PagePool, ReferencesOfIdlePagesAreNone) {
  const PagePool pool = with_idle(3);
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(pool.references(PageId{i}), 0);
  EXPECT_EQ(pool.referenced(), 0);
}

TEST(PagePool, LosingTheMarkWhileReferencedKeepsThePage) {
  PagePool pool(1);
  const PageId page = *pool.allocate();
  pool.set_cached(page);
  pool.clear_cached(page);
  EXPECT_EQ(pool.referenced(), 1);
  pool.release(page);
  EXPECT_EQ(pool.clean(), 1);
}

TEST(PagePool, TakesAPageUsedBeforeRatherThanANewOne) {
  PagePool pool(4);
  const PageId first = *pool.allocate();
  const PageId second = *pool.allocate();
  EXPECT_EQ(pool.clean(), 2);
  EXPECT_EQ(pool.references(PageId{3}), 0);  // of one that was never allocated
  EXPECT_FALSE(pool.cached(PageId{3}));
  pool.release(first);
  pool.release(second);
  EXPECT_EQ(pool.clean(), 4);
  EXPECT_EQ(pool.allocate(), second);  // the one used last
  EXPECT_EQ(pool.allocate(), first);
  EXPECT_EQ(pool.allocate(), PageId{2});
  EXPECT_EQ(pool.clean(), 1);
  EXPECT_EQ(pool.referenced(), 3);
}

TEST(PagePoolDeathTest, MisuseAborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  PagePool pool(2);
  const PageId page = *pool.allocate();
  pool.release(page);
  EXPECT_DEATH(pool.release(page), "released twice");
  EXPECT_DEATH(pool.share(page), "clean page");
  EXPECT_DEATH(pool.set_cached(page), "");
  EXPECT_DEATH(pool.clear_cached(page), "");
  EXPECT_DEATH(pool.renew(page), "");
  EXPECT_DEATH(pool.share(PageId{1}), "never allocated");
  EXPECT_DEATH((void)pool.references(PageId{2}), "");
  EXPECT_DEATH((void)pool.references(kNoPage), "");
}

}  // namespace
}  // namespace gimbal::kv
