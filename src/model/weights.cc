#include "model/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "base/check.h"
#include "checkpoint/weight_index.h"

namespace gimbal::model {
namespace {

using kernels::PackedMatrixView;
using kernels::PanelPlacement;
using model_config::ModelConfig;
using tensor::DType;

constexpr std::size_t kAlignment = 64;
constexpr std::int64_t kChunkBytes = 1 << 20;  // read at once: within the second-level cache

// What becomes of a tensor's rows.
enum class Form : std::uint8_t {
  kPacked,  // panels of a PackedMatrixView
  kRows,    // row-major, in the execution dtype
  kFloats,  // one f32 vector
};

// One chunk of rows of one tensor, and where it goes.
struct LoadTask {
  const checkpoint::TensorInfo* tensor = nullptr;
  DType dtype = DType::kF32;  // as stored
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  Form form = Form::kPacked;
  std::byte* target = nullptr;  // start of the whole packed matrix, table or vector
  PanelPlacement placement = {};
};

// Walks a blueprint twice: first to count the bytes of all weights, then, with memory, to make the
// views and the list of tasks that fill them.
class WeightPlan {
 public:
  WeightPlan(const checkpoint::WeightIndex& index, const ModelConfig& config, DType dtype,
             std::byte* memory)
      : index_(index), config_(config), dtype_(dtype), memory_(memory) {}

  Result<void> build(const Blueprint& blueprint, ModelWeights& weights);

  [[nodiscard]] std::size_t bytes() const { return used_; }
  [[nodiscard]] std::vector<LoadTask>& tasks() { return tasks_; }

 private:
  std::byte* take(std::size_t bytes) {
    const std::size_t at = used_;
    used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return memory_ == nullptr ? nullptr : memory_ + at;
  }

  Result<void> add(const std::string& name, std::vector<std::int64_t> shape, Form form,
                   std::byte* target, PanelPlacement placement = {});
  Result<std::span<const float>> floats(
      const std::vector<std::pair<std::string, std::int64_t>>& parts);
  Result<std::span<const float>> vector(const std::string& name, std::int64_t size) {
    return floats({{name, size}});
  }
  Result<PackedMatrixView> matrix(std::span<const ProjectionBlueprint* const> parts);
  Result<kernels::ExpertWeights> ffn(const FfnBlueprint& blueprint);
  Result<void> attention(const LayerBlueprint& blueprint, LayerWeights& layer);
  Result<void> feed_forward(const LayerBlueprint& blueprint, LayerWeights& layer);

