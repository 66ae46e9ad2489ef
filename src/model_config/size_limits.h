#pragma once

// Bounds of the sizes in a config.json, which no real model comes near. With them every product of
// sizes in this program (parameters, bytes, KV bytes of a full context) fits in 63 bits.
namespace gimbal::model_config {

inline constexpr int kMaxHidden = 1 << 16;
inline constexpr int kMaxLayers = 1 << 10;
inline constexpr int kMaxHeads = 1 << 10;
inline constexpr int kMaxHeadDim = 1 << 10;
inline constexpr int kMaxVocab = 1 << 22;
inline constexpr int kMaxPositions = 1 << 27;
inline constexpr int kMaxIntermediate = 1 << 20;
inline constexpr int kMaxExperts = 1 << 12;

}  // namespace gimbal::model_config
