#include "kv/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <set>

#include "base/random.h"

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

// Random operations against a model that knows, for every page, which prefix's KV was last written
// into it, and for every salt, which prefixes were committed.
class RandomKvCache {
 public:
  RandomKvCache(const KvCacheOptions& options, std::uint64_t seed)
      : options_(options), cache_(options), rng_(seed), memory_(pages()) {}

  void run(int operations, int max_sequences) {
    for (int i = 0; i < operations && !testing::Test::HasFatalFailure(); ++i) {
      const std::uint64_t pick = rng_.below(10);
      if (pick < 2 && static_cast<int>(live_.size()) < max_sequences) {
        attach();
      } else if (pick == 2 && !live_.empty()) {
        release(rng_.below(live_.size()));
      } else if (!live_.empty()) {
        advance(live_[rng_.below(live_.size())]);
      }
      check();
    }
    while (!live_.empty())
      release(0);
    EXPECT_EQ(cache_.referenced_pages(), 0);
    EXPECT_EQ(cache_.free_pages(), options_.pages);
    EXPECT_EQ(cache_.sequences(), 0);
  }

  [[nodiscard]] int hits() const { return hits_; }
  [[nodiscard]] int refusals() const { return refusals_; }
  [[nodiscard]] int evictions() const { return evictions_; }

 private:
  static constexpr int kMaxTokens = 24;
  using Prefix = std::pair<std::uint64_t, Tokens>;  // salt, all tokens up to a position
  struct Sequence {
    SequenceSlot slot;
    std::uint64_t salt;
    Tokens tokens;
    int computed;
  };

  [[nodiscard]] std::size_t pages() const { return static_cast<std::size_t>(options_.pages); }

  Tokens random_tokens(std::int64_t most) {
    Tokens tokens(static_cast<std::size_t>(rng_.between(1, most)));
    for (TokenId& token : tokens)
      token = rng_.below(4) == 0 ? 1 : 0;
    return tokens;
  }

  static Prefix prefix(const Sequence& sequence, int tokens) {
    return {sequence.salt, Tokens(sequence.tokens.begin(), sequence.tokens.begin() + tokens)};
  }

  int naive_hit(const Sequence& sequence) const {
    int hit = 0;
    while (hit + options_.page_tokens < static_cast<int>(sequence.tokens.size()) &&
           committed_.count(prefix(sequence, hit + options_.page_tokens)) > 0) {
      hit += options_.page_tokens;
    }
    return hit;
  }

  int mirrored_hit(const Sequence& sequence) const {
    const auto size = static_cast<std::size_t>(options_.page_tokens);
    std::uint64_t hash = root_hash(sequence.salt);
    std::size_t hit = 0;
    while (hit + size < sequence.tokens.size()) {
      hash = options_.hash(hash, std::span<const TokenId>(sequence.tokens).subspan(hit, size));
      if (mirror_.count(hash) == 0) break;
      hit += size;
    }
    return static_cast<int>(hit);
  }

  void attach() {
    Sequence added{.slot = {}, .salt = rng_.below(2), .tokens = {}, .computed = 0};
    if (!released_.empty() && rng_.below(3) == 0) {  // come back after an eviction
      std::tie(added.salt, added.tokens) = released_[rng_.below(released_.size())];
    } else {
      added.tokens = random_tokens(kMaxTokens - 4);
    }
    const PrefixMatch match = cache_.match(added.tokens, added.salt);
    const int free_before = cache_.free_pages();
    const Attached attached = cache_.attach(added.tokens, added.salt, kMaxTokens);
    added.slot = attached.slot;
    added.computed = attached.hit_tokens;
    ASSERT_EQ(attached.hit_tokens, match.tokens);
    ASSERT_EQ(free_before - cache_.free_pages(), match.idle_pages);
    ASSERT_LT(attached.hit_tokens, static_cast<int>(added.tokens.size()));
    ASSERT_EQ(attached.hit_tokens % options_.page_tokens, 0);
    if (evictions_ == 0) {
      ASSERT_EQ(attached.hit_tokens, naive_hit(added));
    }
    if (options_.hash == &page_hash) {
      ASSERT_EQ(attached.hit_tokens, mirrored_hit(added));
    }
    if (attached.hit_tokens > 0) ++hits_;
    const auto table = cache_.pages(added.slot);
    for (int at = 0; at < added.computed; ++at) {
      ASSERT_EQ(memory_at(table, at), prefix(added, at + 1)) << "a wrong hit";
    }
    live_.push_back(std::move(added));
  }

  Prefix& memory_at(std::span<const PageId> table, int position) {
    const auto size = options_.page_tokens;
    auto& page =
        memory_[static_cast<std::size_t>(table[static_cast<std::size_t>(position / size)].value())];
    page.resize(static_cast<std::size_t>(size));
    return page[static_cast<std::size_t>(position % size)];
  }

