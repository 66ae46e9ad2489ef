// config.json and generation_config.json: whatever the bytes, a config that is accepted keeps the
// promises of ModelConfig.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "base/json.h"
#include "model_config/model_config.h"

namespace {

void check_promises(const gimbal::model_config::ModelConfig& config) {
  GIMBAL_CHECK(config.hidden_size > 0 && config.vocab_size > 0 && config.num_layers() > 0);
  GIMBAL_CHECK(config.heads > 0 && config.kv_heads > 0 && config.heads % config.kv_heads == 0);
  GIMBAL_CHECK(config.head_dim > 0 && config.head_dim % 2 == 0);
  GIMBAL_CHECK(config.context_length >= config.max_positions);
  GIMBAL_CHECK(config.experts_per_token <= config.experts);
  GIMBAL_CHECK((config.moe_layers() > 0) == (config.experts_per_token > 0));
  GIMBAL_CHECK((config.moe_layers() > 0) == (config.moe_intermediate > 0));
  GIMBAL_CHECK((config.moe_layers() < config.num_layers()) == (config.dense_intermediate > 0));
  GIMBAL_CHECK(config.rope.theta > 1.0 && config.rope.factor >= 1.0);
  for (const auto& layer : config.layers)
    GIMBAL_CHECK(layer.sliding_window >= 0);
  for (const auto token : config.eos_token_ids)
    GIMBAL_CHECK(token >= 0);

  // Products of sizes: the undefined-behaviour sanitizer sees one that overflows.
  const auto counts = parameter_counts(config);
  GIMBAL_CHECK(counts.total() > 0 && counts.total() <= INT64_MAX / 4);
  GIMBAL_CHECK(active_parameters(config) > 0 && active_parameters(config) <= counts.total());
  const std::int64_t kv = config.kv_bytes_per_token(4);
  GIMBAL_CHECK(kv > 0 && kv <= INT64_MAX / config.context_length);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto config = gimbal::model_config::parse_model_config(text);
  if (!config.ok()) return 0;
  check_promises(*config);
  const auto json = gimbal::parse_json(text);
  (void)gimbal::model_config::apply_generation_config(*json, *config);
  check_promises(*config);
  return 0;
}
