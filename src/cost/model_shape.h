#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "model_config/model_config.h"

namespace gimbal::cost {

// What the times of a model depend on: parameters by part, per layer, and what attention does per
// query and key. Families that the engine does not run (deepseek_v3) have a shape too.
// Value type.
struct ModelShape {
  std::string name;  // a shipped name, or the file it was read from

  std::vector<bool> layer_is_moe;  // [layers]
  int hidden = 0;
  int vocab = 0;
  int context_length = 0;  // positions that the model can address
  int heads = 0;
  int kv_heads = 0;  // 1 where keys and values of all heads are one compressed row (MLA)

  // Parameters of one layer.
  double attention_parameters = 0;  // projections and their biases
  double router_parameters = 0;     // 0 where no layer is MoE, as are the next three
  double expert_parameters = 0;     // of one routed expert
  double shared_parameters = 0;     // of the shared expert
  double dense_parameters = 0;      // feed-forward of a layer without experts
  double head_parameters = 0;       // lm_head
  bool tied_embeddings = false;     // the head is the embedding table

  int experts = 0;
  int experts_per_token = 0;

  // Multiplications and additions (2 each) of one query with one key and its value, all heads.
  double prefill_flops_per_pair = 0;
  double decode_flops_per_pair = 0;  // differs where keys are kept compressed (MLA)
  double kv_values_per_token = 0;    // cached numbers of one layer

  double bytes_per_parameter = 2;  // of weights as the checkpoint holds them
  double bytes_per_kv_value = 2;
  double bytes_per_activation = 2;  // of rows between ranks

  [[nodiscard]] int layers() const { return static_cast<int>(layer_is_moe.size()); }
  [[nodiscard]] int moe_layers() const;
  [[nodiscard]] bool is_moe(int layer) const {
    return layer_is_moe[static_cast<std::size_t>(layer)];
  }
  // 0: a layer without experts; as policy::ExpertMapShape wants it.
  [[nodiscard]] std::vector<int> experts_of_layer() const;
  [[nodiscard]] double kv_bytes_per_token() const;  // all layers
  [[nodiscard]] double expert_bytes() const { return expert_parameters * bytes_per_parameter; }
  [[nodiscard]] double row_bytes() const { return hidden * bytes_per_activation; }
  // All weights, and those that every rank holds (all but the routed experts).
  [[nodiscard]] double weight_bytes() const;
  [[nodiscard]] double replicated_weight_bytes() const;

  bool operator==(const ModelShape&) const = default;
};

// The shape of a model that the engine runs. bytes_per_parameter follows its dtype (4 for float32).
[[nodiscard]] ModelShape shape_of(const model_config::ModelConfig& config, std::string name);

// From a config.json: model_config's families, and deepseek_v3. Errors name the field.
[[nodiscard]] Result<ModelShape> shape_from_json(const Json& config, std::string name);

// A shipped model ("qwen3-30b-a3b"), a config.json, or a folder that has one. Errors name the file
// and the field; a name that is neither lists the shipped ones.
[[nodiscard]] Result<ModelShape> find_model(const std::string& name_or_path);
[[nodiscard]] std::vector<std::string_view> shipped_models();

}  // namespace gimbal::cost