  void advance(Sequence& sequence) {
    const int known = static_cast<int>(sequence.tokens.size());
    const int target = static_cast<int>(rng_.between(sequence.computed, known));
    const int missing =
        cache_.pages_for(target) - static_cast<int>(cache_.pages(sequence.slot).size());
    const bool room = missing <= cache_.free_pages();
    ASSERT_EQ(cache_.grow(sequence.slot, target), room);
    if (!room) {
      ++refusals_;
      return;
    }
    const auto table = cache_.pages(sequence.slot);
    for (int at = sequence.computed; at < target; ++at) {
      ASSERT_EQ(cache_.references(table[static_cast<std::size_t>(at / options_.page_tokens)]), 1)
          << "a shared page is written";
      memory_at(table, at) = prefix(sequence, at + 1);
    }
    sequence.computed = target;
    if (rng_.below(4) > 0) {  // sometimes commit late
      cache_.commit(sequence.slot, sequence.tokens, target);
      for (int end = options_.page_tokens; end <= target; end += options_.page_tokens) {
        committed_.insert(prefix(sequence, end));
      }
    }
    if (target == known && known < kMaxTokens) {
      sequence.tokens.push_back(rng_.below(4) == 0 ? 1 : 0);
    }
  }

  void release(std::size_t index) {
    Sequence& sequence = live_[index];
    released_.emplace_back(sequence.salt, sequence.tokens);
    cache_.release(sequence.slot);
    live_.erase(live_.begin() + static_cast<std::ptrdiff_t>(index));
  }

  void check() {
    std::map<PageId, int> references;
    for (const Sequence& sequence : live_) {
      std::set<PageId> own;
      for (const PageId page : cache_.pages(sequence.slot)) {
        ++references[page];
        ASSERT_TRUE(own.insert(page).second) << "a page twice in one table";
      }
      const auto table = cache_.pages(sequence.slot);
      for (int at = 0; at < sequence.computed; ++at) {
        ASSERT_EQ(memory_at(table, at), prefix(sequence, at + 1)) << "overwritten";
      }
    }
    for (int i = 0; i < options_.pages; ++i) {
      const auto found = references.find(PageId{i});
      ASSERT_EQ(cache_.references(PageId{i}), found == references.end() ? 0 : found->second);
    }
    ASSERT_EQ(cache_.referenced_pages(), static_cast<int>(references.size()));
    ASSERT_EQ(cache_.free_pages() + cache_.referenced_pages(), options_.pages);
    for (const PrefixEvent& event : cache_.events())
      apply(event);
    cache_.clear_events();
  }

  // The mirror holds hashes with multiplicity, since they may collide.
  void apply(const PrefixEvent& event) {
    const bool root = event.parent == root_hash(0) || event.parent == root_hash(1);
    ASSERT_TRUE(root || mirror_.count(event.parent) > 0) << "an entry without its parent";
    if (event.kind == PrefixEvent::Kind::kInsert) {
      mirror_.insert(event.hash);
    } else {
      ++evictions_;
      const auto found = mirror_.find(event.hash);
      ASSERT_NE(found, mirror_.end());
      mirror_.erase(found);
    }
  }

  KvCacheOptions options_;
  KvCache cache_;
  Rng rng_;
  std::vector<std::vector<Prefix>> memory_;  // [pages, page_tokens]
  std::vector<Sequence> live_;
  std::vector<Prefix> released_;
  std::set<Prefix> committed_;
  std::multiset<std::uint64_t> mirror_;
  int hits_ = 0;
  int refusals_ = 0;
  int evictions_ = 0;
};

std::uint64_t two_values(std::uint64_t parent, std::span<const TokenId> tokens) {
  return page_hash(parent, tokens) & 1;
}

TEST(KvCache, RandomOperationsMatchTheModelWithoutEviction) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    for (const PageHash hash : {&page_hash, &two_values}) {
      RandomKvCache random({.pages = 512, .page_tokens = 3, .record_events = true, .hash = hash},
                           seed);
      random.run(800, 20);
      EXPECT_EQ(random.evictions(), 0);
      EXPECT_GT(random.hits(), 20);
    }
  }
}

TEST(KvCache, RandomOperationsMatchTheModelUnderPressure) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    for (const PageHash hash : {&page_hash, &two_values}) {
      const int page_tokens = 1 + static_cast<int>(seed % 4);
      RandomKvCache random(
          {.pages = 30, .page_tokens = page_tokens, .record_events = true, .hash = hash}, seed);
      random.run(2000, 6);
      EXPECT_GT(random.evictions(), 20);
      EXPECT_GT(random.hits(), 20);
    }
  }
}

TEST(KvCache, RandomOperationsWithoutRoomAreRefused) {
  RandomKvCache random({.pages = 9, .page_tokens = 4, .record_events = true}, 11);
  random.run(4000, 8);
  EXPECT_GT(random.refusals(), 100);
}

}  // namespace
}  // namespace gimbal::kv
