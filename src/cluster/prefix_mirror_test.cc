#include "cluster/prefix_mirror.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <span>
#include <vector>

#include "base/hash.h"
#include "base/random.h"
#include "kv/kv_cache.h"

namespace gimbal::cluster {
namespace {

constexpr int kPageTokens = 4;
constexpr std::uint64_t kModelSalt = 77;

// What caches of several engines say of a prompt, the mirror says too.
TEST(PrefixMirrorTest, FollowsTheCachesOfItsEngines) {
  constexpr int kEngines = 70;  // more than a word's bits
  Rng rng(5);
  PrefixMirror mirror(kEngines, kPageTokens, kModelSalt);
  std::vector<std::unique_ptr<kv::KvCache>> caches;
  for (int i = 0; i < kEngines; ++i) {
    caches.push_back(std::make_unique<kv::KvCache>(
        kv::KvCacheOptions{.pages = 12, .page_tokens = kPageTokens, .record_events = true}));
  }
  const auto random_prompt = [&rng] {
    std::vector<TokenId> prompt(1 + rng.below(20));
    for (TokenId& token : prompt)
      token = static_cast<TokenId>(rng.below(2));
    return prompt;
  };
  std::vector<int> hits;
  int found = 0;
  for (int round = 0; round < 3000; ++round) {
    const auto engine = static_cast<std::size_t>(rng.below(6) == 0 ? kEngines - 1 : rng.below(3));
    kv::KvCache& cache = *caches[engine];
    const auto prompt = random_prompt();
    const std::uint64_t salt = rng.below(2);
    const std::uint64_t salted = hash_combine(kModelSalt, salt);
    const auto size = static_cast<int>(prompt.size());
    const auto attached = cache.attach(prompt, salted, size);
    ASSERT_TRUE(cache.grow(attached.slot, size));
    cache.commit(attached.slot, prompt, size);
    cache.release(attached.slot);
    mirror.note(EngineId{static_cast<EngineId::rep>(engine)}, cache.events());
    cache.clear_events();

    const auto asked = random_prompt();
    mirror.hits(asked, salt, hits);
    ASSERT_EQ(hits.size(), static_cast<std::size_t>(kEngines));
    for (std::size_t i = 0; i < caches.size(); ++i) {
      ASSERT_EQ(hits[i], caches[i]->match(asked, salted).tokens) << round << " " << i;
      found += hits[i] > 0 ? 1 : 0;
    }
  }
  EXPECT_GT(found, 1000);
}

// Evicting tells whether the mirror had the page: pages() falls.
void check_against_a_set(std::uint64_t (*hash_of)(std::uint64_t), std::uint64_t names) {
  constexpr std::uint64_t kEngines = 3;
  Rng rng(11);
  PrefixMirror mirror(kEngines, kPageTokens, kModelSalt);
  std::vector<std::set<std::uint64_t>> held(kEngines);
  for (int round = 0; round < 60'000; ++round) {
    const std::uint64_t hash = hash_of(rng.below(names));
    const auto index = static_cast<std::size_t>(rng.below(kEngines));
    const EngineId engine{static_cast<EngineId::rep>(index)};
    // More and more pages, then fewer and fewer.
    const bool insert = rng.below(10) < (round < 40'000 ? 8U : 2U);
    using Kind = kv::PrefixEvent::Kind;
    const kv::PrefixEvent event{.kind = insert ? Kind::kInsert : Kind::kEvict, .hash = hash};
    mirror.note(engine, std::span(&event, 1));
    insert ? void(held[index].insert(hash)) : void(held[index].erase(hash));
    ASSERT_EQ(mirror.pages(engine), static_cast<std::int64_t>(held[index].size())) << round;
  }
  mirror.forget(EngineId{0});
  held[0].clear();
  for (std::size_t i = 0; i < kEngines; ++i) {
    const EngineId engine{static_cast<EngineId::rep>(i)};
    for (const std::uint64_t hash : held[i]) {
      const kv::PrefixEvent event{.kind = kv::PrefixEvent::Kind::kEvict, .hash = hash};
      mirror.note(engine, std::span(&event, 1));
    }
    ASSERT_EQ(mirror.pages(engine), 0);
  }
}

TEST(PrefixMirrorTest, HoldsWhatWasInsertedWhileItGrowsAndShrinks) {
  check_against_a_set([](std::uint64_t name) { return mix64(name); }, 30'000);
}

// Hashes that all have one home, the first or the last: slow, and still right.
TEST(PrefixMirrorTest, HashesThatAreFarFromEvenAreHeldToo) {
  check_against_a_set([](std::uint64_t name) { return name; }, 6'000);
  check_against_a_set([](std::uint64_t name) { return ~name; }, 6'000);
}

TEST(PrefixMirrorTest, ForgetsAnEngine) {
  PrefixMirror mirror(2, kPageTokens, kModelSalt);
  const std::vector<TokenId> prompt{1, 2, 3, 4, 5};
  const std::uint64_t root = kv::root_hash(hash_combine(kModelSalt, 0));
  const std::vector<kv::PrefixEvent> events{
      {.hash = kv::page_hash(root, std::span(prompt).first(4)), .parent = root}};
  mirror.note(EngineId{0}, events);
  mirror.note(EngineId{1}, events);
  mirror.note(EngineId{1}, events);  // twice changes nothing
  EXPECT_EQ(mirror.pages(EngineId{1}), 1);
  std::vector<int> hits;
  mirror.hits(prompt, 0, hits);
  EXPECT_EQ(hits, (std::vector{4, 4}));
  mirror.forget(EngineId{1});
  mirror.hits(prompt, 0, hits);
  EXPECT_EQ(hits, (std::vector{4, 0}));
  EXPECT_EQ(mirror.pages(EngineId{1}), 0);
  mirror.hits(std::span(prompt).first(4), 0, hits);  // the last token is never a hit
  EXPECT_EQ(hits, (std::vector{0, 0}));
}

}  // namespace
}  // namespace gimbal::cluster
