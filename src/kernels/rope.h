#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace gimbal::kernels {

enum class RopeKind { kDefault, kLinear, kLlama3, kYarn };

// What a checkpoint's rope_parameters say. Field names are those of config.json; a field matters
// only to the kinds named beside it.
struct RopeParameters {
  RopeKind kind = RopeKind::kDefault;
  double rope_theta = 10000.0;
  std::int64_t rotary_dim = 0;                    // even, <= head_dim
  double factor = 1.0;                            // linear, llama3, yarn
  double original_max_position_embeddings = 0.0;  // llama3, yarn
  double low_freq_factor = 1.0;                   // llama3
  double high_freq_factor = 4.0;                  // llama3
  double beta_fast = 32.0;                        // yarn
  double beta_slow = 1.0;                         // yarn
  std::optional<double> mscale = {};              // yarn; counts only with mscale_all_dim
  std::optional<double> mscale_all_dim = {};      // yarn
  std::optional<double> attention_factor = {};    // yarn; overrides what the others imply
  bool truncate = true;                           // yarn: round the correction range outwards
};

// The rotation of each pair of dimensions per position, and what cosines and sines are scaled by.
struct RopeFrequencies {
  std::vector<float> inverse;  // [rotary_dim / 2], radians a position
  float attention_factor = 1.0F;
};

// As Hugging Face transformers computes them (modeling_rope_utils), single precision where it is
// there. YaRN is arXiv:2309.00071. Requires: rotary_dim even and > 0, rope_theta > 0, and factors >
// 0 where used.
[[nodiscard]] RopeFrequencies rope_frequencies(const RopeParameters& parameters);

// Cosines and sines of every position, made once when a model is loaded. Immutable: any thread.
class RopeTable {
 public:
  // Requires: max_positions < 2^24, the integers that single precision holds.
  RopeTable(const RopeFrequencies& frequencies, std::int64_t max_positions);

  [[nodiscard]] std::int64_t max_positions() const { return max_positions_; }
  [[nodiscard]] std::int64_t rotary_dim() const { return 2 * half_; }
  // [rotary_dim / 2] values each. Requires: 0 <= position < max_positions().
  [[nodiscard]] const float* cos(std::int64_t position) const {
    return cos_.data() + position * half_;
  }
  [[nodiscard]] const float* sin(std::int64_t position) const {
    return sin_.data() + position * half_;
  }

 private:
  std::int64_t half_;
  std::int64_t max_positions_;
  std::vector<float> cos_;
  std::vector<float> sin_;
};

}  // namespace gimbal::kernels
