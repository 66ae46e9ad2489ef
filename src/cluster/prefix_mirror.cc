#include "cluster/prefix_mirror.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "base/hash.h"

namespace gimbal::cluster {
namespace {

constexpr std::size_t kWordBits = 64;

constexpr std::size_t kFirstSlots = 1024;

}  // namespace

PrefixMirror::PrefixMirror(int engines, int page_tokens, std::uint64_t model_salt)
    : engines_(engines),
      page_tokens_(page_tokens),
      model_salt_(model_salt),
      words_((static_cast<std::size_t>(engines) + kWordBits - 1) / kWordBits),
      slots_(kFirstSlots),
      pages_(static_cast<std::size_t>(engines)) {
  GIMBAL_CHECK(engines >= 1 && page_tokens >= 1);
}

std::span<std::uint64_t> PrefixMirror::bits(std::uint32_t holder) {
  return std::span(pool_).subspan((holder - kSeveral) * words_, words_);
}

std::span<const std::uint64_t> PrefixMirror::bits(std::uint32_t holder) const {
  return std::span(pool_).subspan((holder - kSeveral) * words_, words_);
}

std::size_t PrefixMirror::find(std::uint64_t hash) const {
  std::size_t at = home(hash);
  while (slots_[at].holder != 0 && slots_[at].hash() != hash)
    at = (at + 1) & (slots_.size() - 1);
  return at;
}

void PrefixMirror::grow() {
  std::vector<Slot> old(slots_.size() * 2);
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.holder != 0) slots_[find(slot.hash())] = slot;
  }
}

void PrefixMirror::insert(std::uint64_t hash, std::uint32_t engine) {
  if (used_ * 4 >= slots_.size() * 3) grow();
  Slot& slot = slots_[find(hash)];
  if (slot.holder == 0) {
    slot = {.low = static_cast<std::uint32_t>(hash),
            .high = static_cast<std::uint32_t>(hash >> 32),
            .holder = engine + 1};
    ++used_;
    ++pages_[engine];
    return;
  }
  if (slot.holder == engine + 1) return;
  if (slot.holder < kSeveral) {
    const std::uint32_t first = slot.holder - 1;
    if (unused_.empty()) {
      unused_.push_back(static_cast<std::uint32_t>(pool_.size() / words_));
      pool_.resize(pool_.size() + words_);
    }
    slot.holder = kSeveral + unused_.back();
    unused_.pop_back();
    bits(slot.holder)[first / kWordBits] |= std::uint64_t{1} << (first % kWordBits);
  }
  std::uint64_t& word = bits(slot.holder)[engine / kWordBits];
  const std::uint64_t bit = std::uint64_t{1} << (engine % kWordBits);
  pages_[engine] += (word & bit) == 0 ? 1 : 0;
  word |= bit;
}

void PrefixMirror::evict(std::uint64_t hash, std::uint32_t engine) {
  const std::size_t at = find(hash);
  const std::uint32_t holder = slots_[at].holder;
  if (holder == 0) return;
  if (holder < kSeveral) {
    if (holder != engine + 1) return;
    --pages_[engine];
    return remove(at);
  }
  const std::span<std::uint64_t> words = bits(holder);
  const std::uint64_t bit = std::uint64_t{1} << (engine % kWordBits);
  if ((words[engine / kWordBits] & bit) == 0) return;
  words[engine / kWordBits] &= ~bit;
  --pages_[engine];
  if (std::ranges::any_of(words, [](std::uint64_t word) { return word != 0; })) return;
  unused_.push_back(holder - kSeveral);
  remove(at);
}

// Closes the gap, so that what follows is found from its home without it.
void PrefixMirror::remove(std::size_t slot) {
  const std::size_t mask = slots_.size() - 1;
  std::size_t gap = slot;
  for (std::size_t at = (gap + 1) & mask; slots_[at].holder != 0; at = (at + 1) & mask) {
    if (((at - home(slots_[at].hash())) & mask) < ((at - gap) & mask)) continue;
    slots_[gap] = slots_[at];
    gap = at;
  }
  slots_[gap] = {};
  --used_;
}

void PrefixMirror::note(EngineId engine, std::span<const kv::PrefixEvent> events) {
  GIMBAL_CHECK(engine.value() >= 0 && engine.value() < engines_);
  const auto index = static_cast<std::uint32_t>(engine.value());
  for (const kv::PrefixEvent& event : events) {
    if (event.kind == kv::PrefixEvent::Kind::kInsert) {
      insert(event.hash, index);
    } else {
      evict(event.hash, index);
    }
  }
}

void PrefixMirror::forget(EngineId engine) {
  const auto index = static_cast<std::uint32_t>(engine.value());
  std::vector<std::uint64_t> held;
  for (const Slot& slot : slots_) {
    if (slot.holder != 0) held.push_back(slot.hash());
  }
  for (const std::uint64_t hash : held)
    evict(hash, index);
}

void PrefixMirror::hits(std::span<const TokenId> prompt, std::uint64_t cache_salt,
                        std::vector<int>& tokens) const {
  tokens.assign(static_cast<std::size_t>(engines_), 0);
  alive_.assign(words_, ~std::uint64_t{0});
  const auto page = static_cast<std::size_t>(page_tokens_);
  std::uint64_t hash = kv::root_hash(hash_combine(model_salt_, cache_salt));
  for (std::size_t at = 0; at + page < prompt.size(); at += page) {
    hash = kv::page_hash(hash, prompt.subspan(at, page));
    const std::uint32_t holder = slots_[find(hash)].holder;
    if (holder == 0) return;
    bool any = false;
    for (std::size_t word = 0; word < words_; ++word) {
      if (holder >= kSeveral) {
        alive_[word] &= bits(holder)[word];
      } else {
        const bool here = (holder - 1) / kWordBits == word;
        alive_[word] &= here ? std::uint64_t{1} << ((holder - 1) % kWordBits) : 0;
      }
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
