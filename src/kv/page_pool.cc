#include "kv/page_pool.h"

namespace gimbal::kv {

PagePool::PagePool(int pages) : pages_(pages) {
  GIMBAL_CHECK(pages >= 1);
  const auto count = static_cast<std::size_t>(pages);
  references_.reserve(count);
  cached_.reserve(count);
  clean_.reserve(count);
}

std::size_t PagePool::index(PageId page) const {
  GIMBAL_CHECK(touched(page), "a page that was never allocated");
  return static_cast<std::size_t>(page.value());
}

std::optional<PageId> PagePool::allocate() {
  if (clean_.empty()) {
    if (untouched() == 0) return std::nullopt;
    const PageId page{static_cast<PageId::rep>(references_.size())};
    references_.push_back(1);
    cached_.push_back(0);
    return page;
  }
  const PageId page = clean_.back();
  clean_.pop_back();
  references_[index(page)] = 1;
  return page;
}

void PagePool::share(PageId page) {
  const std::size_t i = index(page);
  GIMBAL_CHECK(references_[i] > 0 || cached_[i] != 0, "a clean page cannot be shared");
  if (references_[i]++ == 0) --idle_;
}

void PagePool::release(PageId page) {
  const std::size_t i = index(page);
  GIMBAL_CHECK(references_[i] > 0, "page released twice");
  if (--references_[i] > 0) return;
  if (cached_[i] != 0) {
    ++idle_;
  } else {
    clean_.push_back(page);
  }
}

void PagePool::set_cached(PageId page) {
  const std::size_t i = index(page);
  GIMBAL_CHECK(references_[i] > 0 && cached_[i] == 0);
  cached_[i] = 1;
}

void PagePool::clear_cached(PageId page) {
  const std::size_t i = index(page);
  GIMBAL_CHECK(cached_[i] != 0);
  cached_[i] = 0;
  if (references_[i] == 0) {
    --idle_;
    clean_.push_back(page);
  }
}

}  // namespace gimbal::kv
