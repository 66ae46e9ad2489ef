#include "synthetic/routing_estimate.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/random.h"
#include "synthetic/tensor_recipe.h"

namespace gimbal::synthetic {
namespace {

constexpr double kUnit = 1.0 / static_cast<double>(kOne);
constexpr double kNoiseDeviation = 37837.2;  // of irwin_hall()
constexpr int kBatch = 32;
constexpr double kMaxMultiplyAdds = 1e9;

std::vector<float> row_of(const TensorRecipe& recipe, const RoutingPlan& routing,
                          std::int64_t row) {
  std::vector<Fixed> fixed(static_cast<std::size_t>(recipe.cols()));
  generate_row(recipe, routing, row, fixed);
  std::vector<float> out;
  for (const Fixed value : fixed) {
    out.push_back(static_cast<float>(static_cast<double>(value) * kUnit));
  }
  return out;
}

float dot(const std::vector<float>& a, const std::vector<float>& b) {
  float sums[8] = {};
  std::size_t i = 0;
  for (; i + 8 <= a.size(); i += 8) {
    for (std::size_t lane = 0; lane < 8; ++lane) {
      sums[lane] += a[i + lane] * b[i + lane];
    }
  }
  for (; i < a.size(); ++i) {
    sums[0] += a[i] * b[i];
  }
  return std::accumulate(std::begin(sums), std::end(sums), 0.0F);
}

// The recipes that routing needs.
struct RouterParts {
  const TensorRecipe* embedding = nullptr;
  std::vector<const TensorRecipe*> routers;
  std::vector<const TensorRecipe*> norms;  // the one before each router
};

RouterParts parts_of(const std::vector<TensorRecipe>& recipes) {
  RouterParts parts;
  const TensorRecipe* norm = nullptr;
  for (const auto& recipe : recipes) {
    if (recipe.directions == Directions::kEmbedding) parts.embedding = &recipe;
    if (recipe.name.ends_with("post_attention_layernorm.weight")) norm = &recipe;
    if (recipe.directions == Directions::kRouter) {
      parts.routers.push_back(&recipe);
      parts.norms.push_back(norm);
    }
  }
  return parts;
}

// Which experts each sampled token gets in one layer: [tokens][top_k].
std::vector<int> choices(const SyntheticOptions& o, const RoutingPlan& routing,
                         const std::vector<std::vector<float>>& embeddings,
                         const TensorRecipe& router, const TensorRecipe& norm) {
  std::vector<std::vector<float>> experts;
  const std::vector<float> scale = row_of(norm, routing, 0);
  for (int expert = 0; expert < o.experts; ++expert) {
    experts.push_back(row_of(router, routing, expert));
    for (std::size_t i = 0; i < scale.size(); ++i) {
      experts.back()[i] *= scale[i];
    }
  }
  std::vector<int> chosen;
  std::vector<float> logits(static_cast<std::size_t>(o.experts));
  std::vector<int> order(static_cast<std::size_t>(o.experts));
  const double target = static_cast<double>(routing.energy_before_router(router.layer)) / 256;
  for (std::size_t token = 0; token < embeddings.size(); ++token) {
    std::vector<float> row = embeddings[token];
    const double energy = dot(row, row) / static_cast<double>(row.size());
    const auto noise =
        static_cast<float>(std::sqrt(std::max(0.0, target - energy)) / kNoiseDeviation);
    const std::uint64_t key = hash_combine(hash_combine(o.seed, router.key), token);
    for (std::size_t i = 0; i < row.size(); ++i) {
      row[i] += noise * static_cast<float>(irwin_hall(hash_combine(key, i)));
    }
    // The norm's division by the row's size does not change which experts are best.
    for (std::size_t expert = 0; expert < experts.size(); ++expert) {
      logits[expert] = dot(row, experts[expert]);
    }
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(
        order.begin(), order.begin() + o.experts_per_token, order.end(), [&logits](int a, int b) {
          return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
        });
    chosen.insert(chosen.end(), order.begin(), order.begin() + o.experts_per_token);
  }
  return chosen;
}

struct Load {
  double distinct = 0;
  double max_over_mean = 0;
};

// Of the tokens named by `tokens`, in batches of kBatch in the order given.
Load load_of(const std::vector<int>& chosen, const std::vector<int>& tokens, int experts,
             int top_k) {
  std::vector<int> rows(static_cast<std::size_t>(experts));
  std::vector<int> last_batch(static_cast<std::size_t>(experts), -1);
  int distinct = 0;
  const int batches = std::max<int>(1, static_cast<int>(tokens.size()) / kBatch);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const int batch = static_cast<int>(i) / kBatch;
    for (int k = 0; k < top_k; ++k) {
      const auto expert = static_cast<std::size_t>(
          chosen[static_cast<std::size_t>(tokens[i]) * static_cast<std::size_t>(top_k) +
                 static_cast<std::size_t>(k)]);
      ++rows[expert];
      if (batch < batches && last_batch[expert] != batch) {
        last_batch[expert] = batch;
        ++distinct;
      }
    }
  }
  const double mean = static_cast<double>(tokens.size()) * top_k / experts;
  return {static_cast<double>(distinct) / batches,
          static_cast<double>(*std::max_element(rows.begin(), rows.end())) / mean};
}

// Sampled tokens by topic, and all of them so that a batch mixes the topics.
struct Samples {
  std::vector<std::vector<float>> embeddings;
  std::vector<int> mixed;
  std::vector<std::vector<int>> by_topic;
};

Samples sample(const SyntheticOptions& o, const RoutingPlan& routing, const TensorRecipe& embedding,
               std::size_t layers) {
  const double per_token = static_cast<double>(layers) * o.experts * o.hidden_size;
  const int count = std::min(
      o.vocab_size, static_cast<int>(std::clamp(kMaxMultiplyAdds / per_token, 64.0, 2048.0)));
  Samples samples;
  samples.by_topic.resize(static_cast<std::size_t>(std::max(1, routing.topics())));
  for (int i = 0; i < count; ++i) {
    const std::int64_t token = static_cast<std::int64_t>(i) * o.vocab_size / count;
    samples.embeddings.push_back(row_of(embedding, routing, token));
    samples.mixed.push_back(i);
    samples.by_topic[static_cast<std::size_t>(routing.topic_of(token))].push_back(i);
  }
  Rng rng(o.seed);
  for (std::size_t i = samples.mixed.size(); i > 1; --i) {
    std::swap(samples.mixed[i - 1], samples.mixed[rng.below(i)]);
  }
  return samples;
}

}  // namespace

