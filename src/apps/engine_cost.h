#pragma once

#include <cstdint>

#include "model_config/model_config.h"

namespace gimbal::apps {

// What a forward pass costs at least, counted from the model's shape: the roof that `gimbal bench
// engine` holds measured speeds against.

// Bytes of weights that one step must read, each once whatever the number of rows: attention
// projections, routers, shared experts and their gates, dense feed-forward networks, the output
// matrix, biases, norms (float32), and `distinct_experts` routed experts, summed over all layers.
// Left out: keys and values, activations, and the rows taken from the embedding table (under 1 % in
// short contexts). `element_bytes`: of a weight in memory, 2 or 4.
[[nodiscard]] double step_weight_bytes(const model_config::ModelConfig& config, int element_bytes,
                                       double distinct_experts);

// Floating-point operations in the weight matrices, two for each multiply-add: all layers for
// `rows` rows with their chosen experts only, and the output matrix for `output_rows` rows.
// Left out: attention's own products, norms, activations, biases.
[[nodiscard]] double matrix_flops(const model_config::ModelConfig& config, std::int64_t rows,
                                  std::int64_t output_rows);

}  // namespace gimbal::apps
