#include "model/forward.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "kernels/combine.h"
#include "kernels/embedding.h"
#include "kernels/matmul.h"
#include "kernels/qk_norm_rope.h"
#include "kernels/rms_norm.h"
#include "kernels/router.h"
#include "model/architectures/architectures.h"

namespace gimbal::model {
namespace {

using kernels::KernelContext;
using model_config::ModelConfig;
using tensor::ConstMatrixView;
using tensor::DType;
using tensor::MatrixView;

// Elements from row to row: a cache line more than large powers of two, so that rows which are read
// together do not share sets of a cache.
std::int64_t stride_of(std::int64_t cols, DType dtype) {
  const auto size = static_cast<std::int64_t>(tensor::size_of(dtype));
  return cols * size % 1024 == 0 ? cols + 64 / size : cols;
}

tensor::Buffer reserve(std::int64_t rows, std::int64_t cols, DType dtype) {
  const auto elements = static_cast<std::size_t>(rows * stride_of(cols, dtype));
  return tensor::Buffer(elements * tensor::size_of(dtype), tensor::PageKind::kSmall);
}

MatrixView view(const tensor::Buffer& buffer, DType dtype, std::int64_t rows, std::int64_t cols) {
  return {buffer.data(), dtype, rows, cols, stride_of(cols, dtype)};
}

kernels::RopeParameters rope_parameters(const ModelConfig& config) {
  const model_config::RopeConfig& rope = config.rope;
  const auto kind = [&] {
    switch (rope.kind) {
      case model_config::RopeKind::kDefault:
        return kernels::RopeKind::kDefault;
      case model_config::RopeKind::kLinear:
        return kernels::RopeKind::kLinear;
      case model_config::RopeKind::kLlama3:
        return kernels::RopeKind::kLlama3;
      case model_config::RopeKind::kYarn:
        return kernels::RopeKind::kYarn;
    }
    return kernels::RopeKind::kDefault;
  }();
  return {.kind = kind,
          .rope_theta = rope.theta,
          .rotary_dim = config.head_dim,
          .factor = rope.factor,
          .original_max_position_embeddings = static_cast<double>(rope.original_max_positions),
          .low_freq_factor = rope.low_freq_factor,
          .high_freq_factor = rope.high_freq_factor,
          .beta_fast = rope.beta_fast,
          .beta_slow = rope.beta_slow,
          .attention_factor = rope.attention_factor,
          .truncate = rope.truncate};
}

kernels::QkNorm qk_norm_of(const ModelConfig& config) {
  switch (config.qk_norm) {
    case model_config::QkNorm::kNone:
      return kernels::QkNorm::kNone;
    case model_config::QkNorm::kPerHead:
      return kernels::QkNorm::kPerHead;
    case model_config::QkNorm::kWholeProjection:
      return kernels::QkNorm::kWholeProjection;
  }
  return kernels::QkNorm::kNone;
}

std::int64_t largest_intermediate(const ModelConfig& config) {
  return std::max({config.dense_intermediate, config.moe_intermediate, config.shared_intermediate});
}

// What the config allows but the kernels do not run. `max_positions` is what will be addressed.
Result<void> check_shapes(const ModelConfig& config, std::int64_t max_positions) {
  constexpr std::int64_t kMostPositions = (std::int64_t{1} << 24) - 1;
  if (max_positions > kMostPositions) {
    return unsupported(fmt::format("max_position_embeddings must be at most {} or cut by a shorter "
                                   "max_model_len, is {}",
                                   kMostPositions, max_positions),
                       "max_position_embeddings");
  }
  if (config.heads / config.kv_heads > kernels::kMaxHeadsPerKvHead) {
    return unsupported(
        fmt::format(
            "num_attention_heads must be at most {} for each of the {} key-value heads, is {}",
            kernels::kMaxHeadsPerKvHead, config.kv_heads, config.heads),
        "num_attention_heads");
  }
  if (config.head_dim % kernels::kPageTokens != 0 || config.head_dim > kernels::kMaxHeadDim) {
    return unsupported(fmt::format("head_dim must be a multiple of {} and at most {}, is {}",
                                   kernels::kPageTokens, kernels::kMaxHeadDim, config.head_dim),
                       "head_dim");
  }
  return {};
}

}  // namespace

StageWorkspace::StageWorkspace(const ModelConfig& config, DType dtype, std::int64_t max_rows)
    : dtype_(dtype),
      normed_(reserve(max_rows, config.hidden_size, dtype)),
      qkv_(reserve(max_rows, config.q_size() + 2 * config.kv_size(), dtype)),
      attended_(reserve(max_rows, config.q_size(), dtype)),
      router_logits_(reserve(max_rows, config.experts, DType::kF32)),
      ffn_out_(reserve(max_rows, config.hidden_size, dtype)),
      gate_logits_(reserve(max_rows, 1, DType::kF32)),
      identity_(static_cast<std::size_t>(max_rows)),
      ffn_({.dtype = dtype,
            .rows = max_rows * std::max(1, config.experts_per_token),
            .hidden = config.hidden_size,
            .intermediate = largest_intermediate(config),
            .runs = std::max(1, config.experts)}) {
  std::iota(identity_.begin(), identity_.end(), 0);
}

Model::Model(ModelConfig config, DType dtype, ModelWeights weights, std::int64_t max_positions)
    : config_(std::move(config)),
      dtype_(dtype),
      weights_(std::move(weights)),
      rope_(kernels::rope_frequencies(rope_parameters(config_)), max_positions) {}

Result<std::unique_ptr<Model>> Model::load(const std::string& model_dir, const LoadOptions& options,
                                           ThreadPool& pool) {
  GIMBAL_ASSIGN_OR_RETURN(ModelConfig config, model_config::load_model_config(model_dir));
  const std::int64_t positions =
      options.max_positions > 0 ? options.max_positions : config.context_length;
  if (auto checked = check_shapes(config, positions); !checked.ok()) {
    return checked.error().within(model_dir + "/config.json");
  }
  GIMBAL_ASSIGN_OR_RETURN(
      ModelWeights weights,
      load_weights(model_dir, config, blueprint_of(config),
                   {.dtype = options.dtype, .pages = options.pages, .progress = options.progress},
                   pool));
  return std::unique_ptr<Model>(
      new Model(std::move(config), options.dtype, std::move(weights), positions));
}

void Model::embed(const KernelContext& context, std::span<const TokenId> tokens,
                  std::int64_t first_row, BatchRows& rows) const {
  kernels::embedding(context, weights_.embedding, tokens,
                     rows.hidden().rows_at(first_row, static_cast<std::int64_t>(tokens.size())));
}

void Model::attention(const KernelContext& context, LayerIndex layer,
                      std::span<const kernels::AttentionSequence> sequences, const KvStorage& kv,
                      BatchRows& rows, StageWorkspace& workspace) const {
  const LayerWeights& weights = weights_.layers[layer.value()];
  const std::int64_t count = rows.rows();
  const std::int64_t q_cols = config_.q_size();
  const std::int64_t kv_cols = config_.kv_size();
  const MatrixView normed = view(workspace.normed_, dtype_, count, config_.hidden_size);
  const MatrixView qkv = view(workspace.qkv_, dtype_, count, q_cols + 2 * kv_cols);
  const MatrixView attended = view(workspace.attended_, dtype_, count, q_cols);

  kernels::rms_norm(context, rows.hidden(), weights.input_norm, config_.rms_eps, normed);
  kernels::matmul(context, normed, weights.qkv, qkv, {.bias = weights.qkv_bias.data()});
  kernels::qk_norm_rope(context,
                        {.shape = {.heads = config_.heads,
                                   .kv_heads = config_.kv_heads,
                                   .head_dim = config_.head_dim},
                         .norm = qk_norm_of(config_),
                         .q_weight = weights.q_norm,
                         .k_weight = weights.k_norm,
                         .epsilon = config_.rms_eps,
                         .clip = config_.clip_qkv,
                         .table = &rope_},
                        rows.positions(), qkv);
  const kernels::KvLayer cache = kv.layer(layer);
  kernels::write_kv(context, qkv.cols_at(q_cols, kv_cols), qkv.cols_at(q_cols + kv_cols, kv_cols),
                    sequences, cache);
  kernels::paged_attention(
      context,
      {.heads = config_.heads,
       .kv_heads = config_.kv_heads,
       .head_dim = config_.head_dim,
       .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.head_dim))),
       .window = config_.layers[layer.value()].sliding_window},
      qkv.cols_at(0, q_cols), sequences, cache, workspace.attention_, attended);
  kernels::matmul(context, attended, weights.o, rows.hidden(),
                  {.bias = weights.o_bias.data(), .accumulate = true});
}

