#include "cluster/prefix_mirror.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/check.h"
#include "base/hash.h"

namespace gimbal::cluster {
namespace {

constexpr std::size_t kWordBits = 64;

// When nine tenths of the homes are taken, the table grows by a sixteenth.
constexpr std::size_t kMostUsed = 9;
constexpr std::size_t kOfHomes = 10;
constexpr std::size_t kGrowth = 16;
constexpr std::size_t kSpareSlots = 512;  // beyond the homes

}  // namespace

PrefixMirror::PrefixMirror(int engines, int page_tokens, std::uint64_t model_salt)
    : engines_(engines),
      page_tokens_(page_tokens),
      model_salt_(model_salt),
      words_((static_cast<std::size_t>(engines) + kWordBits - 1) / kWordBits),
      pages_(static_cast<std::size_t>(engines)) {
  GIMBAL_CHECK(engines >= 1 && page_tokens >= 1);
  add_chunks(1);
}

std::span<std::uint64_t> PrefixMirror::bits(std::uint32_t holder) {
  return std::span(pool_).subspan((holder - kSeveral) * words_, words_);
}

std::span<const std::uint64_t> PrefixMirror::bits(std::uint32_t holder) const {
  return std::span(pool_).subspan((holder - kSeveral) * words_, words_);
}

std::size_t PrefixMirror::home(std::uint64_t hash) const {
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::size_t>(static_cast<Wide>(hash) * homes_ >> 64);
}

std::size_t PrefixMirror::find(std::uint64_t hash) const {
  std::size_t at = home(hash);
  while (slot(at).holder != 0 && slot(at).hash() < hash)
    ++at;
  return at;
}

bool PrefixMirror::holds(std::size_t at, std::uint64_t hash) const {
  return slot(at).holder != 0 && slot(at).hash() == hash;
}

void PrefixMirror::add_chunks(std::size_t count) {
  for (std::size_t i = 0; i < count; ++i)
    chunks_.push_back(std::make_unique<Slot[]>(kChunkSlots));
  homes_ = slots() - kSpareSlots;
}

// Where the pages would end if each were moved to its home or behind the one before.
std::size_t PrefixMirror::end_of_pages() const {
  std::size_t end = 0;
  for (std::size_t at = 0; at < slots(); ++at) {
    if (slot(at).holder != 0) end = std::max(end, home(slot(at).hash())) + 1;
  }
  return end;
}

// All pages move to the end of the longer table, and from there, in order, to their places: none of
// these is behind where the page stands then, as long as the last of them is before the end.
void PrefixMirror::grow() {
  const std::size_t before = slots();
  add_chunks(chunks_.size() / kGrowth + 1);
  // Hashes that are far from even need more room behind the homes: for one more page, and a last
  // slot that stays empty.
  while (end_of_pages() + 1 >= slots())
    chunks_.push_back(std::make_unique<Slot[]>(kChunkSlots));
  std::size_t at = slots();
  for (std::size_t from = before; from-- > 0;) {
    if (slot(from).holder != 0) slot(--at) = std::exchange(slot(from), {});
  }
  std::size_t end = 0;
  for (; at < slots(); ++at) {
    const Slot moved = std::exchange(slot(at), {});
    end = std::max(end, home(moved.hash()));
    slot(end++) = moved;
  }
}

bool PrefixMirror::open(std::size_t at) {
  std::size_t end = at;
  while (slot(end).holder != 0)
    ++end;
  if (end + 1 == slots()) return false;
  while (end > at) {  // a chunk at a time, and from one to the next
    Slot* const chunk = chunks_[end / kChunkSlots].get();
    const std::size_t first = std::max(at, end - end % kChunkSlots);
    Slot* const last = chunk + end % kChunkSlots;
    std::move_backward(last - (end - first), last, last + 1);
    end = first;
    if (end == at) break;
    slot(end) = slot(end - 1);
    --end;
  }
  return true;
}

void PrefixMirror::insert(std::uint64_t hash, std::uint32_t engine) {
  if (used_ * kOfHomes >= homes_ * kMostUsed) grow();
  std::size_t at = find(hash);
  if (!holds(at, hash)) {
    if (!open(at)) {
      grow();
      at = find(hash);
      GIMBAL_CHECK(open(at));
    }
    slot(at) = {.low = static_cast<std::uint32_t>(hash),
                .high = static_cast<std::uint32_t>(hash >> 32),
                .holder = engine + 1};
    ++used_;
    ++pages_[engine];
    return;
  }
  add_holder(slot(at), engine);
}

void PrefixMirror::add_holder(Slot& slot, std::uint32_t engine) {
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

bool PrefixMirror::is_holder(std::uint32_t holder, std::uint32_t engine) const {
  if (holder < kSeveral) return holder == engine + 1;
  return (bits(holder)[engine / kWordBits] >> (engine % kWordBits) & 1) != 0;
}

void PrefixMirror::evict(std::uint64_t hash, std::uint32_t engine) {
  const std::size_t at = find(hash);
  const std::uint32_t holder = slot(at).holder;
  if (!holds(at, hash) || !is_holder(holder, engine)) return;
  --pages_[engine];
  if (holder >= kSeveral) {
    const std::span<std::uint64_t> words = bits(holder);
    words[engine / kWordBits] &= ~(std::uint64_t{1} << (engine % kWordBits));
    if (std::ranges::any_of(words, [](std::uint64_t word) { return word != 0; })) return;
    unused_.push_back(holder - kSeveral);
  }
  remove(at);
}

// Closes the gap, so that what follows is found from its home without it.
void PrefixMirror::remove(std::size_t gap) {
  for (; slot(gap + 1).holder != 0 && home(slot(gap + 1).hash()) <= gap; ++gap)
    slot(gap) = slot(gap + 1);
  slot(gap) = {};
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
  for (std::size_t at = 0; at < slots(); ++at) {
    if (is_holder(slot(at).holder, index)) held.push_back(slot(at).hash());
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
    const std::size_t at_slot = find(hash);
    if (!holds(at_slot, hash)) return;
    const std::uint32_t holder = slot(at_slot).holder;
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
