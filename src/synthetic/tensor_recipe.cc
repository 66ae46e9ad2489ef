#include "synthetic/tensor_recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/hash.h"
#include "synthetic/weight_gains.h"

namespace gimbal::synthetic {
namespace {

constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15ULL;

// Collects the recipes of one model.
class RecipeList {
 public:
  explicit RecipeList(std::uint64_t seed) : seed_(seed) {}

  TensorRecipe& matrix(std::string name, std::int64_t rows, std::int64_t cols, std::uint32_t gain) {
    return add({.name = std::move(name),
                .shape = {rows, cols},
                .step = noise_step(gain, static_cast<std::uint64_t>(cols))});
  }
  // A table whose rows are looked up, not multiplied: gain is the deviation itself.
  TensorRecipe& table(std::string name, std::int64_t rows, std::int64_t cols, std::uint32_t gain) {
    return add({.name = std::move(name), .shape = {rows, cols}, .step = noise_step(gain, 1)});
  }
  TensorRecipe& norm(std::string name, std::int64_t size, Fixed mean = kNormMean) {
    return add({.name = std::move(name),
                .shape = {size},
                .mean = mean,
                .step = noise_step(kNormDeviation, 1)});
  }
  void bias(std::string name, std::int64_t size) {
    add({.name = std::move(name), .shape = {size}, .step = noise_step(kBiasDeviation, 1)});
  }
  [[nodiscard]] std::vector<TensorRecipe> take() { return std::move(recipes_); }

 private:
  TensorRecipe& add(TensorRecipe recipe) {
    recipe.key = hash_bytes(recipe.name, mix64(seed_ + kGolden));
    recipes_.push_back(std::move(recipe));
    return recipes_.back();
  }