void Model::router(const KernelContext& context, LayerIndex layer, BatchRows& rows,
                   StageWorkspace& workspace) const {
  const LayerWeights& weights = weights_.layers[layer.value()];
  kernels::rms_norm(context, rows.hidden(), weights.post_attention_norm, config_.rms_eps,
                    rows.expert_input());
  if (!weights.router) return;
  const MatrixView logits =
      view(workspace.router_logits_, DType::kF32, rows.rows(), config_.experts);
  kernels::matmul(context, rows.expert_input(), *weights.router, logits);
  kernels::route(context,
                 {.top_k = config_.experts_per_token, .renormalize = config_.norm_topk_prob},
                 logits, rows.expert_ids(), rows.expert_weights());
}

void Model::run_experts(const KernelContext& context, LayerIndex layer,
                        std::span<const ExpertRows> runs, ConstMatrixView input, MatrixView output,
                        StageWorkspace& workspace) const {
  const LayerWeights& weights = weights_.layers[layer.value()];
  workspace.runs_.clear();
  for (const ExpertRows& run : runs) {
    workspace.runs_.push_back({.weights = &weights.experts[run.expert.value()],
                               .input_rows = run.input_rows,
                               .output_rows = run.output_rows});
  }
  kernels::expert_ffn(context, input, workspace.runs_, output, workspace.ffn_);
}

