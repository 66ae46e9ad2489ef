#include "kv/prefix_index.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/check.h"
#include "base/hash.h"

namespace gimbal::kv {

std::uint64_t page_hash(std::uint64_t parent, std::span<const TokenId> tokens) {
  return hash_tokens(tokens, parent);
}

std::uint64_t root_hash(std::uint64_t salt) {
  return hash_combine(0x6b76ULL, salt);
}

PrefixIndex::PrefixIndex(const PrefixIndexOptions& options) : options_(options) {
  GIMBAL_CHECK(options.pages >= 1 && options.page_tokens >= 1 && options.hash != nullptr);
  const auto pages = static_cast<std::size_t>(options.pages);
  nodes_.reserve(pages);
  asides_.reserve(pages);
  unused_asides_.reserve(pages);
  if (options.keep_tokens) tokens_.reserve(pages * static_cast<std::size_t>(options.page_tokens));
  // Two to four pages a list when the pool is full: the heads are there from the start.
  buckets_.assign(std::bit_floor((pages + 1) / 2), kNoPage);
  removed_.reserve(pages);
}

const PrefixIndex::Node& PrefixIndex::node(PageId page) const {
  static constexpr Node kNeverEntered;
  GIMBAL_CHECK(page.value() >= 0 && page.value() < options_.pages);
  const auto i = static_cast<std::size_t>(page.value());
  return i < nodes_.size() ? nodes_[i] : kNeverEntered;
}

PrefixIndex::Node& PrefixIndex::node(PageId page) {
  const auto i = static_cast<std::size_t>(page.value());
  GIMBAL_CHECK(page.value() >= 0 && i < nodes_.size());
  return nodes_[i];
}

PrefixIndex::Node& PrefixIndex::touch(PageId page) {
  GIMBAL_CHECK(page.value() >= 0 && page.value() < options_.pages);
  const auto i = static_cast<std::size_t>(page.value());
  if (i >= nodes_.size()) {
    nodes_.resize(i + 1);
    if (options_.keep_tokens)
      tokens_.resize(nodes_.size() * static_cast<std::size_t>(options_.page_tokens));
  }
  return nodes_[i];
}

std::span<const TokenId> PrefixIndex::tokens_of(PageId page) const {
  const auto size = static_cast<std::size_t>(options_.page_tokens);
  return {tokens_.data() + static_cast<std::size_t>(page.value()) * size, size};
}

std::span<TokenId> PrefixIndex::tokens_of(PageId page) {
  const auto size = static_cast<std::size_t>(options_.page_tokens);
  return {tokens_.data() + static_cast<std::size_t>(page.value()) * size, size};
}

std::uint64_t PrefixIndex::parent_hash(PageId parent, std::uint64_t salt) const {
  if (parent == kNoPage) return root_hash(salt);
  GIMBAL_CHECK(node(parent).in_index, "the parent page has left the index");
  return node(parent).hash();
}

std::size_t PrefixIndex::bucket(std::uint64_t hash) const {
  return static_cast<std::size_t>(hash) & (buckets_.size() - 1);
}

PrefixIndex::Aside& PrefixIndex::aside(Node& node) {
  if (node.aside == kNothing) {
    if (unused_asides_.empty()) {
      unused_asides_.push_back(static_cast<std::int32_t>(asides_.size()));
      asides_.emplace_back();
    }
    node.aside = unused_asides_.back();
    unused_asides_.pop_back();
    asides_[static_cast<std::size_t>(node.aside)] = {};
  }
  return asides_[static_cast<std::size_t>(node.aside)];
}

bool PrefixIndex::holds(PageId page, std::span<const TokenId> tokens) const {
  return !options_.keep_tokens || std::ranges::equal(tokens_of(page), tokens);
}

PageId PrefixIndex::find_hashed(std::uint64_t hash, PageId parent, std::uint64_t salt,
                                std::span<const TokenId> tokens) const {
  for (PageId page = buckets_[bucket(hash)]; page != kNoPage; page = node(page).next_in_bucket) {
    const Node& candidate = node(page);
    if (candidate.hash() != hash || candidate.parent != parent) continue;
    if (parent == kNoPage && salt_of(candidate) != salt) continue;
    if (holds(page, tokens)) return page;
  }
  return kNoPage;
}

PageId PrefixIndex::find(PageId parent, std::uint64_t salt, std::span<const TokenId> tokens) const {
  GIMBAL_CHECK(tokens.size() == static_cast<std::size_t>(options_.page_tokens));
  return find_hashed(options_.hash(parent_hash(parent, salt), tokens), parent, salt, tokens);
}

PageId PrefixIndex::insert(PageId page, PageId parent, std::uint64_t salt,
                           std::span<const TokenId> tokens) {
  GIMBAL_CHECK(tokens.size() == static_cast<std::size_t>(options_.page_tokens));
  const std::uint64_t above = parent_hash(parent, salt);
  const std::uint64_t hash = options_.hash(above, tokens);
  if (const PageId known = find_hashed(hash, parent, salt, tokens); known != kNoPage) return known;

  Node& entry = touch(page);
  GIMBAL_CHECK(!entry.in_index, "the page has another identity");
  entry.low = static_cast<std::uint32_t>(hash);
  entry.high = static_cast<std::uint32_t>(hash >> 32);
  entry.parent = parent;
  entry.in_index = true;
  if (options_.keep_tokens) std::ranges::copy(tokens, tokens_of(page).begin());
  PageId& head = buckets_[bucket(hash)];
  entry.next_in_bucket = head;
  head = page;
  if (parent == kNoPage) {
    aside(entry).salt = salt;
  } else {
    Node& up = node(parent);
    if (up.first_child != kNoPage) {
      aside(entry).siblings.next = up.first_child;
      aside(node(up.first_child)).siblings.previous = page;
    }
    up.first_child = page;
  }
  ++size_;
  if (options_.record_events) events_.push_back({PrefixEvent::Kind::kInsert, hash, above});
  return page;
}

std::span<const PageId> PrefixIndex::remove(PageId page) {
  GIMBAL_CHECK(contains(page));
  removed_.clear();
  PageId leaf = page;
  while (true) {
    while (node(leaf).first_child != kNoPage)
      leaf = node(leaf).first_child;
    const PageId up = node(leaf).parent;
    remove_leaf(leaf);
    removed_.push_back(leaf);
    if (leaf == page) return removed_;
    leaf = up;
  }
}

void PrefixIndex::remove_leaf(PageId page) {
  Node& entry = node(page);
  const bool first = entry.parent == kNoPage;
  if (options_.record_events) {
    const std::uint64_t above = first ? root_hash(salt_of(entry)) : node(entry.parent).hash();
    events_.push_back({PrefixEvent::Kind::kEvict, entry.hash(), above});
  }
  PageId* link = &buckets_[bucket(entry.hash())];
  while (*link != page)
    link = &node(*link).next_in_bucket;
  *link = entry.next_in_bucket;
  if (!first) {
    const Siblings beside = entry.aside == kNothing ? Siblings{} : aside(entry).siblings;
    if (beside.next != kNoPage) aside(node(beside.next)).siblings.previous = beside.previous;
    if (beside.previous != kNoPage) {
      aside(node(beside.previous)).siblings.next = beside.next;
    } else {
      node(entry.parent).first_child = beside.next;
    }
  }
  if (entry.aside != kNothing) unused_asides_.push_back(entry.aside);
  const std::uint32_t generation = entry.generation + 1;
  entry = Node{};
  entry.generation = generation;
  --size_;
}

}  // namespace gimbal::kv
