#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/check.h"
#include "base/ids.h"

namespace gimbal::kv {

// "No page": the parent of a first page, an empty search result.
inline constexpr PageId kNoPage{-1};

// Which of an engine's KV pages are in use, by reference count. A page is
//   clean       nobody refers to it and nothing worth keeping is in it,
//   referenced  by one or more block tables,
//   idle        unreferenced but marked as cached: its content may be found again.
// Ids only: where the bytes of a page live is the model's matter. All calls are O(1) and none
// allocates; memory is touched when a page is used first, not before. One thread; owned by KvCache.
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

  [[nodiscard]] int references(PageId page) const {
    return touched(page) ? references_[static_cast<std::size_t>(page.value())] : 0;
  }
  [[nodiscard]] bool cached(PageId page) const {
    return touched(page) && cached_[static_cast<std::size_t>(page.value())] != 0;
  }

  [[nodiscard]] int pages() const { return pages_; }
  [[nodiscard]] int clean() const { return static_cast<int>(clean_.size()) + untouched(); }
  [[nodiscard]] int idle() const { return idle_; }
  [[nodiscard]] int referenced() const { return pages() - clean() - idle_; }

 private:
  // Whether it was allocated before. Requires: the pool has it.
  [[nodiscard]] bool touched(PageId page) const {
    GIMBAL_CHECK(page.value() >= 0 && page.value() < pages_);
    return static_cast<std::size_t>(page.value()) < references_.size();
  }
  // Requires: touched(page).
  [[nodiscard]] std::size_t index(PageId page) const;
  // Pages that were never allocated: those of the highest ids.
  [[nodiscard]] int untouched() const { return pages_ - static_cast<int>(references_.size()); }

  int pages_;
  std::vector<std::int32_t> references_;  // of pages that were allocated before
  std::vector<std::uint8_t> cached_;      // of them
  std::vector<PageId> clean_;             // of them, a stack: the page used last is taken first
  int idle_ = 0;
};

}  // namespace gimbal::kv
