#pragma once

#include <cstdint>
#include <string>

#include "base/function_ref.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "synthetic/options.h"
#include "synthetic/routing_estimate.h"

namespace gimbal::synthetic {

// What was written.
struct Summary {
  std::int64_t parameters = 0;
  std::uint64_t weight_bytes = 0;
  std::int64_t tensors = 0;
  int shards = 0;
  RoutingEstimate routing;
};

// Parameters of the model. Requires: validate(options) is ok.
[[nodiscard]] std::int64_t parameter_count(const SyntheticOptions& options);

// Writes a Hugging Face model folder: config.json, generation_config.json, tokenizer.json,
// tokenizer_config.json and safetensors weights. The bytes depend on `options` alone. Memory is
// bounded by a few shards' headers and one piece of a tensor, whatever the model's size.
//
// `out_dir` must not exist or be empty; with `overwrite` a model in it is replaced and other files
// stay. The weights appear under their names when all of them are on disk, config.json last, so a
// folder that was left half-written is never taken for a model. `progress` is called with the bytes
// of weights made so far and in all.
// Errors: an option out of range, a folder in the way, a full disk or other trouble of the system.
[[nodiscard]] Result<Summary> make_model(
    const SyntheticOptions& options, const std::string& out_dir, bool overwrite, ThreadPool& pool,
    FunctionRef<void(std::uint64_t done, std::uint64_t total)> progress);

}  // namespace gimbal::synthetic