  const checkpoint::WeightIndex& index_;
  const ModelConfig& config_;
  DType dtype_;
  std::byte* memory_;
  std::size_t used_ = 0;
  std::vector<LoadTask> tasks_;
};

Result<void> WeightPlan::add(const std::string& name, std::vector<std::int64_t> shape, Form form,
                             std::byte* target, PanelPlacement placement) {
  GIMBAL_ASSIGN_OR_RETURN(const checkpoint::TensorInfo* const tensor, index_.require(name, shape));
  if (memory_ == nullptr) return {};
  const std::int64_t rows = shape.size() == 2 ? shape[0] : 1;
  const std::int64_t cols = shape.back();
  const auto row_bytes =
      cols * static_cast<std::int64_t>(tensor::size_of(*tensor->entry.type.dtype));
  const std::int64_t panels = kChunkBytes / (row_bytes * kernels::kPanelWidth);
  const std::int64_t step = kernels::kPanelWidth * std::max<std::int64_t>(1, panels);
  for (std::int64_t row = 0; row < rows; row += step) {
    tasks_.push_back({.tensor = tensor,
                      .dtype = *tensor->entry.type.dtype,
                      .first_row = row,
                      .rows = std::min(step, rows - row),
                      .cols = cols,
                      .form = form,
                      .target = target,
                      .placement = placement});
  }
  return {};
}

// Vectors that stand one behind the other in one array.
Result<std::span<const float>> WeightPlan::floats(
    const std::vector<std::pair<std::string, std::int64_t>>& parts) {
  std::int64_t total = 0;
  for (const auto& [name, size] : parts)
    total += size;
  std::byte* const target = take(static_cast<std::size_t>(total) * sizeof(float));
  std::int64_t at = 0;
  for (const auto& [name, size] : parts) {
    std::byte* const place = target == nullptr ? nullptr : target + at * sizeof(float);
    GIMBAL_RETURN_IF_ERROR(add(name, {size}, Form::kFloats, place));
    at += size;
  }
  return std::span<const float>(reinterpret_cast<const float*>(target),
                                target == nullptr ? 0 : static_cast<std::size_t>(total));
}

// Projections of one input whose outputs stand one behind the other. All but the last must fill
// whole panels.
Result<PackedMatrixView> WeightPlan::matrix(std::span<const ProjectionBlueprint* const> parts) {
  PackedMatrixView view{.data = nullptr, .dtype = dtype_, .n = 0, .k = parts.front()->in};
  for (const ProjectionBlueprint* part : parts) {
    GIMBAL_CHECK(view.n % kernels::kPanelWidth == 0 && part->in == view.k);
    view.n += part->out;
  }
  std::byte* const target = take(kernels::packed_bytes(dtype_, view.n, view.k));
  view.data = target;
  std::int64_t row = 0;
  for (const ProjectionBlueprint* part : parts) {
    GIMBAL_RETURN_IF_ERROR(add(part->weight, {part->out, part->in}, Form::kPacked, target,
                               {.first = row / kernels::kPanelWidth, .step = 1}));
    row += part->out;
  }
  return view;
}

Result<kernels::ExpertWeights> WeightPlan::ffn(const FfnBlueprint& blueprint) {
  const std::int64_t hidden = config_.hidden_size;
  kernels::ExpertWeights weights{
      .gate_up = {.dtype = dtype_, .n = kernels::gate_up_rows(blueprint.inner), .k = hidden},
      .down = {.dtype = dtype_, .n = hidden, .k = blueprint.inner}};
  std::byte* const gate_up =
      take(kernels::packed_bytes(dtype_, weights.gate_up.n, weights.gate_up.k));
  std::byte* const down = take(kernels::packed_bytes(dtype_, weights.down.n, weights.down.k));
  weights.gate_up.data = gate_up;
  weights.down.data = down;
  GIMBAL_RETURN_IF_ERROR(add(blueprint.gate, {blueprint.inner, hidden}, Form::kPacked, gate_up,
                             {.first = 0, .step = 2}));
  GIMBAL_RETURN_IF_ERROR(add(blueprint.up, {blueprint.inner, hidden}, Form::kPacked, gate_up,
                             {.first = 1, .step = 2}));
  GIMBAL_RETURN_IF_ERROR(add(blueprint.down, {hidden, blueprint.inner}, Form::kPacked, down));
  return weights;
}

Result<void> WeightPlan::attention(const LayerBlueprint& blueprint, LayerWeights& layer) {
  GIMBAL_ASSIGN_OR_RETURN(layer.input_norm, vector(blueprint.input_norm, config_.hidden_size));
  const ProjectionBlueprint* const qkv[] = {&blueprint.q, &blueprint.k, &blueprint.v};
  GIMBAL_ASSIGN_OR_RETURN(layer.qkv, matrix(qkv));
  if (blueprint.q.bias) {
    GIMBAL_ASSIGN_OR_RETURN(layer.qkv_bias, floats({{*blueprint.q.bias, blueprint.q.out},
                                                    {*blueprint.k.bias, blueprint.k.out},
                                                    {*blueprint.v.bias, blueprint.v.out}}));
  }
  if (blueprint.q_norm) {
    const bool whole = config_.qk_norm == model_config::QkNorm::kWholeProjection;
    GIMBAL_ASSIGN_OR_RETURN(layer.q_norm,
                            vector(*blueprint.q_norm, whole ? config_.q_size() : config_.head_dim));
    GIMBAL_ASSIGN_OR_RETURN(
        layer.k_norm, vector(*blueprint.k_norm, whole ? config_.kv_size() : config_.head_dim));
  }
  const ProjectionBlueprint* const o[] = {&blueprint.o};
  GIMBAL_ASSIGN_OR_RETURN(layer.o, matrix(o));
  if (blueprint.o.bias) {
    GIMBAL_ASSIGN_OR_RETURN(layer.o_bias, vector(*blueprint.o.bias, blueprint.o.out));
  }
  GIMBAL_ASSIGN_OR_RETURN(layer.post_attention_norm,
                          vector(blueprint.post_attention_norm, config_.hidden_size));
  return {};
}

Result<void> WeightPlan::feed_forward(const LayerBlueprint& blueprint, LayerWeights& layer) {
  if (blueprint.dense) {
    GIMBAL_ASSIGN_OR_RETURN(layer.dense, ffn(*blueprint.dense));
    return {};
  }
  const ProjectionBlueprint* const router[] = {&*blueprint.router};
  GIMBAL_ASSIGN_OR_RETURN(layer.router, matrix(router));
  for (const FfnBlueprint& expert : blueprint.experts) {
    GIMBAL_ASSIGN_OR_RETURN(layer.experts.emplace_back(), ffn(expert));
  }
  if (blueprint.shared_expert) {
    GIMBAL_ASSIGN_OR_RETURN(layer.shared_expert, ffn(*blueprint.shared_expert));
    const ProjectionBlueprint* const gate[] = {&*blueprint.shared_expert_gate};
    GIMBAL_ASSIGN_OR_RETURN(layer.shared_expert_gate, matrix(gate));
  }
  return {};
}

Result<void> WeightPlan::build(const Blueprint& blueprint, ModelWeights& weights) {
  const std::int64_t vocab = config_.vocab_size;
  const std::int64_t hidden = config_.hidden_size;
  std::byte* const table = take(static_cast<std::size_t>(vocab * hidden) * tensor::size_of(dtype_));
  weights.embedding = {table, dtype_, vocab, hidden, hidden};
  GIMBAL_RETURN_IF_ERROR(add(blueprint.embedding, {vocab, hidden}, Form::kRows, table));
  for (const LayerBlueprint& layer : blueprint.layers) {
    LayerWeights& made = weights.layers.emplace_back();
    GIMBAL_RETURN_IF_ERROR(attention(layer, made));
    GIMBAL_RETURN_IF_ERROR(feed_forward(layer, made));
  }
  GIMBAL_ASSIGN_OR_RETURN(weights.final_norm, vector(blueprint.final_norm, hidden));
  const ProjectionBlueprint head{.weight = blueprint.lm_head.value_or(blueprint.embedding),
                                 .bias = {},
                                 .out = vocab,
                                 .in = hidden};
  const ProjectionBlueprint* const lm_head[] = {&head};
  GIMBAL_ASSIGN_OR_RETURN(weights.lm_head, matrix(lm_head));
  return {};
}

float element(const std::byte* data, DType dtype, std::int64_t index) {
  if (dtype == DType::kF32) {
    float value = 0;
    std::memcpy(&value, data + index * 4, 4);
    return value;
  }
  std::uint16_t bits = 0;
  std::memcpy(&bits, data + index * 2, 2);
  return dtype == DType::kBF16 ? tensor::to_float(tensor::BFloat16{bits})
                               : tensor::half_to_float(bits);
}

// Writes `count` elements to target[first...], as `to`.
void convert(const std::byte* source, DType from, std::int64_t count, DType to, std::byte* target,
             std::int64_t first) {
  const auto size = static_cast<std::int64_t>(tensor::size_of(to));
  if (from == to) {
    std::memcpy(target + first * size, source, static_cast<std::size_t>(count * size));
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const float value = element(source, from, i);
    if (to == DType::kF32) {
      std::memcpy(target + (first + i) * 4, &value, 4);
    } else {
      const tensor::BFloat16 rounded = tensor::to_bfloat16(value);
      std::memcpy(target + (first + i) * 2, &rounded, 2);
    }
  }
}

// Puts the rows that `staging` holds where the task wants them.
void place(const LoadTask& task, const std::byte* staging, DType dtype) {
  const DType from = task.dtype;
  switch (task.form) {
    case Form::kPacked: {
      const tensor::ConstMatrixView source{staging, from, task.rows, task.cols, task.cols};
      kernels::pack_rows(source, task.first_row, dtype, task.target, task.placement);
      return;
    }
    case Form::kRows:
      convert(staging, from, task.rows * task.cols, dtype, task.target, task.first_row * task.cols);
      return;
    case Form::kFloats:
      convert(staging, from, task.cols, DType::kF32, task.target, 0);
      return;
  }
}

// Runs all tasks on the pool; each worker reads into memory of its own.
Result<void> run_tasks(const checkpoint::WeightIndex& index, const std::vector<LoadTask>& tasks,
                       const LoadWeightsOptions& options, ThreadPool& pool) {
  std::uint64_t total = 0;
  std::size_t largest = 0;
  const auto bytes_of = [](const LoadTask& task) {
    return static_cast<std::size_t>(task.rows * task.cols) * tensor::size_of(task.dtype);
  };
  for (const LoadTask& task : tasks) {
    total += bytes_of(task);
    largest = std::max(largest, bytes_of(task));
  }
  std::vector<tensor::Buffer> staging(static_cast<std::size_t>(pool.workers()));
  std::atomic<std::uint64_t> done{0};
  std::atomic<bool> failed{false};
  std::vector<std::optional<Error>> errors(static_cast<std::size_t>(pool.workers()));
  pool.run(static_cast<int>(tasks.size()), [&](int number, int worker) {
    if (failed.load(std::memory_order_relaxed)) return;
    const LoadTask& task = tasks[number];
    tensor::Buffer& buffer = staging[worker];
    if (buffer.size() == 0) buffer = tensor::Buffer(largest, tensor::PageKind::kSmall);
    const std::size_t bytes = bytes_of(task);
    const std::size_t row_bytes = static_cast<std::size_t>(task.cols) * tensor::size_of(task.dtype);
    auto read = index.read(*task.tensor, static_cast<std::uint64_t>(task.first_row) * row_bytes,
                           {buffer.data(), bytes});
    if (!read.ok()) {
      errors[worker] = read.error();
      failed.store(true);
      return;
    }
    place(task, buffer.data(), options.dtype);
    const std::uint64_t sum = done.fetch_add(bytes) + bytes;
    if (worker == 0 && options.progress) options.progress(sum, total);
  });
  for (const auto& error : errors) {
    if (error) return *error;
  }
  if (options.progress) options.progress(total, total);
  return {};
}

}  // namespace

Result<ModelWeights> load_weights(const std::string& model_dir, const ModelConfig& config,
                                  const Blueprint& blueprint, const LoadWeightsOptions& options,
                                  ThreadPool& pool) {
  GIMBAL_CHECK(options.dtype != DType::kF16);
  GIMBAL_ASSIGN_OR_RETURN(const checkpoint::WeightIndex index,
                          checkpoint::WeightIndex::open(model_dir));
  WeightPlan counting(index, config, options.dtype, nullptr);
  {
    ModelWeights sizes;
    GIMBAL_RETURN_IF_ERROR(counting.build(blueprint, sizes));
  }
  ModelWeights weights;
  weights.memory = tensor::Buffer(counting.bytes(), options.pages);
  WeightPlan plan(index, config, options.dtype, weights.memory.data());
  GIMBAL_RETURN_IF_ERROR(plan.build(blueprint, weights));
  GIMBAL_RETURN_IF_ERROR(run_tasks(index, plan.tasks(), options, pool));
  return weights;
}

}  // namespace gimbal::model
