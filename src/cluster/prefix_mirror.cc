#include "cluster/prefix_mirror.h"

#include <algorithm>
#include <bit>
#include <iterator>

#include "base/check.h"
#include "base/hash.h"

namespace gimbal::cluster {
namespace {

constexpr std::size_t kWordBits = 64;

bool empty(const std::vector<std::uint64_t>& words) {
  return std::ranges::all_of(words, [](std::uint64_t word) { return word == 0; });
}

}  // namespace

PrefixMirror::PrefixMirror(int engines, int page_tokens, std::uint64_t model_salt)
    : engines_(engines),
      page_tokens_(page_tokens),
      model_salt_(model_salt),
      words_((static_cast<std::size_t>(engines) + kWordBits - 1) / kWordBits),
      pages_(static_cast<std::size_t>(engines)) {
  GIMBAL_CHECK(engines >= 1 && page_tokens >= 1);
}

void PrefixMirror::note(EngineId engine, std::span<const kv::PrefixEvent> events) {
  GIMBAL_CHECK(engine.value() >= 0 && engine.value() < engines_);
  const auto index = static_cast<std::size_t>(engine.value());
  const std::uint64_t bit = std::uint64_t{1} << (index % kWordBits);
  for (const kv::PrefixEvent& event : events) {
    if (event.kind == kv::PrefixEvent::Kind::kInsert) {
      Words& words = holders_[event.hash];
      words.resize(words_);
      if ((words[index / kWordBits] & bit) == 0) ++pages_[index];
      words[index / kWordBits] |= bit;
      continue;
    }
    const auto found = holders_.find(event.hash);
    if (found == holders_.end() || (found->second[index / kWordBits] & bit) == 0) continue;
    found->second[index / kWordBits] &= ~bit;
    --pages_[index];
    if (empty(found->second)) holders_.erase(found);
  }
}

void PrefixMirror::forget(EngineId engine) {
  const auto index = static_cast<std::size_t>(engine.value());
  const std::uint64_t bit = std::uint64_t{1} << (index % kWordBits);
  for (auto at = holders_.begin(); at != holders_.end();) {
    at->second[index / kWordBits] &= ~bit;
    at = empty(at->second) ? holders_.erase(at) : std::next(at);
  }
  pages_[index] = 0;
}

void PrefixMirror::hits(std::span<const TokenId> prompt, std::uint64_t cache_salt,
                        std::vector<int>& tokens) const {
  tokens.assign(static_cast<std::size_t>(engines_), 0);
  alive_.assign(words_, ~std::uint64_t{0});
  const auto page = static_cast<std::size_t>(page_tokens_);
  std::uint64_t hash = kv::root_hash(hash_combine(model_salt_, cache_salt));
  for (std::size_t at = 0; at + page < prompt.size(); at += page) {
    hash = kv::page_hash(hash, prompt.subspan(at, page));
    const auto found = holders_.find(hash);
    if (found == holders_.end()) return;
    bool any = false;
    for (std::size_t word = 0; word < words_; ++word) {
      alive_[word] &= found->second[word];
      any = any || alive_[word] != 0;
      for (std::uint64_t left = alive_[word]; left != 0; left &= left - 1) {
        const auto bit = static_cast<std::size_t>(std::countr_zero(left));
        tokens[word * kWordBits + bit] += page_tokens_;
      }
    }
    if (!any) return;
  }
}

std::int64_t PrefixMirror::pages(EngineId engine) const {
  return pages_[static_cast<std::size_t>(engine.value())];
}

}  // namespace gimbal::cluster
