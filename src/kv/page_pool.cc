#include "kv/page_pool.h"

namespace gimbal::kv {

PagePool::PagePool(int pages) : pages_(pages) {
  GIMBAL_CHECK(pages >= 1);
  const auto count = static_cast<std::size_t>(pages);
  records_.reserve(count);
  clean_.reserve(count);
}

PagePool::Record& PagePool::record(PageId page) {
  GIMBAL_CHECK(touched(page), "a page that was never allocated");
  return records_[static_cast<std::size_t>(page.value())];
}

std::optional<PageId> PagePool::allocate() {
  if (clean_.empty()) {
    if (untouched() == 0) return std::nullopt;
    const PageId page{static_cast<PageId::rep>(records_.size())};
    records_.emplace_back().references_or_older = 1;
    return page;
  }
  const PageId page = clean_.back();
  clean_.pop_back();
  record(page).references_or_older = 1;
  return page;
}

void PagePool::share(PageId page) {
  Record& shared = record(page);
  if (shared.idle != 0) take_idle(static_cast<Link>(page.value()));
  GIMBAL_CHECK(shared.references_or_older > 0 || shared.cached != 0,
               "a clean page cannot be shared");
  ++shared.references_or_older;
}

void PagePool::release(PageId page) {
  Record& released = record(page);
  GIMBAL_CHECK(released.idle == 0 && released.references_or_older > 0, "page released twice");
  if (--released.references_or_older > 0) return;
  if (released.cached != 0) {
    push_idle(static_cast<Link>(page.value()));
  } else {
    clean_.push_back(page);
  }
}

void PagePool::set_cached(PageId page) {
  Record& marked = record(page);
  GIMBAL_CHECK(marked.references_or_older > 0 && marked.cached == 0);
  marked.cached = 1;
}

void PagePool::clear_cached(PageId page) {
  Record& cleared = record(page);
  GIMBAL_CHECK(cleared.cached != 0);
  cleared.cached = 0;
  if (cleared.idle == 0) return;
  take_idle(static_cast<Link>(page.value()));
  clean_.push_back(page);
}

void PagePool::renew(PageId page) {
  const Record& used = record(page);
  GIMBAL_CHECK(used.cached != 0);
  if (used.idle == 0) return;
  take_idle(static_cast<Link>(page.value()));
  push_idle(static_cast<Link>(page.value()));
}

void PagePool::push_idle(Link page) {
  Record& added = records_[page];
  added.idle = 1;
  added.references_or_older = newest_;
  added.newer = kEnd;
  if (newest_ != kEnd) {
    records_[newest_].newer = page;
  } else {
    oldest_ = page;
  }
  newest_ = page;
  ++idle_;
}

void PagePool::take_idle(Link page) {
  Record& taken = records_[page];
  const Link older = taken.references_or_older;
  const Link newer = taken.newer;
  if (older != kEnd) {
    records_[older].newer = newer;
  } else {
    oldest_ = newer;
  }
  if (newer != kEnd) {
    records_[newer].references_or_older = older;
  } else {
    newest_ = older;
  }
  taken.idle = 0;
  taken.references_or_older = 0;
  --idle_;
}

}  // namespace gimbal::kv
