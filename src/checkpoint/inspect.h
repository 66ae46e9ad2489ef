#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "model_config/model_config.h"
#include "tensor/dtype.h"

namespace gimbal::checkpoint {

class WeightIndex;

// What a tensor is for.
enum class ModelPart : std::uint8_t {
  kEmbeddings,
  kAttention,
  kRouter,
  kExperts,
  kSharedExperts,
  kDenseFfn,
  kNorms,
  kLmHead,
  kOther,  // nothing that execution reads
};
inline constexpr std::size_t kModelParts = 9;

[[nodiscard]] std::string_view to_string(ModelPart part);
// By the names that the supported families give their tensors.
[[nodiscard]] ModelPart part_of(std::string_view tensor_name);

struct PartSummary {
  std::int64_t tensors = 0;
  std::uint64_t parameters = 0;
  std::uint64_t bytes = 0;  // as stored
};

// What a model's folder holds. Value type.
struct ModelSummary {
  model_config::ModelConfig config;
  int files = 0;
  std::array<PartSummary, kModelParts> parts;  // indexed by ModelPart
  std::map<std::string, std::int64_t> dtypes;  // tensors by stored element type

  [[nodiscard]] const PartSummary& part(ModelPart which) const {
    return parts[static_cast<std::size_t>(which)];
  }
  [[nodiscard]] PartSummary total() const;
};

[[nodiscard]] ModelSummary summarize(const model_config::ModelConfig& config,
                                     const WeightIndex& weights);
// Reads config.json and the headers of the weights in `model_dir`; no tensor data.
[[nodiscard]] Result<ModelSummary> inspect_model(const std::string& model_dir);

struct FitOptions {
  tensor::DType dtype = tensor::DType::kBF16;  // of execution: weights and KV in memory
  // Tokens of one sequence; absent: the model's context.
  std::optional<int> max_model_len;
};

// How a model runs in so much memory, activations and the program itself left out.
struct MemoryFit {
  std::uint64_t memory_bytes = 0;
  std::uint64_t weight_bytes = 0;
  std::uint64_t kv_bytes_per_token = 0;
  bool weights_fit = false;
  std::uint64_t kv_bytes = 0;   // what weights leave
  std::uint64_t kv_tokens = 0;  // that fit in kv_bytes
  int max_model_len = 0;
  std::uint64_t full_sequences = 0;  // of max_model_len tokens, at once
};

[[nodiscard]] MemoryFit fit_in_memory(const ModelSummary& summary, std::uint64_t memory_bytes,
                                      const FitOptions& options = {});

// For people: several lines, each ended; `fit` may be null.
[[nodiscard]] std::string to_text(const ModelSummary& summary, const MemoryFit* fit);
// For programs: the same as one object.
[[nodiscard]] nlohmann::json to_json(const ModelSummary& summary, const MemoryFit* fit);

}  // namespace gimbal::checkpoint
