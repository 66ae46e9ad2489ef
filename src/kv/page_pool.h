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
// Idle pages stand in order of last use: to the back goes a page that has become idle or is
// renewed. Ids only: where the bytes of a page live is the model's matter. All calls are O(1) and
// none allocates; memory is touched when a page is used first, not before. One thread; owned by
// KvCache.
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

  // The page was used now. No effect on a referenced one. Requires: cached.
  void renew(PageId page);
  // The idle page that was used least recently; kNoPage: none is idle.
  [[nodiscard]] PageId oldest_idle() const { return page_of(oldest_); }

  [[nodiscard]] int references(PageId page) const {
    if (!touched(page)) return 0;
    const Record& record = records_[static_cast<std::size_t>(page.value())];
    return record.idle != 0 ? 0 : static_cast<int>(record.references_or_older);
  }
  [[nodiscard]] bool cached(PageId page) const {
    return touched(page) && records_[static_cast<std::size_t>(page.value())].cached != 0;
  }

  [[nodiscard]] int pages() const { return pages_; }
  [[nodiscard]] int clean() const { return static_cast<int>(clean_.size()) + untouched(); }
  [[nodiscard]] int idle() const { return idle_; }
  [[nodiscard]] int referenced() const { return pages() - clean() - idle_; }

 private:
  // A page's links in the order of last use, or kEnd. They share their place with the references,
  // for an idle page has none.
  using Link = std::uint32_t;
  static constexpr Link kEnd = (Link{1} << 31) - 1;
  struct Record {
    std::uint32_t references_or_older : 31 = 0;
    std::uint32_t cached : 1 = 0;
    std::uint32_t newer : 31 = kEnd;
    std::uint32_t idle : 1 = 0;
  };

  [[nodiscard]] static PageId page_of(Link link) {
    return link == kEnd ? kNoPage : PageId{static_cast<PageId::rep>(link)};
  }
  void push_idle(Link page);  // to the back; requires: not idle, no references
  void take_idle(Link page);  // out of the order; it then has no references; requires: idle
  // Whether it was allocated before. Requires: the pool has it.
  [[nodiscard]] bool touched(PageId page) const {
    GIMBAL_CHECK(page.value() >= 0 && page.value() < pages_);
    return static_cast<std::size_t>(page.value()) < records_.size();
  }
  // Requires: touched(page).
  [[nodiscard]] Record& record(PageId page);
  // Pages that were never allocated: those of the highest ids.
  [[nodiscard]] int untouched() const { return pages_ - static_cast<int>(records_.size()); }

  int pages_;
  std::vector<Record> records_;  // of pages that were allocated before
  std::vector<PageId> clean_;    // of them, a stack: the page used last is taken first
  Link oldest_ = kEnd;
  Link newest_ = kEnd;
  int idle_ = 0;
};

}  // namespace gimbal::kv
