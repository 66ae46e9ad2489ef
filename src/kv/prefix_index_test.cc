#include "kv/prefix_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

namespace gimbal::kv {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using PageTokens = std::array<TokenId, 2>;

constexpr PageId page(int i) {
  return PageId{i};
}

std::uint64_t always_the_same(std::uint64_t, std::span<const TokenId>) {
  return 7;
}

PrefixIndex small_index(PageHash hash = &page_hash) {
  return PrefixIndex({.pages = 8, .page_tokens = 2, .hash = hash, .record_events = true});
}

TEST(PrefixIndex, FindsWhatWasInserted) {
  PrefixIndex index = small_index();
  const PageTokens first{1, 2};
  const PageTokens second{3, 4};
  EXPECT_EQ(index.find(kNoPage, 0, first), kNoPage);
  EXPECT_EQ(index.insert(page(5), kNoPage, 0, first), page(5));
  EXPECT_EQ(index.insert(page(2), page(5), 0, second), page(2));
  EXPECT_EQ(index.find(kNoPage, 0, first), page(5));
  EXPECT_EQ(index.find(page(5), 0, second), page(2));
  EXPECT_EQ(index.parent(page(2)), page(5));
  EXPECT_EQ(index.size(), 2);
}

TEST(PrefixIndex, AHitHasEqualTokensParentAndSaltEvenIfAllHashesCollide) {
  PrefixIndex index = small_index(&always_the_same);
  const PageTokens a{1, 2};
  const PageTokens b{1, 3};
  index.insert(page(0), kNoPage, 0, a);
  EXPECT_EQ(index.find(kNoPage, 0, b), kNoPage);
  EXPECT_EQ(index.find(kNoPage, 1, a), kNoPage);
  EXPECT_EQ(index.find(page(0), 0, a), kNoPage);
  index.insert(page(1), kNoPage, 0, b);
  index.insert(page(2), kNoPage, 1, a);
  index.insert(page(3), page(0), 0, a);
  index.insert(page(4), page(1), 0, a);
  EXPECT_EQ(index.find(kNoPage, 0, a), page(0));
  EXPECT_EQ(index.find(kNoPage, 0, b), page(1));
  EXPECT_EQ(index.find(kNoPage, 1, a), page(2));
  EXPECT_EQ(index.find(page(0), 0, a), page(3));
  EXPECT_EQ(index.find(page(1), 0, a), page(4));
}

TEST(PrefixIndex, WithoutTokensAnEqualHashIsAHit) {
  PrefixIndex index({.pages = 8, .page_tokens = 2, .hash = &always_the_same, .keep_tokens = false});
  const PageTokens a{1, 2};
  const PageTokens b{1, 3};
  index.insert(page(0), kNoPage, 0, a);
  EXPECT_EQ(index.find(kNoPage, 0, b), page(0));
  EXPECT_EQ(index.insert(page(1), kNoPage, 0, b), page(0));
  EXPECT_EQ(index.find(kNoPage, 1, a), kNoPage);  // parent and salt are still compared
  EXPECT_EQ(index.find(page(0), 0, a), kNoPage);
}

TEST(PrefixIndex, APageThatWasNeverEnteredIsNotThere) {
  PrefixIndex index = small_index();
  EXPECT_FALSE(index.contains(page(7)));
  EXPECT_EQ(index.generation(page(7)), 0u);
  index.insert(page(3), kNoPage, 0, PageTokens{1, 2});
  EXPECT_FALSE(index.contains(page(2)));
  EXPECT_FALSE(index.contains(page(4)));
}

TEST(PrefixIndex, TheFirstPageOfAnIdentityStays) {
  PrefixIndex index = small_index();
  const PageTokens tokens{1, 2};
  index.insert(page(0), kNoPage, 0, tokens);
  EXPECT_EQ(index.insert(page(1), kNoPage, 0, tokens), page(0));
  EXPECT_FALSE(index.contains(page(1)));
  EXPECT_EQ(index.insert(page(0), kNoPage, 0, tokens), page(0));
  EXPECT_EQ(index.size(), 1);
}

TEST(PrefixIndex, DescendantsLeaveBeforeTheirPage) {
  PrefixIndex index = small_index();
  index.insert(page(0), kNoPage, 0, PageTokens{0, 0});
  index.insert(page(1), page(0), 0, PageTokens{1, 1});
  index.insert(page(2), page(1), 0, PageTokens{2, 2});
  index.insert(page(3), page(0), 0, PageTokens{3, 3});
  index.insert(page(4), kNoPage, 0, PageTokens{4, 4});
  EXPECT_THAT(index.remove(page(0)), ElementsAre(page(3), page(2), page(1), page(0)));
  EXPECT_EQ(index.size(), 1);
  EXPECT_EQ(index.find(kNoPage, 0, PageTokens{0, 0}), kNoPage);
  EXPECT_EQ(index.insert(page(2), page(4), 0, PageTokens{2, 2}), page(2));
}

TEST(PrefixIndex, SiblingsStayWhenOneLeaves) {
  for (int gone = 1; gone <= 3; ++gone) {  // the last, the middle and the first of the list
    PrefixIndex index = small_index();
    index.insert(page(0), kNoPage, 0, PageTokens{0, 0});
    for (int i = 1; i <= 3; ++i)
      index.insert(page(i), page(0), 0, PageTokens{i, i});
    EXPECT_THAT(index.remove(page(gone)), ElementsAre(page(gone)));
    for (int i = 1; i <= 3; ++i)
      EXPECT_EQ(index.find(page(0), 0, PageTokens{i, i}), i == gone ? kNoPage : page(i));
    EXPECT_THAT(index.remove(page(0)), SizeIs(3));
    EXPECT_EQ(index.size(), 0);
  }
}

TEST(PrefixIndex, FirstPagesKeepTheirSaltWhateverLiesBelow) {
  constexpr std::uint64_t kLarge = 0xffff'ffff'0000'0001;  // more than a page id holds
  PrefixIndex index = small_index(&always_the_same);
  const PageTokens tokens{1, 2};
  index.insert(page(0), kNoPage, kLarge, tokens);
  index.insert(page(1), kNoPage, 1, tokens);
  for (int i = 2; i < 6; ++i)
    index.insert(page(i), page(0), kLarge, PageTokens{i, i});
  EXPECT_EQ(index.find(kNoPage, kLarge, tokens), page(0));
  EXPECT_EQ(index.find(kNoPage, 1, tokens), page(1));
  EXPECT_EQ(index.find(kNoPage, 0, tokens), kNoPage);
  index.clear_events();
  (void)index.remove(page(1));
  (void)index.remove(page(5));
  EXPECT_EQ(index.events()[0].parent, root_hash(1));
  EXPECT_EQ(index.find(kNoPage, kLarge, tokens), page(0));
}

TEST(PrefixIndex, GenerationsRiseWhenAPageLeaves) {
  PrefixIndex index = small_index();
  index.insert(page(0), kNoPage, 0, PageTokens{1, 1});
  const std::uint32_t before = index.generation(page(0));
  (void)index.remove(page(0));
  index.insert(page(0), kNoPage, 0, PageTokens{1, 1});
  EXPECT_NE(index.generation(page(0)), before);
}

TEST(PrefixIndex, EventsNameTheChainOfHashes) {
  PrefixIndex index = small_index();
  const PageTokens first{1, 2};
  const PageTokens second{3, 4};
  const std::uint64_t root = root_hash(9);
  const std::uint64_t top = page_hash(root, first);
  const std::uint64_t below = page_hash(top, second);
  index.insert(page(0), kNoPage, 9, first);
  index.insert(page(1), page(0), 9, second);
  index.insert(page(2), page(0), 9, second);
  (void)index.remove(page(0));
  using Kind = PrefixEvent::Kind;
  EXPECT_THAT(
      index.events(),
      ElementsAre(PrefixEvent{Kind::kInsert, top, root}, PrefixEvent{Kind::kInsert, below, top},
                  PrefixEvent{Kind::kEvict, below, top}, PrefixEvent{Kind::kEvict, top, root}));
  index.clear_events();
  EXPECT_THAT(index.events(), IsEmpty());
}

}  // namespace
}  // namespace gimbal::kv
