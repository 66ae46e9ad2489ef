#include "kv/kv_cache.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace gimbal::kv {

KvCache::KvCache(const KvCacheOptions& options)
    : options_(options),
      pool_(options.pages),
      index_({.pages = options.pages,
              .page_tokens = options.page_tokens,
              .hash = options.hash,
              .record_events = options.record_events,
              .keep_tokens = options.keep_tokens}) {}

const KvCache::Table& KvCache::table(SequenceSlot slot) const {
  GIMBAL_CHECK(slot.value() >= 0 && static_cast<std::size_t>(slot.value()) < tables_.size());
  const Table& found = tables_[static_cast<std::size_t>(slot.value())];
  GIMBAL_CHECK(found.live, "the sequence is not attached");
  return found;
}

KvCache::Table& KvCache::table(SequenceSlot slot) {
  return const_cast<Table&>(std::as_const(*this).table(slot));
}

PageId KvCache::hit_after(PageId parent, int at, std::span<const TokenId> tokens,
                          std::uint64_t salt, int max_hit_tokens) const {
  const int limit = std::min(static_cast<int>(tokens.size()) - 1, max_hit_tokens);
  if (!options_.prefix_caching || at + options_.page_tokens > limit) return kNoPage;
  return index_.find(
      parent, salt,
      tokens.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(options_.page_tokens)));
}

PrefixMatch KvCache::match(std::span<const TokenId> tokens, std::uint64_t salt,
                           int max_hit_tokens) const {
  GIMBAL_CHECK(!tokens.empty());
  PrefixMatch match;
  PageId page = kNoPage;
  while ((page = hit_after(page, match.tokens, tokens, salt, max_hit_tokens)) != kNoPage) {
    match.tokens += options_.page_tokens;
    if (pool_.references(page) == 0) ++match.idle_pages;
  }
  return match;
}

int KvCache::pages_needed(const PrefixMatch& match, int tokens) const {
  GIMBAL_CHECK(tokens >= match.tokens);
  return pages_for(tokens) - match.tokens / options_.page_tokens + match.idle_pages;
}

Attached KvCache::attach(std::span<const TokenId> tokens, std::uint64_t salt, int max_tokens,
                         int max_hit_tokens) {
  GIMBAL_CHECK(!tokens.empty() && static_cast<std::size_t>(max_tokens) >= tokens.size());
  if (unused_.empty()) {
    unused_.push_back(SequenceSlot{static_cast<std::int32_t>(tables_.size())});
    tables_.emplace_back();
  }
  const SequenceSlot slot = unused_.back();
  unused_.pop_back();
  Table& added = tables_[static_cast<std::size_t>(slot.value())];
  added.live = true;
  added.salt = salt;
  added.max_pages = pages_for(max_tokens);
  added.pages.reserve(static_cast<std::size_t>(added.max_pages));

  int hit = 0;
  PageId page = kNoPage;
  while ((page = hit_after(page, hit, tokens, salt, max_hit_tokens)) != kNoPage) {
    pool_.share(page);
    added.pages.push_back(page);
    added.chain_end = page;
    hit += options_.page_tokens;
  }
  if (hit > 0) added.chain_generation = index_.generation(added.chain_end);
  added.chained_pages = hit / options_.page_tokens;
  return {slot, hit};
}

PageId KvCache::take_page() {
  // Descendants of the oldest idle page are referenced: by sequences that computed an ancestor's
  // content themselves, at the same time, into a page of their own. They leave the index with it.
  if (pool_.clean() == 0) {
    const PageId oldest = pool_.oldest_idle();
    for (const PageId page : index_.remove(oldest)) {
      GIMBAL_CHECK(page == oldest || pool_.references(page) > 0,
                   "an idle descendant was used before its page");
      pool_.clear_cached(page);
      ++totals_.evicted;
    }
  }
  return *pool_.allocate();
}

bool KvCache::grow(SequenceSlot slot, int tokens) {
  Table& grown = table(slot);
  const int missing = pages_for(tokens) - static_cast<int>(grown.pages.size());
  if (missing <= 0) return true;
  GIMBAL_CHECK(pages_for(tokens) <= grown.max_pages, "more tokens than the sequence may have");
  if (missing > free_pages()) return false;
  for (int i = 0; i < missing; ++i)
    grown.pages.push_back(take_page());
  return true;
}

void KvCache::commit(SequenceSlot slot, std::span<const TokenId> tokens, int computed) {
  Table& written = table(slot);
  const int full_pages = computed / options_.page_tokens;
  if (full_pages <= written.chained_pages || !options_.prefix_caching) return;
  GIMBAL_CHECK(static_cast<std::size_t>(computed) <= tokens.size() &&
               static_cast<std::size_t>(full_pages) <= written.pages.size());
  extend_chain(written, tokens, full_pages);
}

void KvCache::extend_chain(Table& table, std::span<const TokenId> tokens, int full_pages) {
  if (table.chained_pages > 0 && index_.generation(table.chain_end) != table.chain_generation) {
    table.chained_pages = 0;  // an identity above was evicted: enter our own pages instead
    table.chain_end = kNoPage;
  }
  const auto size = static_cast<std::size_t>(options_.page_tokens);
  for (int i = table.chained_pages; i < full_pages; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const PageId page = table.pages[at];
    table.chain_end =
        index_.insert(page, table.chain_end, table.salt, tokens.subspan(at * size, size));
    if (table.chain_end == page && !pool_.cached(page)) pool_.set_cached(page);
  }
  table.chained_pages = full_pages;
  table.chain_generation = index_.generation(table.chain_end);
}

void KvCache::release(SequenceSlot slot) {
  Table& ended = table(slot);
  // Our cached pages all lie on one path of the index, since each names a prefix of our tokens.
  // From the deepest of them up, every page that is now idle was used now; among them pages that
  // other sequences computed, which keeps a page's idle descendants before it in the order.
  PageId deepest = kNoPage;
  for (const PageId page : ended.pages) {
    if (pool_.cached(page)) deepest = page;
    pool_.release(page);
    if (pool_.references(page) == 0) ++totals_.freed;
  }
  for (PageId page = deepest; page != kNoPage; page = index_.parent(page))
    pool_.renew(page);
  ended.pages.clear();
  ended.chained_pages = 0;
  ended.chain_end = kNoPage;
  ended.live = false;
  unused_.push_back(slot);
}

std::span<const PageId> KvCache::pages(SequenceSlot slot) const {
  return table(slot).pages;
}

int KvCache::exclusive_pages(SequenceSlot slot) const {
  const auto& held = table(slot).pages;
  return static_cast<int>(
      std::ranges::count_if(held, [&](PageId page) { return pool_.references(page) == 1; }));
}

}  // namespace gimbal::kv
