#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/ids.h"
#include "kv/prefix_index.h"

namespace gimbal::cluster {

// Which engines' prefix caches hold which pages, by hash: a mirror of their indexes, kept by their
// insert and evict events. A hint: the engine compares tokens when it admits a request.
//
// Costs: note O(1) an event on average, hits O(pages of the prompt · engines / 64); 13 to 14 bytes
// a page. One thread; a function of the events in their order.
class PrefixMirror {
 public:
  // `model_salt` as in the engines' StepLoopOptions. Requires: engines >= 1, page_tokens >= 1.
  PrefixMirror(int engines, int page_tokens, std::uint64_t model_salt);

  void note(EngineId engine, std::span<const kv::PrefixEvent> events);
  // The engine's cache is lost.
  void forget(EngineId engine);

  // Tokens of the prompt that each engine would find cached: whole pages, and never the last token.
  // Overwrites `tokens` [engines].
  void hits(std::span<const TokenId> prompt, std::uint64_t cache_salt,
            std::vector<int>& tokens) const;

  [[nodiscard]] std::int64_t pages(EngineId engine) const;

 private:
  // Who holds a page. Most pages are held by one engine; bits of several stand in a pool.
  // 12 bytes, for a large cluster has tens of millions; so the hash is in two halves.
  struct Slot {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    std::uint32_t holder = 0;  // 0: no page here; engine + 1; or kSeveral + index into the pool

    [[nodiscard]] std::uint64_t hash() const { return std::uint64_t{high} << 32 | low; }
  };
  static constexpr std::uint32_t kSeveral = std::uint32_t{1} << 31;
  static constexpr std::size_t kChunkSlots = 4096;

  [[nodiscard]] std::size_t slots() const { return chunks_.size() * kChunkSlots; }
  [[nodiscard]] Slot& slot(std::size_t at) { return chunks_[at / kChunkSlots][at % kChunkSlots]; }
  [[nodiscard]] const Slot& slot(std::size_t at) const {
    return chunks_[at / kChunkSlots][at % kChunkSlots];
  }
  [[nodiscard]] std::size_t home(std::uint64_t hash) const;
  // The page's slot, or the one where it would stand: empty, or of the next page.
  [[nodiscard]] std::size_t find(std::uint64_t hash) const;
  [[nodiscard]] bool holds(std::size_t slot, std::uint64_t hash) const;
  void insert(std::uint64_t hash, std::uint32_t engine);
  void add_holder(Slot& slot, std::uint32_t engine);
  void evict(std::uint64_t hash, std::uint32_t engine);
  // Makes room at the slot, by moving what follows up. False: the last slot would be taken.
  [[nodiscard]] bool open(std::size_t slot);
  void remove(std::size_t slot);
  void grow();
  void add_chunks(std::size_t count);
  [[nodiscard]] std::size_t end_of_pages() const;
  [[nodiscard]] bool is_holder(std::uint32_t holder, std::uint32_t engine) const;
  [[nodiscard]] std::span<std::uint64_t> bits(std::uint32_t holder);
  [[nodiscard]] std::span<const std::uint64_t> bits(std::uint32_t holder) const;

  int engines_;
  int page_tokens_;
  std::uint64_t model_salt_;
  std::size_t words_;  // of a set of engines, a bit each
  // Linear probing, where pages stand in order of their hashes: a home is a hash's share of the
  // homes. So the table grows by any number of slots, and in place, as all pages move up. Nothing
  // wraps around: homes end before the slots do, and the last slot stays empty.
  std::vector<std::unique_ptr<Slot[]>> chunks_;
  std::size_t homes_ = 0;
  std::size_t used_ = 0;                      // slots with a page
  std::vector<std::uint64_t> pool_;           // [sets, words]
  std::vector<std::uint32_t> unused_;         // sets of the pool
  std::vector<std::int64_t> pages_;           // by engine
  mutable std::vector<std::uint64_t> alive_;  // work space of hits
};

}  // namespace gimbal::cluster
