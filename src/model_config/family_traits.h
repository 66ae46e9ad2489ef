#pragma once

#include <span>
#include <string_view>

#include "model_config/model_config.h"

namespace gimbal::model_config {

// What sets one family apart, and what transformers 5.x assumes where its config.json is silent.
struct FamilyTraits {
  Family family;
  std::string_view model_type;
  std::string_view architecture;
  bool has_experts;        // the family can have MoE layers
  bool has_dense_layers;   // the family can have dense layers
  bool attention_bias;     // reads attention_bias: q, k, v and o
  bool qkv_bias;           // reads qkv_bias: q, k and v; on by default
  bool always_norm_topk;   // renormalises without being asked
  bool reads_layer_types;  // layer_types may name sliding layers
  QkNorm qk_norm;

  // Defaults.
  int vocab_size;
  int hidden_size;
  int intermediate_size;
  int layers;
  int heads;
  int kv_heads;  // 0: as many as heads
  int head_dim;  // 0: hidden_size / heads
  int max_positions;
  double rms_eps;
  double theta;
  int experts;
  int experts_per_token;
  int moe_intermediate;     // 0: intermediate_size is of an expert
  int shared_intermediate;  // 0: no shared expert
  int eos;                  // -1: none, as for the next two
  int bos;
  int pad;
};

[[nodiscard]] std::span<const FamilyTraits> all_families();
[[nodiscard]] const FamilyTraits& traits_of(Family family);

}  // namespace gimbal::model_config
