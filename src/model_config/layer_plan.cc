#include "model_config/layer_plan.h"

#include <fmt/format.h>

#include <set>

namespace gimbal::model_config {
namespace {

constexpr int kMaxWindow = 1 << 27;
constexpr int kMaxIndex = 1 << 20;
constexpr std::size_t kMaxListed = 4096;

Result<std::set<int>> read_mlp_only_layers(JsonObject& config) {
  std::set<int> out;
  const Json* list = config.raw("mlp_only_layers");
  if (list == nullptr) return out;
  const std::string expected = fmt::format("a list of layer indices from 0 to {}", kMaxIndex);
  if (!list->is_array() || list->size() > kMaxListed) {
    return config.wrong("mlp_only_layers", expected);
  }
  for (const Json& item : *list) {
    const bool fits = item.is_number_integer() && item >= 0 && item <= kMaxIndex;
    if (!fits) return config.wrong("mlp_only_layers", expected);
    out.insert(item.get<int>());
  }
  return out;
}

Result<void> mark_moe(JsonObject& config, const FamilyTraits& traits, int experts,
                      std::vector<LayerConfig>& layers) {
  if (!traits.has_experts) return {};
  if (!traits.has_dense_layers) {
    for (auto& layer : layers)
      layer.is_moe = true;
    return {};
  }
  int step = 1;
  GIMBAL_RETURN_IF_ERROR(config.read("decoder_sparse_step", 1, kMaxIndex, step));
  GIMBAL_ASSIGN_OR_RETURN(const auto dense, read_mlp_only_layers(config));
  for (int i = 0; i < static_cast<int>(layers.size()); ++i) {
    layers[static_cast<std::size_t>(i)].is_moe =
        experts > 0 && (i + 1) % step == 0 && !dense.contains(i);
  }
  return {};
}

// The window that the config gives, 0 for none.
Result<int> read_window(JsonObject& config, const Json& object, const FamilyTraits& traits) {
  int window = 0;
  if (traits.family == Family::kMixtral) {
    GIMBAL_RETURN_IF_ERROR(config.read("sliding_window", 1, kMaxWindow, window));
    return window;
  }
  bool use = false;
  GIMBAL_RETURN_IF_ERROR(config.read("use_sliding_window", use));
  if (!use) {
    (void)config.raw("sliding_window");  // without effect
    return 0;
  }
  if (!object.contains("sliding_window")) window = 4096;
  GIMBAL_RETURN_IF_ERROR(config.read("sliding_window", 1, kMaxWindow, window));
  return window;
}

// Which layers layer_types makes sliding; nullopt when it is absent.
Result<std::optional<std::vector<bool>>> read_layer_types(JsonObject& config,
                                                          const FamilyTraits& traits,
                                                          std::size_t layers) {
  const Json* list = config.raw("layer_types");
  if (list == nullptr) return std::optional<std::vector<bool>>{};
  if (!list->is_array() || list->size() != layers) {
    return config.wrong("layer_types",
                        fmt::format("a list of num_hidden_layers, {}, names", layers));
  }
  std::vector<bool> sliding;
  for (const Json& item : *list) {
    const bool slides = item == "sliding_attention" && traits.reads_layer_types;
    if (!slides && item != "full_attention") {
      return unsupported(fmt::format("layer_types of model_type {} has an unsupported entry, {}",
                                     traits.model_type, excerpt(item)),
                         "layer_types");
    }
    sliding.push_back(slides);
  }
  return std::optional(std::move(sliding));
}

Result<void> set_windows(JsonObject& config, const Json& object, const FamilyTraits& traits,
                         std::vector<LayerConfig>& layers) {
  int max_window_layers = 28;
  GIMBAL_ASSIGN_OR_RETURN(const auto types, read_layer_types(config, traits, layers.size()));
  // Neither reads a window; refuse_unsupported_fields has seen that none is asked for.
  if (traits.family == Family::kOlmoe || traits.family == Family::kLlama) return {};
  GIMBAL_ASSIGN_OR_RETURN(const int window, read_window(config, object, traits));
  GIMBAL_RETURN_IF_ERROR(config.read("max_window_layers", 0, kMaxIndex, max_window_layers));
  for (std::size_t i = 0; i < layers.size(); ++i) {
    bool slides = true;  // Mixtral and Qwen3-MoE: all layers or none
    if (types && traits.reads_layer_types) {
      slides = (*types)[i];
      if (slides && window == 0) {
        return config.wrong("sliding_window", "given and in use where layer_types names it");
      }
    } else if (traits.family == Family::kQwen2Moe) {
      slides = i % 2 == 0 && static_cast<int>(i) < max_window_layers;
    } else if (traits.family == Family::kQwen3) {
      slides = static_cast<int>(i) >= max_window_layers;
    }
    layers[i].sliding_window = slides ? window : 0;
  }
  return {};
}

}  // namespace

Result<std::vector<LayerConfig>> read_layers(JsonObject& config, const Json& object,
                                             const FamilyTraits& traits, int layers, int experts) {
  std::vector<LayerConfig> out(static_cast<std::size_t>(layers));
  GIMBAL_RETURN_IF_ERROR(mark_moe(config, traits, experts, out));
  GIMBAL_RETURN_IF_ERROR(set_windows(config, object, traits, out));
  return out;
}

}  // namespace gimbal::model_config
