#include "models/tiny_model.h"

#include <gtest/gtest.h>

#include "synthetic/make_model.h"

namespace gimbal::tests {

synthetic::SyntheticOptions tiny_options(synthetic::Family family) {
  synthetic::SyntheticOptions options = synthetic::family_defaults(family);
  options.hidden_size = 64;
  options.layers = 3;
  options.heads = 4;
  options.kv_heads = 2;
  options.head_dim = 16;
  options.vocab_size = 320;
  options.max_positions = 512;
  options.intermediate_size = 96;
  options.moe_intermediate_size = 48;
  options.shared_intermediate_size = 64;
  if (synthetic::traits_of(family).has_experts) {
    options.experts = 6;
    options.experts_per_token = 2;
  }
  if (synthetic::traits_of(family).has_dense_layers) options.mlp_only_layers = {1};
  return options;
}

std::unique_ptr<model::Model> make_and_load(const synthetic::SyntheticOptions& options,
                                            tensor::DType dtype, ThreadPool& pool) {
  const TemporaryFolder folder;
  const std::string path = folder.path("model");
  const auto made =
      synthetic::make_model(options, path, false, pool, [](std::uint64_t, std::uint64_t) {});
  EXPECT_TRUE(made.ok()) << made.error().message;
  auto loaded = model::Model::load(path, {.dtype = dtype}, pool);
  EXPECT_TRUE(loaded.ok()) << loaded.error().message;
  return std::move(loaded).value();
}

}  // namespace gimbal::tests