  std::uint64_t seed_;
  std::vector<TensorRecipe> recipes_;
};

void add_attention(const SyntheticOptions& o, const std::string& prefix, RecipeList& list) {
  const FamilyTraits& traits = traits_of(o.family);
  const std::int64_t query = static_cast<std::int64_t>(o.heads) * o.head_dim;
  const std::int64_t key = static_cast<std::int64_t>(o.kv_heads) * o.head_dim;
  const bool normed = traits.head_norms || traits.projection_norms;
  const std::uint32_t score_gain = normed ? 256 : kQueryKeyGain;
  list.matrix(prefix + "q_proj.weight", query, o.hidden_size, score_gain);
  list.matrix(prefix + "k_proj.weight", key, o.hidden_size, score_gain);
  list.matrix(prefix + "v_proj.weight", key, o.hidden_size, kValueGain);
  list.matrix(prefix + "o_proj.weight", o.hidden_size, query, kAttentionOutputGain);
  if (o.attention_bias) {
    list.bias(prefix + "q_proj.bias", query);
    list.bias(prefix + "k_proj.bias", key);
    list.bias(prefix + "v_proj.bias", key);
    // Qwen2-MoE's bias is one of the three inputs only.
    if (o.family != Family::kQwen2Moe) list.bias(prefix + "o_proj.bias", o.hidden_size);
  }
  if (normed) {
    list.norm(prefix + "q_norm.weight", traits.head_norms ? o.head_dim : query, kHeadNormMean);
    list.norm(prefix + "k_norm.weight", traits.head_norms ? o.head_dim : key, kHeadNormMean);
  }
}

// `names` are those of the gate, up and down projection.
void add_ffn(std::int64_t hidden, std::int64_t intermediate, const std::string& prefix,
             const char* const (&names)[3], std::uint32_t down_gain, RecipeList& list) {
  list.matrix(fmt::format("{}{}.weight", prefix, names[0]), intermediate, hidden, kGateUpGain);
  list.matrix(fmt::format("{}{}.weight", prefix, names[1]), intermediate, hidden, kGateUpGain);
  list.matrix(fmt::format("{}{}.weight", prefix, names[2]), hidden, intermediate, down_gain);
}

constexpr const char* const kFfnNames[3] = {"gate_proj", "up_proj", "down_proj"};
constexpr const char* const kMixtralNames[3] = {"w1", "w3", "w2"};

void add_experts(const SyntheticOptions& o, int layer, const std::string& prefix,
                 RecipeList& list) {
  const FamilyTraits& traits = traits_of(o.family);
  const bool mixtral = o.family == Family::kMixtral;
  const std::string block = prefix + (mixtral ? "block_sparse_moe." : "mlp.");
  const int intermediate =
      traits.experts_use_intermediate ? o.intermediate_size : o.moe_intermediate_size;
  TensorRecipe& router = list.matrix(block + "gate.weight", o.experts, o.hidden_size,
                                     static_cast<std::uint32_t>(std::lround(o.router_gain * 256)));
  router.directions = Directions::kRouter;
  router.layer = layer;
  for (int expert = 0; expert < o.experts; ++expert) {
    add_ffn(o.hidden_size, intermediate, fmt::format("{}experts.{}.", block, expert),
            mixtral ? kMixtralNames : kFfnNames, kExpertDownGain, list);
  }
  if (traits.has_shared_expert) {
    add_ffn(o.hidden_size, o.shared_intermediate_size, block + "shared_expert.", kFfnNames,
            kDenseDownGain, list);
    list.matrix(block + "shared_expert_gate.weight", 1, o.hidden_size, kSharedGateGain);
  }
}

// What is added to the noise of one row.
struct RowParts {
  std::vector<RoutingPlan::Term> terms;
  std::vector<std::int64_t> predecessors;
};

void parts_of(const TensorRecipe& recipe, const RoutingPlan& routing, std::int64_t row,
              RowParts& out) {
  out.terms.clear();
  out.predecessors.clear();
  switch (recipe.directions) {
    case Directions::kNone:
      return;
    case Directions::kEmbedding:
      return routing.embedding_terms(row, out.terms);
    case Directions::kRouter:
      return routing.router_terms(recipe.layer, static_cast<int>(row), out.terms);
    case Directions::kHead:
      routing.predecessors(row, out.predecessors);
      return routing.head_terms(row, out.terms);
  }
}

// out[i] += step * noise of the element `start` + i of the tensor with this key.
void add_noise(std::uint64_t key, Fixed step, std::int64_t start, std::span<Fixed> out) {
  std::uint64_t counter = key + static_cast<std::uint64_t>(start) * kGolden;
  for (Fixed& value : out) {
    value += step * irwin_hall(mix64(counter));
    counter += kGolden;
  }
}

// Values of columns [begin, begin + out.size()) of one row.
void generate_columns(const TensorRecipe& recipe, const RoutingPlan& routing, std::int64_t row,
                      std::int64_t begin, const RowParts& parts, std::span<Fixed> out) {
  const std::int64_t start = row * recipe.cols() + begin;
  std::fill(out.begin(), out.end(), recipe.mean);
  add_noise(recipe.key, recipe.step, start, out);
  if (recipe.random_signs) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      const auto index = static_cast<std::uint64_t>(start) + i;
      const std::uint64_t bits = mix64(~recipe.key + index * kGolden);
      if ((bits & 1) != 0) out[i] = -out[i];
    }
  }
  for (const auto& term : parts.terms) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] +=
          term.weight * routing.sign(term.direction, static_cast<int>(begin) + static_cast<int>(i));
    }
  }
  for (const std::int64_t token : parts.predecessors) {
    const Fixed step = (recipe.embedding_step * routing.successor_weight()) >> 24;
    add_noise(recipe.embedding_key, step, token * recipe.cols() + begin, out);
  }
}

void write_bits(std::span<const Fixed> values, tensor::DType dtype, std::byte* out) {
  const auto write = [&](auto bits_of) {
    for (const Fixed value : values) {
      const auto bits = bits_of(value);
      std::memcpy(out, &bits, sizeof(bits));
      out += sizeof(bits);
    }
  };
  switch (dtype) {
    case tensor::DType::kF32:
      return write([](Fixed value) { return float32_bits(value); });
    case tensor::DType::kBF16:
      return write([](Fixed value) { return bfloat16_bits(value); });
    case tensor::DType::kF16:
      return write([](Fixed value) { return float16_bits(value); });
  }
}

}  // namespace