RoutingEstimate estimate_routing(const SyntheticOptions& options, const RoutingPlan& routing,
                                 ThreadPool& pool) {
  RoutingEstimate estimate;
  const std::vector<TensorRecipe> recipes = tensor_recipes(options);
  const RouterParts parts = parts_of(recipes);
  if (parts.routers.empty()) return estimate;
  const Samples samples = sample(options, routing, *parts.embedding, parts.routers.size());
  std::vector<std::vector<int>> chosen(parts.routers.size());
  pool.run(static_cast<int>(chosen.size()), [&](int task, int) {
    const auto layer = static_cast<std::size_t>(task);
    chosen[layer] =
        choices(options, routing, samples.embeddings, *parts.routers[layer], *parts.norms[layer]);
  });
  const auto layers = static_cast<double>(chosen.size());
  estimate.moe_layers = static_cast<int>(chosen.size());
  estimate.tokens = static_cast<int>(samples.embeddings.size());
  estimate.batch = std::min(kBatch, estimate.tokens);
  for (const auto& layer : chosen) {
    const Load all = load_of(layer, samples.mixed, options.experts, options.experts_per_token);
    estimate.distinct += all.distinct / layers;
    estimate.max_over_mean += all.max_over_mean / layers;
    int topics = 0;
    Load sum;
    for (const auto& tokens : samples.by_topic) {
      if (tokens.empty()) continue;
      const Load one = load_of(layer, tokens, options.experts, options.experts_per_token);
      sum.distinct += one.distinct;
      sum.max_over_mean += one.max_over_mean;
      ++topics;
    }
    estimate.distinct_one_topic += sum.distinct / topics / layers;
    estimate.max_over_mean_one_topic += sum.max_over_mean / topics / layers;
  }
  return estimate;
}

}  // namespace gimbal::synthetic
