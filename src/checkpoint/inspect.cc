#include "checkpoint/inspect.h"

#include <fmt/format.h>

#include "base/check.h"
#include "base/json.h"
#include "checkpoint/weight_index.h"

namespace gimbal::checkpoint {
namespace {

using model_config::ModelConfig;

constexpr std::array<std::string_view, kModelParts> kPartNames = {
    "embeddings", "attention", "router",  "experts", "shared_experts",
    "dense_ffn",  "norms",     "lm_head", "other"};

// "1.50 GB", in powers of ten.
std::string human_bytes(std::uint64_t bytes) {
  constexpr std::array kUnits = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1000.0 && unit + 1 < kUnits.size()) {
    value /= 1000.0;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.2f} {}", value, kUnits[unit]);
}

std::uint64_t elements_of(const TensorEntry& entry) {
  return entry.bytes * 8 / entry.type.bits;
}

std::string experts_text(const ModelConfig& config) {
  if (config.experts == 0) return "none";
  std::string text =
      fmt::format("{} a layer in {} layers, {} a token, {} wide", config.experts,
                  config.moe_layers(), config.experts_per_token, config.moe_intermediate);
  if (config.shared_intermediate > 0) {
    text += fmt::format(", one shared {} wide", config.shared_intermediate);
  }
  return text;
}

}  // namespace

std::string_view to_string(ModelPart part) {
  return kPartNames[static_cast<std::size_t>(part)];
}

ModelPart part_of(std::string_view name) {
  const auto has = [name](std::string_view piece) {
    return name.find(piece) != std::string_view::npos;
  };
  if (name.starts_with("lm_head.")) return ModelPart::kLmHead;
  if (!name.starts_with("model.")) return ModelPart::kOther;
  if (has(".embed_tokens.")) return ModelPart::kEmbeddings;
  if (has("norm.")) return ModelPart::kNorms;
  if (has(".self_attn.")) {
    return has("_proj.") ? ModelPart::kAttention : ModelPart::kOther;
  }
  if (has(".shared_expert.") || has(".shared_expert_gate.")) return ModelPart::kSharedExperts;
  if (has(".experts.")) return ModelPart::kExperts;
  if (has(".mlp.gate.") || has(".block_sparse_moe.gate.")) return ModelPart::kRouter;
  if (has(".mlp.") && has("_proj.")) return ModelPart::kDenseFfn;
  return ModelPart::kOther;
}

PartSummary ModelSummary::total() const {
  PartSummary sum;
  for (const auto& part : parts) {
    sum.tensors += part.tensors;
    sum.parameters += part.parameters;
    sum.bytes += part.bytes;
  }
  return sum;
}

ModelSummary summarize(const ModelConfig& config, const WeightIndex& weights) {
  ModelSummary summary{.config = config, .files = static_cast<int>(weights.files().size())};
  for (const auto& [name, tensor] : weights.tensors()) {
    PartSummary& part = summary.parts[static_cast<std::size_t>(part_of(name))];
    ++part.tensors;
    part.parameters += elements_of(tensor.entry);
    part.bytes += tensor.entry.bytes;
    ++summary.dtypes[std::string(tensor.entry.type.name)];
  }
  return summary;
}

Result<ModelSummary> inspect_model(const std::string& model_dir) {
  GIMBAL_ASSIGN_OR_RETURN(const auto config, model_config::load_model_config(model_dir));
  GIMBAL_ASSIGN_OR_RETURN(const auto weights, WeightIndex::open(model_dir));
  return summarize(config, weights);
}

MemoryFit fit_in_memory(const ModelSummary& summary, std::uint64_t memory_bytes,
                        const FitOptions& options) {
  const auto element = tensor::size_of(options.dtype);
  MemoryFit fit{.memory_bytes = memory_bytes};
  std::uint64_t kept = summary.total().parameters - summary.part(ModelPart::kOther).parameters;
  if (summary.config.tie_embeddings) {  // the output matrix is packed from the embeddings
    kept -= summary.part(ModelPart::kLmHead).parameters;
    kept += summary.part(ModelPart::kEmbeddings).parameters;
  }
  fit.weight_bytes = kept * element;
  fit.kv_bytes_per_token =
      static_cast<std::uint64_t>(summary.config.kv_bytes_per_token(static_cast<int>(element)));
  fit.max_model_len = options.max_model_len.value_or(summary.config.context_length);
  GIMBAL_CHECK(fit.max_model_len > 0 && fit.kv_bytes_per_token > 0);
  fit.weights_fit = fit.weight_bytes <= memory_bytes;
  if (!fit.weights_fit) return fit;
  fit.kv_bytes = memory_bytes - fit.weight_bytes;
  fit.kv_tokens = fit.kv_bytes / fit.kv_bytes_per_token;
  fit.full_sequences = fit.kv_tokens / static_cast<std::uint64_t>(fit.max_model_len);
  return fit;
}

