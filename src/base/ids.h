#pragma once

#include <cstdint>

#include "base/strong_id.h"

namespace gimbal {

using RequestId =
    StrongId<struct RequestIdTag, std::uint64_t>;             // one generated choice; never reused
using BatchId = StrongId<struct BatchIdTag, std::uint32_t>;   // one step's batch in one engine
using PageId = StrongId<struct PageIdTag, std::int32_t>;      // one KV page of one engine
using ExpertId = StrongId<struct ExpertIdTag, std::int32_t>;  // [0, experts of a layer)
using LayerIndex = StrongId<struct LayerIndexTag, std::int32_t>;  // [0, layers)
using Rank = StrongId<struct RankTag, std::int32_t>;              // of an expert-parallel group
using EngineId = StrongId<struct EngineIdTag, std::int32_t>;      // of one process or fleet

// A vocabulary index. A plain integer, because kernels and tokenizers read arrays of it.
using TokenId = std::int32_t;

}  // namespace gimbal
