#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"
#include "kv/page_pool.h"

namespace gimbal::kv {

// The hash of a full page: of the pages before it (`parent`; root_hash for a first page) and of its
// token ids. Engines of one process and one salt agree on it, so a mirror elsewhere can use it; it
// is a hint there, never proof of equal content.
using PageHash = std::uint64_t (*)(std::uint64_t parent, std::span<const TokenId> tokens);
[[nodiscard]] std::uint64_t page_hash(std::uint64_t parent, std::span<const TokenId> tokens);
[[nodiscard]] std::uint64_t root_hash(std::uint64_t salt);

// A change of the index, for a mirror. A parent is inserted before its children and evicted after.
struct PrefixEvent {
  enum class Kind : std::uint8_t { kInsert, kEvict };
  Kind kind = Kind::kInsert;
  std::uint64_t hash = 0;
  std::uint64_t parent = 0;  // root_hash(salt) for a first page

  bool operator==(const PrefixEvent&) const = default;
};

struct PrefixIndexOptions {
  int pages = 0;               // of the pool: page ids are in [0, pages)
  int page_tokens = 16;        // tokens a page
  PageHash hash = &page_hash;  // replaced by tests that want collisions
  bool record_events = false;  // keep PrefixEvents until they are drained
  // False: equal hashes count as equal content. For pages that hold nothing, as a simulation's:
  // less than half of the memory, and a wrong hit would harm nobody.
  bool keep_tokens = true;
};

// Which full pages hold what: a tree of cached pages. A page's identity is (its parent page, its
// token ids, the salt); there is never more than one page of one identity. The hash only finds
// candidates: a hit has the same parent page, the same salt and the same token ids, so a collision
// costs time and is never a wrong hit. Pages below a first page have its salt.
//
// Costs: find and insert O(page_tokens), the rest O(1), remove O(pages removed). Nothing allocates
// after the constructor but recorded events; memory, but for the list heads, is touched when a page
// is entered first: 28 bytes, and 8 if it is a first page or has siblings. One thread; owned by
// KvCache.
class PrefixIndex {
 public:
  // Requires: pages >= 1, page_tokens >= 1.
  explicit PrefixIndex(const PrefixIndexOptions& options);

  // The page with this identity, or kNoPage. `parent` is kNoPage for a first page.
  // Requires: tokens.size() == page_tokens; parent is kNoPage, or in the index with this salt.
  [[nodiscard]] PageId find(PageId parent, std::uint64_t salt,
                            std::span<const TokenId> tokens) const;

  // Gives `page` this identity, unless a page has it already (perhaps `page` itself). Returns the
  // page that has it now: `page` was entered if and only if it was not in the index before and is
  // what is returned. Requires: as find; the page is referenced; it has no other identity.
  PageId insert(PageId page, PageId parent, std::uint64_t salt, std::span<const TokenId> tokens);

  [[nodiscard]] bool contains(PageId page) const { return node(page).in_index; }
  // Requires: contains(page).
  [[nodiscard]] PageId parent(PageId page) const { return node(page).parent; }
  // Rises whenever the page leaves the index: a remembered (page, generation) that still holds
  // names the same content.
  [[nodiscard]] std::uint32_t generation(PageId page) const { return node(page).generation; }

  // Removes the page, and before it its descendants. Returns what left, `page` last; the span holds
  // until the next call. Requires: contains(page).
  std::span<const PageId> remove(PageId page);

  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] std::span<const PrefixEvent> events() const { return events_; }
  void clear_events() { events_.clear(); }

 private:
  struct Siblings {
    PageId next = kNoPage;
    PageId previous = kNoPage;
  };
  // What few pages have: of a first page its salt, of one of several children its siblings.
  union Aside {
    Siblings siblings = {};
    std::uint64_t salt;
  };
  static constexpr std::int32_t kNothing = -1;
  // 28 bytes, for a large cluster has tens of millions; so the hash is in two halves.
  struct Node {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    PageId parent = kNoPage;
    PageId first_child = kNoPage;
    std::int32_t aside = kNothing;  // index into asides_
    PageId next_in_bucket = kNoPage;
    std::uint32_t generation : 31 = 0;
    std::uint32_t in_index : 1 = 0;

    [[nodiscard]] std::uint64_t hash() const { return std::uint64_t{high} << 32 | low; }
  };
  static_assert(sizeof(Node) == 28);

  // Of a page that was never entered, an empty one. Requires: the pool has the page.
  [[nodiscard]] const Node& node(PageId page) const;
  [[nodiscard]] Node& node(PageId page);  // requires: it was entered before
  Node& touch(PageId page);               // makes its entries, which may be there
  [[nodiscard]] std::span<TokenId> tokens_of(PageId page);
  [[nodiscard]] std::span<const TokenId> tokens_of(PageId page) const;
  [[nodiscard]] std::uint64_t parent_hash(PageId parent, std::uint64_t salt) const;
  [[nodiscard]] std::size_t bucket(std::uint64_t hash) const;
  [[nodiscard]] bool holds(PageId page, std::span<const TokenId> tokens) const;
  [[nodiscard]] PageId find_hashed(std::uint64_t hash, PageId parent, std::uint64_t salt,
                                   std::span<const TokenId> tokens) const;
  void remove_leaf(PageId page);
  [[nodiscard]] Aside& aside(Node& node);  // makes it if there is none
  [[nodiscard]] std::uint64_t salt_of(const Node& first) const {
    return asides_[static_cast<std::size_t>(first.aside)].salt;
  }

  PrefixIndexOptions options_;
  std::vector<Node> nodes_;  // by page, as far as they were entered
  std::vector<Aside> asides_;
  std::vector<std::int32_t> unused_asides_;
  std::vector<TokenId> tokens_;  // [nodes_, page_tokens], with keep_tokens
  std::vector<PageId> buckets_;  // heads of lists; a power of two of them
  int size_ = 0;
  std::vector<PageId> removed_;
  std::vector<PrefixEvent> events_;
};

}  // namespace gimbal::kv
