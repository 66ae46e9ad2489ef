#include <gtest/gtest.h>

#include <map>
#include <set>
#include <tuple>

#include "base/random.h"
#include "kv/kv_cache.h"

namespace gimbal::kv {
namespace {

using Tokens = std::vector<TokenId>;

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

TEST(KvCacheModel, RandomOperationsMatchTheModelWithoutEviction) {
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

TEST(KvCacheModel, RandomOperationsMatchTheModelUnderPressure) {
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

TEST(KvCacheModel, RandomOperationsWithoutRoomAreRefused) {
  RandomKvCache random({.pages = 9, .page_tokens = 4, .record_events = true}, 11);
  random.run(4000, 8);
  EXPECT_GT(random.refusals(), 100);
}

}  // namespace
}  // namespace gimbal::kv
