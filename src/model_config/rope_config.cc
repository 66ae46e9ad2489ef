#include "model_config/rope_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "model_config/size_limits.h"

namespace gimbal::model_config {
namespace {

constexpr double kMaxTheta = 1e15;
constexpr double kMaxFactor = 1e6;

Result<RopeKind> kind_of(JsonObject& rope) {
  std::string name = "default";
  GIMBAL_RETURN_IF_ERROR(rope.read("type", name));  // how old versions wrote it
  GIMBAL_RETURN_IF_ERROR(rope.read("rope_type", name));
  for (const RopeKind kind :
       {RopeKind::kDefault, RopeKind::kLinear, RopeKind::kLlama3, RopeKind::kYarn}) {
    if (name == to_string(kind)) return kind;
  }
  const std::string field = rope.path_of(rope.has("rope_type") ? "rope_type" : "type");
  return unsupported(
      fmt::format("{} must be default, linear, llama3 or yarn, is {}", field, excerpt(Json(name))),
      field);
}

Result<void> require_full_rotation(JsonObject& object) {
  double factor = 1.0;
  GIMBAL_RETURN_IF_ERROR(object.read("partial_rotary_factor", 0.0, 1e9, factor));
  if (factor == 1.0) return {};
  return unsupported(fmt::format("{} other than 1 is not supported, is {}",
                                 object.path_of("partial_rotary_factor"), factor),
                     object.path_of("partial_rotary_factor"));
}

Result<void> require(const JsonObject& rope, std::string_view name) {
  if (rope.has(name)) return {};
  return rope.wrong(name, "given");
}

// What YaRN scales attention by when the config does not say: 0.1 m ln(factor) + 1.
double yarn_scale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

Result<void> read_yarn(JsonObject& rope, int max_positions, RopeConfig& out) {
  GIMBAL_RETURN_IF_ERROR(rope.read("factor", 1.0, kMaxFactor, out.factor));
  if (!rope.has("factor")) {
    out.factor = std::max(1.0, static_cast<double>(max_positions) / out.original_max_positions);
  }
  double beta_fast = 0.0;
  double beta_slow = 0.0;
  double mscale = 0.0;
  double mscale_all_dim = 0.0;
  GIMBAL_RETURN_IF_ERROR(rope.read("beta_fast", 0.0, 1e6, beta_fast));
  GIMBAL_RETURN_IF_ERROR(rope.read("beta_slow", 0.0, 1e6, beta_slow));
  GIMBAL_RETURN_IF_ERROR(rope.read("mscale", 0.0, 1e6, mscale));
  GIMBAL_RETURN_IF_ERROR(rope.read("mscale_all_dim", 0.0, 1e6, mscale_all_dim));
  GIMBAL_RETURN_IF_ERROR(rope.read("truncate", out.truncate));
  if (beta_fast != 0.0) out.beta_fast = beta_fast;  // 0 asks for the default
  if (beta_slow != 0.0) out.beta_slow = beta_slow;
  if (out.beta_fast < out.beta_slow) {
    return rope.wrong("beta_fast", fmt::format("at least beta_slow, {}", out.beta_slow));
  }
  const bool mscales = mscale != 0.0 && mscale_all_dim != 0.0;
  out.attention_factor =
      mscales ? yarn_scale(out.factor, mscale) / yarn_scale(out.factor, mscale_all_dim)
              : yarn_scale(out.factor, 1.0);
  return rope.read("attention_factor", 0.0, 1e6, out.attention_factor);
}

Result<void> read_llama3(JsonObject& rope, RopeConfig& out) {
  for (const auto* name : {"factor", "low_freq_factor", "high_freq_factor"}) {
    GIMBAL_RETURN_IF_ERROR(require(rope, name));
  }
  GIMBAL_RETURN_IF_ERROR(rope.read("factor", 1.0, kMaxFactor, out.factor));
  GIMBAL_RETURN_IF_ERROR(rope.read("low_freq_factor", 1e-6, kMaxFactor, out.low_freq_factor));
  GIMBAL_RETURN_IF_ERROR(rope.read("high_freq_factor", 1e-6, kMaxFactor, out.high_freq_factor));
  if (out.high_freq_factor > out.low_freq_factor) return {};
  return rope.wrong("high_freq_factor",
                    fmt::format("greater than low_freq_factor, {}", out.low_freq_factor));
}

// The object that holds the rope's parameters; nullptr when the config has none.
Result<const Json*> rope_object(JsonObject& config, std::string& name) {
  for (const auto* candidate : {"rope_scaling", "rope_parameters"}) {
    const Json* value = config.raw(candidate);
    if (value == nullptr) continue;
    if (!value->is_object()) return config.wrong(candidate, "an object");
    if (value->empty()) continue;
    if (name.empty()) {
      name = candidate;
    } else if (*value != *config.raw(name)) {
      return config.wrong(candidate, "the same as " + name + ", which is given too,");
    }
  }
  return name.empty() ? nullptr : config.raw(name);
}

}  // namespace

Result<RopeConfig> read_rope_config(JsonObject& config, double default_theta, int max_positions,
                                    std::vector<std::string>& unknown_fields) {
  RopeConfig out;
  out.theta = default_theta;
  const auto read_theta = [&out](JsonObject& object) -> Result<void> {
    GIMBAL_RETURN_IF_ERROR(object.read("rope_theta", 1.0, kMaxTheta, out.theta));
    if (out.theta > 1.0) return {};
    return object.wrong("rope_theta", "greater than 1");
  };
  GIMBAL_RETURN_IF_ERROR(read_theta(config));
  GIMBAL_RETURN_IF_ERROR(require_full_rotation(config));
  std::string name;
  GIMBAL_ASSIGN_OR_RETURN(const Json* value, rope_object(config, name));
  int original = max_positions;
  GIMBAL_RETURN_IF_ERROR(
      config.read("original_max_position_embeddings", 1, kMaxPositions, original));
  if (value == nullptr) return out;

  JsonObject rope(*value, name);
  for (const auto* layer_type : {"full_attention", "sliding_attention"}) {
    if (rope.has(layer_type)) {
      return unsupported(fmt::format("rope parameters by layer type are not supported, {} is {}",
                                     rope.path_of(layer_type), excerpt(*rope.raw(layer_type))),
                         rope.path_of(layer_type));
    }
  }
  GIMBAL_RETURN_IF_ERROR(read_theta(rope));
  GIMBAL_RETURN_IF_ERROR(require_full_rotation(rope));
  GIMBAL_ASSIGN_OR_RETURN(out.kind, kind_of(rope));
  int nested_original = original;
  GIMBAL_RETURN_IF_ERROR(
      rope.read("original_max_position_embeddings", 1, kMaxPositions, nested_original));
  // Given beside the object, it wins over the one inside.
  if (!config.has("original_max_position_embeddings")) original = nested_original;

  switch (out.kind) {
    case RopeKind::kDefault:
      break;
    case RopeKind::kLinear:
      GIMBAL_RETURN_IF_ERROR(require(rope, "factor"));
      GIMBAL_RETURN_IF_ERROR(rope.read("factor", 1.0, kMaxFactor, out.factor));
      break;
    case RopeKind::kLlama3:
      out.original_max_positions = original;
      GIMBAL_RETURN_IF_ERROR(read_llama3(rope, out));
      break;
    case RopeKind::kYarn:
      out.original_max_positions = original;
      GIMBAL_RETURN_IF_ERROR(read_yarn(rope, max_positions, out));
      break;
  }
  for (const auto& field : rope.unread()) {
    if (rope.has(field)) unknown_fields.push_back(rope.path_of(field));
  }
  return out;
}

int context_length_of(const RopeConfig& rope, int max_positions, int limit) {
  double stretched = max_positions;
  if (rope.kind == RopeKind::kLinear) stretched *= rope.factor;
  if (rope.kind == RopeKind::kYarn) {
    stretched = std::max(stretched, rope.original_max_positions * rope.factor);
  }
  return static_cast<int>(std::min(stretched, static_cast<double>(limit)));
}

}  // namespace gimbal::model_config
