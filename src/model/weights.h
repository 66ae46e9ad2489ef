#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "kernels/expert_ffn.h"
#include "kernels/packed_matrix.h"
#include "model/blueprint.h"
#include "model_config/model_config.h"
#include "tensor/buffer.h"
#include "tensor/matrix_view.h"

namespace gimbal::model {

// The weights of one decoder layer, ready for the kernels. Views into ModelWeights' memory.
struct LayerWeights {
  std::span<const float> input_norm;
  kernels::PackedMatrixView qkv;    // q, k and v rows one after the other
  std::span<const float> qkv_bias;  // empty: none
  std::span<const float> q_norm;    // empty: none
  std::span<const float> k_norm;
  kernels::PackedMatrixView o;
  std::span<const float> o_bias;  // empty: none
  std::span<const float> post_attention_norm;
  std::optional<kernels::ExpertWeights> dense;      // dense layers
  std::optional<kernels::PackedMatrixView> router;  // MoE layers
  std::vector<kernels::ExpertWeights> experts;      // by expert id
  std::optional<kernels::ExpertWeights> shared_expert;
  std::optional<kernels::PackedMatrixView> shared_expert_gate;
};

// All weights of a model, packed in one piece of memory (huge pages where there are some).
// Immutable once loaded; any thread. Move-only.
struct ModelWeights {
  tensor::ConstMatrixView embedding;  // [vocab, hidden], row-major
  std::vector<LayerWeights> layers;
  std::span<const float> final_norm;
  kernels::PackedMatrixView lm_head;  // a packed copy of the embedding where they are tied
  tensor::Buffer memory;
};

struct LoadWeightsOptions {
  tensor::DType dtype = tensor::DType::kBF16;  // of execution: kBF16 or kF32
  tensor::PageKind pages = tensor::PageKind::kHuge;
  // Called on the calling thread now and then with bytes read so far and in all.
  std::function<void(std::uint64_t, std::uint64_t)> progress = {};
};

// Reads the checkpoint in `model_dir` and packs it on all of the pool's workers. Peak memory is the
// packed weights and a megabyte a worker.
// Errors: a tensor that is missing, has another shape than the config implies, or cannot be read.
[[nodiscard]] Result<ModelWeights> load_weights(const std::string& model_dir,
                                                const model_config::ModelConfig& config,
                                                const Blueprint& blueprint,
                                                const LoadWeightsOptions& options,
                                                ThreadPool& pool);

}  // namespace gimbal::model
