#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/ids.h"

namespace gimbal::kv {

// "No page": the parent of a first page, an empty search result.
inline constexpr PageId kNoPage{-1};

// Which of an engine's KV pages are in use, by reference count. A page is
//   clean       nobody refers to it and nothing worth keeping is in it,
//   referenced  by one or more block tables,
//   idle        unreferenced but marked as cached: its content may be found again.
// Ids only: where the bytes of a page live is the model's matter. All calls are O(1) and none
// allocates. One thread; owned by KvCache.
class PagePool {
 public:
  // Requires: pages >= 1.
  explicit PagePool(int pages);

  // Takes a clean page, with one reference; nullopt when there is none (idle pages are not taken).
  [[nodiscard]] std::optional<PageId> allocate();
  // Adds a reference. Requires: the page is referenced or idle.
  void share(PageId page);
  // Takes one reference back. The last one makes the page idle if it is cached, else clean.
  // Requires: the page is referenced (anything else is a double free and aborts).
  void release(PageId page);

  // Marks a referenced page as worth keeping. Requires: referenced, not cached.
  void set_cached(PageId page);
  // Takes the mark back; an idle page becomes clean. Requires: cached.
  void clear_cached(PageId page);

  [[nodiscard]] int references(PageId page) const { return references_[index(page)]; }
  [[nodiscard]] bool cached(PageId page) const { return cached_[index(page)] != 0; }

  [[nodiscard]] int pages() const { return static_cast<int>(references_.size()); }
  [[nodiscard]] int clean() const { return static_cast<int>(clean_.size()); }
  [[nodiscard]] int idle() const { return idle_; }
  [[nodiscard]] int referenced() const { return pages() - clean() - idle_; }

 private:
  [[nodiscard]] std::size_t index(PageId page) const;

  std::vector<std::int32_t> references_;
  std::vector<std::uint8_t> cached_;
  std::vector<PageId> clean_;  // a stack: the page used last is taken first
  int idle_ = 0;
};

}  // namespace gimbal::kv