void Model::run_ffn(const KernelContext& context, const kernels::ExpertWeights& weights,
                    ConstMatrixView input, MatrixView output, StageWorkspace& workspace) const {
  const std::span<const std::int32_t> all(workspace.identity_.data(),
                                          static_cast<std::size_t>(input.rows));
  const kernels::ExpertRun run{.weights = &weights, .input_rows = all, .output_rows = all};
  kernels::expert_ffn(context, input, {&run, 1}, output, workspace.ffn_);
}

void Model::combine(const KernelContext& context, LayerIndex layer, BatchRows& rows,
                    StageWorkspace& workspace) const {
  const LayerWeights& weights = weights_.layers[layer.value()];
  const MatrixView ffn_out = view(workspace.ffn_out_, dtype_, rows.rows(), config_.hidden_size);
  if (weights.dense) {
    run_ffn(context, *weights.dense, rows.expert_input(), ffn_out, workspace);
    kernels::add_rows(context, ffn_out, rows.hidden());
    return;
  }
  kernels::combine(context, rows.expert_weights(), rows.expert_outputs(), rows.hidden());
  if (!weights.shared_expert) return;
  run_ffn(context, *weights.shared_expert, rows.expert_input(), ffn_out, workspace);
  const MatrixView gate = view(workspace.gate_logits_, DType::kF32, rows.rows(), 1);
  kernels::matmul(context, rows.expert_input(), *weights.shared_expert_gate, gate);
  const std::span<const float> gate_logits(gate.row_as<float>(0),
                                           static_cast<std::size_t>(rows.rows()));
  kernels::combine_shared(context, gate_logits, ffn_out, rows.hidden());
}

void Model::logits(const KernelContext& context, std::span<const std::int32_t> which,
                   BatchRows& rows, StageWorkspace& workspace, MatrixView out) const {
  const auto count = static_cast<std::int64_t>(which.size());
  const MatrixView normed = view(workspace.normed_, dtype_, count, config_.hidden_size);
  for (std::int64_t i = 0; i < count; ++i) {
    kernels::rms_norm(context, rows.hidden().rows_at(which[i], 1), weights_.final_norm,
                      config_.rms_eps, normed.rows_at(i, 1));
  }
  kernels::matmul(context, normed, weights_.lm_head, out);
}

}  // namespace gimbal::model
