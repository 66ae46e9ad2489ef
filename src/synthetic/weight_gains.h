#pragma once

#include <cstdint>

#include "synthetic/fixed_point.h"

// The sizes of everything random in a model, chosen so that it behaves like a trained one where
// that matters: every sub-layer changes the residual stream noticeably, attention looks at few
// tokens, logits spread enough for the best token to stand out, and no weight may be ignored
// without changing the output. Gains are in units of 1/256: a matrix whose gain is 256 turns inputs
// of mean square 1 into outputs of mean square 1.
namespace gimbal::synthetic {

inline constexpr std::uint32_t kEmbeddingGain = 256;
inline constexpr std::uint32_t kQueryKeyGain = 320;  // attention scores deviate by about 1.6
inline constexpr std::uint32_t kValueGain = 256;
inline constexpr std::uint32_t kAttentionOutputGain = 256;
inline constexpr std::uint32_t kGateUpGain = 256;
inline constexpr std::uint32_t kDenseDownGain = 256;
inline constexpr std::uint32_t kExpertDownGain = 384;  // the weighted sum of experts is smaller
inline constexpr std::uint32_t kSharedGateGain = 384;
inline constexpr std::uint32_t kHeadGain = 768;

// One routing direction's size in an embedding row.
inline constexpr std::uint32_t kDirectionGain = 128;
// Standard deviation of the Gumbel distribution, pi / sqrt(6).
inline constexpr std::uint32_t kGumbelDeviation = 328;
// Every token has this many likely successors, each of whose logits the output head raises by
// kSuccessorLogit16 (units of 2^-16); the context decides between them.
inline constexpr int kSuccessors = 2;
inline constexpr std::int64_t kSuccessorLogit16 = std::int64_t{15} << 16;
// What the output head adds to the logits of the current topic, in units of 2^-16.
inline constexpr std::int64_t kTopicLogit16 = std::int64_t{12} << 16;

// Mean square that a sub-layer adds to the residual stream, in units of 2^-8 (about, measured).
inline constexpr std::uint64_t kAttentionEnergy = 36;
inline constexpr std::uint64_t kFeedForwardEnergy = 72;

// Norm weights: mean and deviation. Those of queries and keys take the place of kQueryKeyGain.
inline constexpr Fixed kNormMean = kOne;
inline constexpr Fixed kHeadNormMean = kOne + kOne / 4;
inline constexpr std::uint32_t kNormDeviation = 32;
inline constexpr std::uint32_t kBiasDeviation = 64;

}  // namespace gimbal::synthetic
