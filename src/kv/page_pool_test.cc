#include "kv/page_pool.h"

#include <gtest/gtest.h>

#include <set>

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
  EXPECT_DEATH(pool.share(PageId{1}), "never allocated");
  EXPECT_DEATH((void)pool.references(PageId{2}), "");
  EXPECT_DEATH((void)pool.references(kNoPage), "");
}

}  // namespace
}  // namespace gimbal::kv
