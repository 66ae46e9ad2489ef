#include "engine/serving_engine_options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "kernels/kv_cache.h"
#include "model/kv_storage.h"

namespace gimbal::engine {
namespace {

constexpr std::int64_t kDefaultKvBytes = std::int64_t{1} << 30;
constexpr int kMostBatchedTokens = 1 << 16;  // keeps every index of a row's output in 32 bits

std::int64_t available_memory() {
  return static_cast<std::int64_t>(sysconf(_SC_AVPHYS_PAGES)) * sysconf(_SC_PAGESIZE);
}

policy::ExpertShape expert_shape(const model_config::ModelConfig& config) {
  policy::ExpertShape shape;
  for (int layer = 0; layer < config.num_layers(); ++layer) {
    if (!config.is_moe(LayerIndex{layer})) continue;
    shape.experts += config.experts;
    shape.choices_per_row += config.experts_per_token;
  }
  return shape;
}

}  // namespace

Result<void> complete_options(const model::Model& model, ServingEngineOptions& options) {
  sched::StepLoopOptions& scheduler = options.scheduler;
  const auto longest = static_cast<int>(model.max_positions());
  if (scheduler.max_model_len == 0) scheduler.max_model_len = longest;
  if (scheduler.max_model_len < 1 || scheduler.max_model_len > longest) {
    return invalid_argument(fmt::format("max_model_len must be from 1 to the model's {}, is {}",
                                        longest, scheduler.max_model_len),
                            "max_model_len");
  }
  if (scheduler.max_num_batched_tokens < 1 ||
      scheduler.max_num_batched_tokens > kMostBatchedTokens) {
    return invalid_argument(fmt::format("max_num_batched_tokens must be from 1 to {}, is {}",
                                        kMostBatchedTokens, scheduler.max_num_batched_tokens),
                            "max_num_batched_tokens");
  }
  const std::int64_t physical =
      static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  if (options.kv_cache_bytes > physical / options.engines) {
    return invalid_argument(
        fmt::format("kv_cache_memory_bytes must be at most the machine's {}{}, is {}",
                    physical / options.engines, options.engines > 1 ? " for each engine" : "",
                    options.kv_cache_bytes),
        "kv_cache_memory_bytes");
  }
  scheduler.vocab_size = model.config().vocab_size;
  scheduler.page_tokens = kernels::kPageTokens;
  scheduler.experts = expert_shape(model.config());
  const std::int64_t page = model::KvStorage::page_bytes(model.config(), model.dtype());
  const std::int64_t one_request =
      (scheduler.max_model_len + kernels::kPageTokens - 1) / kernels::kPageTokens * page;
  if (one_request > physical) {
    return invalid_argument(
        fmt::format("max_model_len {} takes {} bytes of KV for one request, more than the "
                    "machine's {}: give a shorter one",
                    scheduler.max_model_len, one_request, physical),
        "max_model_len");
  }
  if (options.kv_cache_bytes == 0) {
    options.kv_cache_bytes =
        std::max(one_request, std::min(kDefaultKvBytes, available_memory() / 4) / options.engines);
  }
  if (options.kv_cache_bytes < one_request) {
    return invalid_argument(
        fmt::format(
            "kv_cache_memory_bytes must hold one request of max_model_len {}, which takes {} "
            "bytes, is {}",
            scheduler.max_model_len, one_request, options.kv_cache_bytes),
        "kv_cache_memory_bytes");
  }
  scheduler.kv_pages = static_cast<int>(
      std::min<std::int64_t>(options.kv_cache_bytes / page, std::numeric_limits<int>::max()));
  return sched::check_options(scheduler);
}

}  // namespace gimbal::engine
