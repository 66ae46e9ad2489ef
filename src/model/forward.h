#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "kernels/attention.h"
#include "kernels/expert_ffn.h"
#include "kernels/kernel_context.h"
#include "kernels/kv_cache.h"
#include "kernels/rope.h"
#include "model/batch_rows.h"
#include "model/kv_storage.h"
#include "model/weights.h"
#include "model_config/model_config.h"

namespace gimbal::model {

// Memory of one stage at a time, reused by all: nothing in it outlives a stage. One thread.
class StageWorkspace {
 public:
  // For batches of up to `max_rows` rows.
  StageWorkspace(const model_config::ModelConfig& config, tensor::DType dtype,
                 std::int64_t max_rows);

 private:
  friend class Model;
  tensor::DType dtype_;
  tensor::Buffer normed_;               // [rows, hidden]
  tensor::Buffer qkv_;                  // [rows, (heads + 2 kv_heads) * head_dim]
  tensor::Buffer attended_;             // [rows, heads * head_dim]
  tensor::Buffer router_logits_;        // f32 [rows, experts]
  tensor::Buffer ffn_out_;              // [rows, hidden]
  tensor::Buffer gate_logits_;          // f32 [rows, 1]
  std::vector<std::int32_t> identity_;  // 0, 1, 2, …
  kernels::AttentionWorkspace attention_;
  std::vector<kernels::ExpertRun> runs_;
  kernels::ExpertFfnWorkspace ffn_;
};

// Which rows of `input` an expert works on, and where each result goes.
struct ExpertRows {
  ExpertId expert;
  std::span<const std::int32_t> input_rows;
  std::span<const std::int32_t> output_rows;
};

struct LoadOptions {
  tensor::DType dtype = tensor::DType::kBF16;
  tensor::PageKind pages = tensor::PageKind::kHuge;
  std::int64_t max_positions = 0;  // longest sequence to come; 0: the model's own context
  std::function<void(std::uint64_t, std::uint64_t)> progress = {};
};

// A decoder-only transformer, run stage by stage over ragged rows: embed, then for each layer
// attention → router → experts, then logits. Between any two calls a batch may be put aside: all
// that it needs to go on is its BatchRows and its KV pages.
//
// The residual stream is f32; activations and weights have the execution dtype, sums are f32. Every
// row's result depends on that row and its sequence alone, bit for bit (docs/architecture.md,
// "Batch invariance").
// Immutable after loading; any number of threads may run different batches with their own
// workspaces.
class Model {
 public:
  // Errors: see load_weights and parse_model_config; and shapes that the kernels do not run.
  [[nodiscard]] static Result<std::unique_ptr<Model>> load(const std::string& model_dir,
                                                           const LoadOptions& options,
                                                           ThreadPool& pool);

  [[nodiscard]] const model_config::ModelConfig& config() const { return config_; }
  [[nodiscard]] tensor::DType dtype() const { return dtype_; }
  [[nodiscard]] std::int64_t max_positions() const { return rope_.max_positions(); }
  [[nodiscard]] std::int64_t weight_bytes() const {
    return static_cast<std::int64_t>(weights_.memory.size());
  }

  // Rows [first_row, first_row + tokens.size()) of the residual stream from their token ids.
  // Requires: ids in the vocabulary.
  void embed(const kernels::KernelContext& context, std::span<const TokenId> tokens,
             std::int64_t first_row, BatchRows& rows) const;

  // Stage attention: norm, QKV, rotary embedding, KV write, attention, output projection.
  // `sequences` cover all rows; rows.positions() are set.
  void attention(const kernels::KernelContext& context, LayerIndex layer,
                 std::span<const kernels::AttentionSequence> sequences, const KvStorage& kv,
                 BatchRows& rows, StageWorkspace& workspace) const;

  // Stage router: norm into rows.expert_input(), and in MoE layers the choice of experts.
  void router(const kernels::KernelContext& context, LayerIndex layer, BatchRows& rows,
              StageWorkspace& workspace) const;

  // Stage experts, at the service: each run's expert on rows of `input` [*, hidden] into rows of
  // `output` [*, hidden]. Reads the weights of the experts named, once each.
  void run_experts(const kernels::KernelContext& context, LayerIndex layer,
                   std::span<const ExpertRows> runs, tensor::ConstMatrixView input,
                   tensor::MatrixView output, StageWorkspace& workspace) const;

  // Stage experts, at the source: adds what the experts returned (rows.expert_outputs(), summed in
  // expert-id order) and the shared expert; in dense layers, the feed-forward network.
  void combine(const kernels::KernelContext& context, LayerIndex layer, BatchRows& rows,
               StageWorkspace& workspace) const;

  // Logits, f32 [rows.size(), vocab], of the given rows of a batch that has passed all layers.
  // Requires: at most the workspace's rows at once.
  void logits(const kernels::KernelContext& context, std::span<const std::int32_t> which,
              BatchRows& rows, StageWorkspace& workspace, tensor::MatrixView out) const;

 private:
  Model(model_config::ModelConfig config, tensor::DType dtype, ModelWeights weights,
        std::int64_t max_positions);

  void run_ffn(const kernels::KernelContext& context, const kernels::ExpertWeights& weights,
               tensor::ConstMatrixView input, tensor::MatrixView output,
               StageWorkspace& workspace) const;

  model_config::ModelConfig config_;
  tensor::DType dtype_;
  ModelWeights weights_;
  kernels::RopeTable rope_;
};

}  // namespace gimbal::model
