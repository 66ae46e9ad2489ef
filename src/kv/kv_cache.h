#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "base/ids.h"
#include "base/strong_id.h"
#include "kv/page_pool.h"
#include "kv/prefix_index.h"

namespace gimbal::kv {

// Names an attached sequence's block table. Reused after release.
using SequenceSlot = StrongId<struct SequenceSlotTag, std::int32_t>;

struct KvCacheOptions {
  int pages = 0;               // of the engine's pool
  int page_tokens = 16;        // tokens a page
  bool prefix_caching = true;  // false: no page is ever shared or kept
  bool record_events = false;  // keep PrefixEvents for a mirror until they are drained
  bool keep_tokens = true;     // see PrefixIndexOptions
  PageHash hash = &page_hash;  // replaced by tests that want collisions
};

// What a sequence would find in the cache.
struct PrefixMatch {
  int tokens = 0;      // whole pages, and fewer than the sequence has
  int idle_pages = 0;  // of the pages hit, those that count as free until they are attached
};

struct Attached {
  SequenceSlot slot;
  int hit_tokens = 0;  // computed already: the first row to run is at this position
};

// The logical KV cache of one engine: block tables of sequences over a pool of pages, with prefix
// sharing. Only full pages are shared and those are never written again, so nothing is copied.
//
// A sequence's life: attach → { grow → compute → commit } … → release. After an eviction it is
// attached again with all tokens that it has by then, and may find its own pages.
//
// Costs: match and attach O(pages of the sequence), release the same, grow and commit O(1) a token;
// a decode step allocates nothing. One thread: the engine's.
class KvCache {
 public:
  // Requires: pages >= 1, page_tokens >= 1.
  explicit KvCache(const KvCacheOptions& options);

  [[nodiscard]] int page_tokens() const { return options_.page_tokens; }
  [[nodiscard]] int pages_for(int tokens) const {
    return (tokens + options_.page_tokens - 1) / options_.page_tokens;
  }

  // The cached prefix of `tokens`. Never all of them: the last is always computed, for its logits.
  // Changes nothing, the order of last use neither. Requires: tokens not empty.
  [[nodiscard]] PrefixMatch match(std::span<const TokenId> tokens, std::uint64_t salt,
                                  int max_hit_tokens = std::numeric_limits<int>::max()) const;
  // How many of free_pages() it takes to attach with `match` and grow to `tokens`: admission asks
  // this. Requires: tokens >= match.tokens.
  [[nodiscard]] int pages_needed(const PrefixMatch& match, int tokens) const;

  // Makes the block table of a sequence that knows `tokens`, with its cached prefix in it, of at
  // most `max_hit_tokens` (0 for a prompt whose logprobs are wanted: all of it is computed again).
  // `salt` (model and cache_salt) keeps sequences apart that must not share. It will never cover
  // more than `max_tokens`. Always succeeds: hits need no free page but their own.
  // Requires: tokens not empty, max_tokens >= tokens.size().
  [[nodiscard]] Attached attach(std::span<const TokenId> tokens, std::uint64_t salt, int max_tokens,
                                int max_hit_tokens = std::numeric_limits<int>::max());

  // Makes the table cover positions [0, tokens). False: there are too few free pages and nothing
  // has changed. Idle pages are taken, least recently used first, when no clean page is left.
  // Requires: tokens <= max_tokens of attach. A smaller size than the table's is no change.
  [[nodiscard]] bool grow(SequenceSlot slot, int tokens);

  // Says that the KV of tokens[0, computed) is written: pages that became full can be hit from now
  // on. A page whose content another page already holds stays private to this sequence.
  // Requires: the tokens are those of attach and what followed; computed <= tokens.size() and what
  // grow covers; computed never falls.
  void commit(SequenceSlot slot, std::span<const TokenId> tokens, int computed);

  // Ends the table. Pages that can be hit stay until they are needed, its last page oldest.
  void release(SequenceSlot slot);

  // The block table. The address stays the same while the sequence lives; grow makes it longer.
  [[nodiscard]] std::span<const PageId> pages(SequenceSlot slot) const;
  // Pages that only this sequence refers to: what evicting it would free.
  [[nodiscard]] int exclusive_pages(SequenceSlot slot) const;
  // In how many tables the page is.
  [[nodiscard]] int references(PageId page) const { return pool_.references(page); }

  [[nodiscard]] int total_pages() const { return pool_.pages(); }
  [[nodiscard]] int referenced_pages() const { return pool_.referenced(); }
  // Pages that can be had: clean ones, and cached ones that nobody refers to.
  [[nodiscard]] int free_pages() const { return pool_.clean() + pool_.idle(); }
  [[nodiscard]] int idle_pages() const { return pool_.idle(); }
  // KV pressure K: referenced / total.
  [[nodiscard]] double usage() const {
    return static_cast<double>(referenced_pages()) / static_cast<double>(total_pages());
  }
  [[nodiscard]] int sequences() const { return static_cast<int>(tables_.size() - unused_.size()); }

  // Since the start.
  struct Totals {
    std::uint64_t freed = 0;    // times that a page lost its last reference
    std::uint64_t evicted = 0;  // cached pages that gave way to others
  };
  [[nodiscard]] const Totals& totals() const { return totals_; }

  // Changes of the prefix index since the last clear, with record_events.
  [[nodiscard]] std::span<const PrefixEvent> events() const { return index_.events(); }
  void clear_events() { index_.clear_events(); }

 private:
  struct Table {
    std::vector<PageId> pages;
    std::uint64_t salt = 0;
    int max_pages = 0;
    // The leading full pages whose identities are in the index, under this table's own pages or
    // under equal ones, and the last of those identities. It can be evicted under us if it is not
    // ours; its generation tells.
    int chained_pages = 0;
    PageId chain_end = kNoPage;
    std::uint32_t chain_generation = 0;
    bool live = false;
  };

  [[nodiscard]] const Table& table(SequenceSlot slot) const;
  [[nodiscard]] Table& table(SequenceSlot slot);
  // The cached page after `parent`, for the tokens from `at` on; kNoPage where the hit ends.
  [[nodiscard]] PageId hit_after(PageId parent, int at, std::span<const TokenId> tokens,
                                 std::uint64_t salt, int max_hit_tokens) const;
  [[nodiscard]] PageId take_page();  // requires: free_pages() > 0
  void extend_chain(Table& table, std::span<const TokenId> tokens, int full_pages);

  KvCacheOptions options_;
  PagePool pool_;
  PrefixIndex index_;
  std::vector<Table> tables_;  // by slot
  std::vector<SequenceSlot> unused_;
  Totals totals_;
};

}  // namespace gimbal::kv
