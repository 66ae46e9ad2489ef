#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "kv/prefix_index.h"

namespace gimbal::cluster {

// Which engines' prefix caches hold which pages, by hash: a mirror of their indexes, kept by their
// insert and evict events. A hint: the engine compares tokens when it admits a request.
//
// Costs: note O(1) an event, hits O(pages of the prompt · engines / 64). One thread; a function of
// the events in their order.
class PrefixMirror {
 public:
  // `model_salt` as in the engines' StepLoopOptions. Requires: engines >= 1, page_tokens >= 1.
  PrefixMirror(int engines, int page_tokens, std::uint64_t model_salt);

  void note(EngineId engine, std::span<const kv::PrefixEvent> events);
  // The engine's cache is lost.
  void forget(EngineId engine);

  // Tokens of the prompt that each engine would find cached: whole pages, and never the last token.
  // Overwrites `tokens` [engines].
  void hits(std::span<const TokenId> prompt, std::uint64_t cache_salt,
            std::vector<int>& tokens) const;

  [[nodiscard]] std::int64_t pages(EngineId engine) const;

 private:
  using Words = std::vector<std::uint64_t>;  // a bit an engine

  int engines_;
  int page_tokens_;
  std::uint64_t model_salt_;
  std::size_t words_;
  std::unordered_map<std::uint64_t, Words> holders_;  // by page hash
  std::vector<std::int64_t> pages_;                   // by engine
  mutable Words alive_;                               // work space of hits
};

}  // namespace gimbal::cluster