std::vector<TensorRecipe> tensor_recipes(const SyntheticOptions& o) {
  RecipeList list(o.seed);
  TensorRecipe& embedding =
      list.table("model.embed_tokens.weight", o.vocab_size, o.hidden_size, kEmbeddingGain);
  embedding.directions = Directions::kEmbedding;
  const std::uint64_t embedding_key = embedding.key;
  const Fixed embedding_step = embedding.step;
  for (int layer = 0; layer < o.layers; ++layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    list.norm(prefix + "input_layernorm.weight", o.hidden_size);
    add_attention(o, prefix + "self_attn.", list);
    list.norm(prefix + "post_attention_layernorm.weight", o.hidden_size);
    if (has_experts(o, layer)) {
      add_experts(o, layer, prefix, list);
    } else {
      add_ffn(o.hidden_size, o.intermediate_size, prefix + "mlp.", kFfnNames, kDenseDownGain, list);
    }
  }
  // A tied table would answer every token with itself; random signs in the last norm undo that.
  list.norm("model.norm.weight", o.hidden_size).random_signs = o.tie_embeddings;
  if (!o.tie_embeddings) {
    TensorRecipe& head = list.matrix("lm_head.weight", o.vocab_size, o.hidden_size, kHeadGain);
    head.directions = Directions::kHead;
    head.embedding_key = embedding_key;
    head.embedding_step = embedding_step;
  }
  return list.take();
}

void generate_row(const TensorRecipe& recipe, const RoutingPlan& routing, std::int64_t row,
                  std::span<Fixed> out) {
  RowParts parts;
  parts_of(recipe, routing, row, parts);
  generate_columns(recipe, routing, row, 0, parts, out);
}

void generate_rows(const TensorRecipe& recipe, const RoutingPlan& routing, tensor::DType dtype,
                   std::int64_t first, std::int64_t count, std::span<std::byte> out) {
  constexpr std::int64_t kBlock = 1024;
  const auto width = static_cast<std::int64_t>(tensor::size_of(dtype));
  GIMBAL_CHECK(static_cast<std::int64_t>(out.size()) == count * recipe.cols() * width);
  Fixed values[kBlock];
  RowParts parts;
  std::byte* to = out.data();
  for (std::int64_t row = first; row < first + count; ++row) {
    parts_of(recipe, routing, row, parts);
    for (std::int64_t begin = 0; begin < recipe.cols(); begin += kBlock) {
      const std::int64_t size = std::min(kBlock, recipe.cols() - begin);
      const std::span<Fixed> block(values, static_cast<std::size_t>(size));
      generate_columns(recipe, routing, row, begin, parts, block);
      write_bits(block, dtype, to);
      to += size * width;
    }
  }
}

void generate_rows(const TensorRecipe& recipe, const RoutingPlan& routing, tensor::DType dtype,
                   std::int64_t first, std::int64_t count, std::span<std::byte> out,
                   ThreadPool& pool) {
  constexpr std::int64_t kElementsPerTask = 1 << 15;
  const std::int64_t rows_per_task = std::max<std::int64_t>(1, kElementsPerTask / recipe.cols());
  const auto row_bytes = static_cast<std::size_t>(recipe.cols()) * tensor::size_of(dtype);
  const auto tasks = static_cast<int>((count + rows_per_task - 1) / rows_per_task);
  pool.run(tasks, [&](int task, int) {
    const std::int64_t begin = task * rows_per_task;
    const std::int64_t rows = std::min(rows_per_task, count - begin);
    generate_rows(recipe, routing, dtype, first + begin, rows,
                  out.subspan(static_cast<std::size_t>(begin) * row_bytes,
                              static_cast<std::size_t>(rows) * row_bytes));
  });
}

}  // namespace gimbal::synthetic
