#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "synthetic/fixed_point.h"
#include "synthetic/options.h"
#include "synthetic/routing_plan.h"
#include "tensor/dtype.h"

namespace gimbal::synthetic {

// Which routing directions a tensor's rows hold.
enum class Directions : std::uint8_t { kNone, kEmbedding, kRouter, kHead };

// How one tensor is made: element i is mean + step * irwin_hall(word(key, i)), plus its row's
// routing directions and, in the output head, its predecessors' embeddings; with `random_signs` the
// mean's sign is random.
struct TensorRecipe {
  std::string name;
  std::vector<std::int64_t> shape;  // 1 or 2 dimensions
  std::uint64_t key = 0;
  Fixed mean = 0;
  Fixed step = 0;
  bool random_signs = false;
  Directions directions = Directions::kNone;
  int layer = 0;                    // of kRouter
  std::uint64_t embedding_key = 0;  // of kHead: key and step of the table whose rows lead to this
  Fixed embedding_step = 0;

  [[nodiscard]] std::int64_t rows() const { return shape.size() == 2 ? shape[0] : 1; }
  [[nodiscard]] std::int64_t cols() const { return shape.back(); }
  [[nodiscard]] std::int64_t elements() const { return rows() * cols(); }
};

// Every tensor of the model, in the order and with the names of published checkpoints.
// Requires: validate(options) is ok.
[[nodiscard]] std::vector<TensorRecipe> tensor_recipes(const SyntheticOptions& options);

// Writes rows [first, first + count) of the tensor, row-major, as `dtype` (little endian) to
// `out`. Any split into calls and any number of threads give the same bytes.
// Requires: out.size() == count * cols * size of dtype.
void generate_rows(const TensorRecipe& recipe, const RoutingPlan& routing, tensor::DType dtype,
                   std::int64_t first, std::int64_t count, std::span<std::byte> out);
// The same, by all workers of `pool`.
void generate_rows(const TensorRecipe& recipe, const RoutingPlan& routing, tensor::DType dtype,
                   std::int64_t first, std::int64_t count, std::span<std::byte> out,
                   ThreadPool& pool);

// One row in units of 2^-40. Requires: out.size() == cols.
void generate_row(const TensorRecipe& recipe, const RoutingPlan& routing, std::int64_t row,
                  std::span<Fixed> out);

}  // namespace gimbal::synthetic