std::string to_text(const ModelSummary& summary, const MemoryFit* fit) {
  const ModelConfig& config = summary.config;
  const PartSummary total = summary.total();
  std::string text;
  const auto line = [&text](std::string_view label, const std::string& value) {
    text += fmt::format("{:<18}{}\n", label, value);
  };
  line("architecture", config.architecture);
  line("layers", fmt::format("{} x {}", config.num_layers(), config.hidden_size));
  line("attention", fmt::format("{} heads x {}, {} for keys and values", config.heads,
                                config.head_dim, config.kv_heads));
  line("experts", experts_text(config));
  line("vocabulary", fmt::format("{}", config.vocab_size));
  line("context", fmt::format("{} tokens", config.context_length));
  line("parameters",
       fmt::format("{}, {} of them used by a token", total.parameters, active_parameters(config)));
  std::string dtypes;
  for (const auto& [name, count] : summary.dtypes) {
    dtypes += fmt::format("{}{} {}", dtypes.empty() ? "" : ", ", count, name);
  }
  line("tensors", fmt::format("{} in {} files ({})", total.tensors, summary.files, dtypes));
  for (std::size_t i = 0; i < kModelParts; ++i) {
    const PartSummary& part = summary.parts[i];
    if (part.tensors == 0) continue;
    line(fmt::format("  {}", kPartNames[i]),
         fmt::format("{:>10}  {:5.1f} %  {} tensors", human_bytes(part.bytes),
                     100.0 * static_cast<double>(part.bytes) / static_cast<double>(total.bytes),
                     part.tensors));
  }
  line("  total", fmt::format("{:>10}", human_bytes(total.bytes)));
  line("KV cache", fmt::format("{} bytes a token (bfloat16)", config.kv_bytes_per_token(2)));
  if (fit == nullptr) return text;
  line("memory", human_bytes(fit->memory_bytes));
  line("  weights", human_bytes(fit->weight_bytes));
  if (!fit->weights_fit) {
    line("  fits", "no: the weights alone are larger");
    return text;
  }
  line("  left for KV", fmt::format("{}, {} tokens", human_bytes(fit->kv_bytes), fit->kv_tokens));
  line("  at once",
       fmt::format("{} sequences of {} tokens", fit->full_sequences, fit->max_model_len));
  return text;
}

nlohmann::json to_json(const ModelSummary& summary, const MemoryFit* fit) {
  const ModelConfig& config = summary.config;
  const PartSummary total = summary.total();
  Json parts = Json::object();
  for (std::size_t i = 0; i < kModelParts; ++i) {
    const PartSummary& part = summary.parts[i];
    parts[std::string(kPartNames[i])] = {
        {"tensors", part.tensors}, {"parameters", part.parameters}, {"bytes", part.bytes}};
  }
  Json out = {{"architecture", config.architecture},
              {"model_type", model_type_of(config.family)},
              {"layers", config.num_layers()},
              {"moe_layers", config.moe_layers()},
              {"hidden_size", config.hidden_size},
              {"heads", config.heads},
              {"kv_heads", config.kv_heads},
              {"head_dim", config.head_dim},
              {"experts", config.experts},
              {"experts_per_token", config.experts_per_token},
              {"vocab_size", config.vocab_size},
              {"context_length", config.context_length},
              {"files", summary.files},
              {"tensors", total.tensors},
              {"parameters", total.parameters},
              {"active_parameters", active_parameters(config)},
              {"bytes", total.bytes},
              {"dtypes", summary.dtypes},
              {"parts", std::move(parts)},
              {"kv_bytes_per_token", config.kv_bytes_per_token(2)}};
  if (fit != nullptr) {
    out["fit"] = {{"memory_bytes", fit->memory_bytes},
                  {"weight_bytes", fit->weight_bytes},
                  {"kv_bytes_per_token", fit->kv_bytes_per_token},
                  {"weights_fit", fit->weights_fit},
                  {"kv_bytes", fit->kv_bytes},
                  {"kv_tokens", fit->kv_tokens},
                  {"max_model_len", fit->max_model_len},
                  {"full_sequences", fit->full_sequences}};
  }
  return out;
}

}  // namespace gimbal::checkpoint
