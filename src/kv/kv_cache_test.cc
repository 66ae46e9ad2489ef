#include "kv/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace gimbal::kv {
namespace {

using testing::ElementsAre;
using Tokens = std::vector<TokenId>;

Tokens iota_tokens(int count, TokenId first = 0) {
  Tokens tokens(static_cast<std::size_t>(count));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

// Attaches, grows, commits all of `tokens` and leaves the table alive.
SequenceSlot computed(KvCache& cache, const Tokens& tokens, std::uint64_t salt = 0) {
  const SequenceSlot slot = cache.attach(tokens, salt, static_cast<int>(tokens.size()) + 64).slot;
  EXPECT_TRUE(cache.grow(slot, static_cast<int>(tokens.size())));
  cache.commit(slot, tokens, static_cast<int>(tokens.size()));
  return slot;
}

TEST(KvCache, GrowCoversTokensInWholePages) {
  KvCache cache({.pages = 4, .page_tokens = 16});
  const SequenceSlot slot = cache.attach(iota_tokens(10), 0, 64).slot;
  EXPECT_TRUE(cache.pages(slot).empty());
  EXPECT_TRUE(cache.grow(slot, 16));
  EXPECT_EQ(cache.pages(slot).size(), 1u);
  EXPECT_TRUE(cache.grow(slot, 17));
  EXPECT_EQ(cache.pages(slot).size(), 2u);
  EXPECT_TRUE(cache.grow(slot, 3));
  EXPECT_EQ(cache.pages(slot).size(), 2u);
  EXPECT_DOUBLE_EQ(cache.usage(), 0.5);
}

TEST(KvCache, GrowWithoutPagesChangesNothing) {
  KvCache cache({.pages = 3, .page_tokens = 4});
  const SequenceSlot a = cache.attach(iota_tokens(4), 0, 100).slot;
  const SequenceSlot b = cache.attach(iota_tokens(4), 0, 100).slot;
  ASSERT_TRUE(cache.grow(a, 8));
  EXPECT_FALSE(cache.grow(b, 8));
  EXPECT_TRUE(cache.pages(b).empty());
  EXPECT_EQ(cache.free_pages(), 1);
  EXPECT_TRUE(cache.grow(b, 4));
}

TEST(KvCache, TheTableDoesNotMoveWhileTheSequenceLives) {
  KvCache cache({.pages = 64, .page_tokens = 4});
  const SequenceSlot slot = cache.attach(iota_tokens(4), 0, 128).slot;
  ASSERT_TRUE(cache.grow(slot, 1));
  const PageId* table = cache.pages(slot).data();
  for (int tokens = 1; tokens <= 128; ++tokens)
    ASSERT_TRUE(cache.grow(slot, tokens));
  for (int i = 0; i < 100; ++i)
    (void)cache.attach(iota_tokens(1), 0, 1);
  EXPECT_EQ(cache.pages(slot).data(), table);
}

TEST(KvCache, AHitIsWholePagesBelowTheLastToken) {
  KvCache cache({.pages = 16, .page_tokens = 4});
  (void)computed(cache, iota_tokens(12));
  EXPECT_EQ(cache.match(iota_tokens(4), 0).tokens, 0);
  EXPECT_EQ(cache.match(iota_tokens(5), 0).tokens, 4);
  EXPECT_EQ(cache.match(iota_tokens(12), 0).tokens, 8);
  EXPECT_EQ(cache.match(iota_tokens(13), 0).tokens, 12);
  EXPECT_EQ(cache.match(iota_tokens(40), 0).tokens, 12);
  EXPECT_EQ(cache.match(iota_tokens(40), 0, 11).tokens, 8);
  EXPECT_EQ(cache.match(iota_tokens(40), 0, 0).tokens, 0);
  EXPECT_EQ(cache.match(iota_tokens(12, 1), 0).tokens, 0);
}

TEST(KvCache, PartialPagesAreNotShared) {
  KvCache cache({.pages = 16, .page_tokens = 4});
  (void)computed(cache, iota_tokens(7));
  EXPECT_EQ(cache.match(iota_tokens(20), 0).tokens, 4);
}

TEST(KvCache, SharedPagesAreReferencedTwiceAndCountOnce) {
  KvCache cache({.pages = 16, .page_tokens = 4});
  const SequenceSlot a = computed(cache, iota_tokens(8));
  const Attached b = cache.attach(iota_tokens(12), 0, 12);
  EXPECT_EQ(b.hit_tokens, 8);
  EXPECT_EQ(cache.referenced_pages(), 2);
  EXPECT_EQ(cache.references(cache.pages(a)[0]), 2);
  EXPECT_THAT(cache.pages(b.slot), ElementsAre(cache.pages(a)[0], cache.pages(a)[1]));
  EXPECT_EQ(cache.exclusive_pages(b.slot), 0);
  cache.release(a);
  EXPECT_EQ(cache.referenced_pages(), 2);
  EXPECT_EQ(cache.exclusive_pages(b.slot), 2);
  cache.release(b.slot);
  EXPECT_EQ(cache.referenced_pages(), 0);
  EXPECT_EQ(cache.idle_pages(), 2);
  EXPECT_EQ(cache.free_pages(), 16);
}

TEST(KvCache, SaltsIsolate) {
  KvCache cache({.pages = 16, .page_tokens = 4});
  (void)computed(cache, iota_tokens(9), 1);
  EXPECT_EQ(cache.match(iota_tokens(9), 1).tokens, 8);
  EXPECT_EQ(cache.match(iota_tokens(9), 2).tokens, 0);
  EXPECT_EQ(cache.attach(iota_tokens(9), 0, 9).hit_tokens, 0);
}

TEST(KvCache, WithoutPrefixCachingNothingIsKept) {
  KvCache cache({.pages = 4, .page_tokens = 4, .prefix_caching = false});
  cache.release(computed(cache, iota_tokens(16)));
  EXPECT_EQ(cache.match(iota_tokens(16), 0).tokens, 0);
  EXPECT_EQ(cache.idle_pages(), 0);
}

TEST(KvCache, AdmissionCountsIdleHitsAsTaken) {
  KvCache cache({.pages = 4, .page_tokens = 4});
  cache.release(computed(cache, iota_tokens(8)));
  const Tokens prompt = iota_tokens(16);
  const PrefixMatch match = cache.match(prompt, 0);
  EXPECT_EQ(match.tokens, 8);
  EXPECT_EQ(match.idle_pages, 2);
  EXPECT_EQ(cache.pages_needed(match, 16), 4);
  const SequenceSlot slot = cache.attach(prompt, 0, 20).slot;
  EXPECT_EQ(cache.free_pages(), 2);
  EXPECT_EQ(cache.pages_needed(cache.match(prompt, 0), 16), 2);
  EXPECT_TRUE(cache.grow(slot, 16));
  EXPECT_EQ(cache.free_pages(), 0);
  EXPECT_FALSE(cache.grow(slot, 17));
}

TEST(KvCache, AnEvictedSequenceFindsItsGeneratedPagesAgain) {
  KvCache cache({.pages = 8, .page_tokens = 4});
  Tokens tokens = iota_tokens(6);
  const SequenceSlot slot = cache.attach(tokens, 0, 32).slot;
  for (int at = 6; at < 15; ++at) {
    ASSERT_TRUE(cache.grow(slot, at));
    cache.commit(slot, tokens, at);
    tokens.push_back(100 + at);
  }
  cache.release(slot);
  EXPECT_EQ(cache.attach(tokens, 0, 32).hit_tokens, 12);
}

TEST(KvCache, TheLeastRecentlyUsedPrefixGoesFirstAndFromItsEnd) {
  KvCache cache({.pages = 6, .page_tokens = 4});
  const SequenceSlot a = computed(cache, iota_tokens(12, 0));
  const SequenceSlot b = computed(cache, iota_tokens(12, 100));
  cache.release(b);
  cache.release(a);
  const Tokens longer_a = iota_tokens(13, 0);
  const Tokens longer_b = iota_tokens(13, 100);
  const SequenceSlot taker = cache.attach(iota_tokens(1, 500), 7, 24).slot;
  const std::vector<std::pair<int, int>> expected = {{12, 8}, {12, 4}, {12, 0},
                                                     {8, 0},  {4, 0},  {0, 0}};
  for (int pages = 1; pages <= 6; ++pages) {
    ASSERT_TRUE(cache.grow(taker, 4 * pages));
    const auto [hit_a, hit_b] = expected[static_cast<std::size_t>(pages - 1)];
    EXPECT_EQ(cache.match(longer_a, 0).tokens, hit_a) << pages;
    EXPECT_EQ(cache.match(longer_b, 0).tokens, hit_b) << pages;
  }
}

TEST(KvCache, UseMakesAPrefixYoung) {
  KvCache cache({.pages = 4, .page_tokens = 4});
  cache.release(computed(cache, iota_tokens(8, 0)));
  cache.release(computed(cache, iota_tokens(8, 100)));
  cache.release(cache.attach(iota_tokens(9, 0), 0, 9).slot);
  ASSERT_TRUE(cache.grow(cache.attach(iota_tokens(1, 500), 0, 8).slot, 8));
  EXPECT_EQ(cache.match(iota_tokens(9, 0), 0).tokens, 8);
  EXPECT_EQ(cache.match(iota_tokens(9, 100), 0).tokens, 0);
}

TEST(KvCache, ContentComputedTwiceAtOnceIsKeptOnce) {
  KvCache cache({.pages = 8, .page_tokens = 4});
  const Tokens tokens = iota_tokens(8);
  const SequenceSlot a = cache.attach(tokens, 0, 8).slot;
  const SequenceSlot b = cache.attach(tokens, 0, 8).slot;
  for (const SequenceSlot slot : {a, b}) {
    ASSERT_TRUE(cache.grow(slot, 8));
    cache.commit(slot, tokens, 8);
  }
  EXPECT_NE(cache.pages(a)[0], cache.pages(b)[0]);
  const Attached c = cache.attach(iota_tokens(9), 0, 9);
  EXPECT_THAT(cache.pages(c.slot), ElementsAre(cache.pages(a)[0], cache.pages(a)[1]));
  cache.release(c.slot);
  cache.release(b);
  EXPECT_EQ(cache.idle_pages(), 0);
  cache.release(a);
  EXPECT_EQ(cache.idle_pages(), 2);
}

// B computes A's first page at the same time and goes on below A's identity; A's page is then
// evicted while B lives. B's later pages must not hang below whatever A's page holds next.
TEST(KvCache, AChainWhoseForeignParentWasEvictedIsEnteredAnew) {
  KvCache cache({.pages = 4, .page_tokens = 4});
  const Tokens tokens = iota_tokens(12);
  const SequenceSlot a = cache.attach(tokens, 0, 12).slot;
  const SequenceSlot b = cache.attach(tokens, 0, 12).slot;
  ASSERT_TRUE(cache.grow(a, 4));
  ASSERT_TRUE(cache.grow(b, 8));
  cache.commit(a, tokens, 4);
  cache.commit(b, tokens, 8);
  EXPECT_EQ(cache.match(tokens, 0).tokens, 8);
  const PageId lost = cache.pages(a)[0];
  cache.release(a);
  const Tokens other = iota_tokens(8, 50);
  const SequenceSlot c = cache.attach(other, 0, 8).slot;
  ASSERT_TRUE(cache.grow(c, 8));
  EXPECT_EQ(cache.pages(c)[1], lost);
  cache.commit(c, other, 8);
  EXPECT_EQ(cache.match(tokens, 0).tokens, 0);
  cache.release(c);
  ASSERT_TRUE(cache.grow(b, 12));
  cache.commit(b, tokens, 12);
  EXPECT_EQ(cache.match(iota_tokens(13), 0).tokens, 12);
  EXPECT_EQ(cache.attach(iota_tokens(13), 0, 13).hit_tokens, 12);
}

TEST(KvCacheDeathTest, MisuseAborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  KvCache cache({.pages = 4, .page_tokens = 4});
  const SequenceSlot slot = cache.attach(iota_tokens(4), 0, 8).slot;
  EXPECT_DEATH((void)cache.grow(slot, 9), "more tokens");
  EXPECT_DEATH((void)cache.grow(SequenceSlot{1}, 1), "");
  EXPECT_DEATH(cache.commit(slot, iota_tokens(8), 8), "");
  cache.release(slot);
  EXPECT_DEATH(cache.release(slot), "not attached");
}

}  // namespace
}  // namespace gimbal::kv
