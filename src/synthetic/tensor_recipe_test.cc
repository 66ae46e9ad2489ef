#include "synthetic/tensor_recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace gimbal::synthetic {
namespace {

SyntheticOptions small(Family family) {
  SyntheticOptions options = family_defaults(family);
  options.hidden_size = 64;
  options.head_dim = 16;
  options.layers = 2;
  options.vocab_size = 300;
  if (traits_of(family).has_experts) options.topics = 3;
  return options;
}

std::vector<std::byte> bytes_of(const TensorRecipe& recipe, const RoutingPlan& routing,
                                tensor::DType dtype, std::int64_t rows_per_call) {
  const auto row_bytes = static_cast<std::size_t>(recipe.cols()) * tensor::size_of(dtype);
  std::vector<std::byte> out(static_cast<std::size_t>(recipe.rows()) * row_bytes);
  for (std::int64_t row = 0; row < recipe.rows(); row += rows_per_call) {
    const std::int64_t rows = std::min(rows_per_call, recipe.rows() - row);
    generate_rows(recipe, routing, dtype, row, rows,
                  std::span(out).subspan(static_cast<std::size_t>(row) * row_bytes,
                                         static_cast<std::size_t>(rows) * row_bytes));
  }
  return out;
}

TEST(TensorRecipe, BytesDoNotDependOnPiecesOrThreads) {
  const SyntheticOptions options = small(Family::kQwen3Moe);
  const RoutingPlan routing(options);
  ThreadPool pool({.workers = 3, .pin = false});
  for (const auto& recipe : tensor_recipes(options)) {
    for (const auto dtype : {tensor::DType::kBF16, tensor::DType::kF32}) {
      const auto whole = bytes_of(recipe, routing, dtype, recipe.rows());
      ASSERT_EQ(whole, bytes_of(recipe, routing, dtype, 7)) << recipe.name;
      std::vector<std::byte> threaded(whole.size());
      generate_rows(recipe, routing, dtype, 0, recipe.rows(), threaded, pool);
      ASSERT_EQ(whole, threaded) << recipe.name;
    }
  }
}

TEST(TensorRecipe, SeedsAndTensorsDiffer) {
  SyntheticOptions options = small(Family::kLlama);
  const auto recipes = tensor_recipes(options);
  const RoutingPlan routing(options);
  options.seed = 1;
  const auto others = tensor_recipes(options);
  const RoutingPlan other_routing(options);
  std::set<std::vector<std::byte>> seen;
  for (std::size_t i = 0; i < recipes.size(); ++i) {
    seen.insert(bytes_of(recipes[i], routing, tensor::DType::kBF16, 64));
    seen.insert(bytes_of(others[i], other_routing, tensor::DType::kBF16, 64));
  }
  EXPECT_EQ(seen.size(), 2 * recipes.size());
}

TEST(TensorRecipe, NamesAreThoseOfPublishedCheckpoints) {
  const auto names_of = [](Family family) {
    std::set<std::string> names;
    for (const auto& recipe : tensor_recipes(small(family))) {
      EXPECT_TRUE(names.insert(recipe.name).second) << recipe.name;
    }
    return names;
  };
  using testing::Contains;
  using testing::Not;
  EXPECT_THAT(names_of(Family::kMixtral),
              Contains("model.layers.1.block_sparse_moe.experts.7.w2.weight"));
  EXPECT_THAT(names_of(Family::kQwen2Moe),
              Contains("model.layers.0.mlp.shared_expert_gate.weight"));
  EXPECT_THAT(names_of(Family::kQwen2Moe), Contains("model.layers.0.self_attn.q_proj.bias"));
  EXPECT_THAT(names_of(Family::kQwen2Moe), Not(Contains("model.layers.0.self_attn.o_proj.bias")));
  EXPECT_THAT(names_of(Family::kQwen3Moe), Contains("model.layers.0.self_attn.k_norm.weight"));
  EXPECT_THAT(names_of(Family::kOlmoe), Contains("model.layers.0.mlp.experts.0.gate_proj.weight"));
  EXPECT_THAT(names_of(Family::kLlama), Contains("model.layers.0.mlp.down_proj.weight"));
  EXPECT_THAT(names_of(Family::kQwen3), Contains("lm_head.weight"));
}

TEST(TensorRecipe, NormsVaryAroundTheirMean) {
  const SyntheticOptions options = small(Family::kQwen3);
  const RoutingPlan routing(options);
  for (const auto& recipe : tensor_recipes(options)) {
    if (!recipe.name.ends_with("layernorm.weight")) continue;
    std::vector<Fixed> row(static_cast<std::size_t>(recipe.cols()));
    generate_row(recipe, routing, 0, row);
    const auto [low, high] = std::minmax_element(row.begin(), row.end());
    EXPECT_GT(*low, kOne / 4);
    EXPECT_LT(*high, 2 * kOne);
    EXPECT_LT(*low, *high);
  }
}

TEST(TensorRecipe, TokensOfATopicShareADirectionThatTheirExpertsAnswer) {
  SyntheticOptions options = small(Family::kOlmoe);
  options.router_gain = 0.01;
  options.topic_strength = 64;
  const RoutingPlan routing(options);
  const auto recipes = tensor_recipes(options);
  const auto router = std::find_if(recipes.begin(), recipes.end(), [](const auto& recipe) {
    return recipe.directions == Directions::kRouter;
  });
  std::set<std::size_t> favourites;
  for (int topic = 0; topic < 3; ++topic) {
    std::vector<double> answers;
    for (int expert = 0; expert < options.experts; ++expert) {
      std::vector<Fixed> row(64);
      generate_row(*router, routing, expert, row);
      double answer = 0;
      for (int i = 0; i < 64; ++i) {
        answer +=
            static_cast<double>(row[static_cast<std::size_t>(i)]) * routing.sign(1 + topic, i);
      }
      answers.push_back(answer);
    }
    favourites.insert(static_cast<std::size_t>(std::max_element(answers.begin(), answers.end()) -
                                               answers.begin()));
  }
  EXPECT_EQ(favourites.size(), 3U);
  EXPECT_EQ(routing.topic_of(0), 0);
  EXPECT_EQ(routing.topic_of(299), 2);
}

TEST(TensorRecipe, PredecessorsAreOfTheSameTopicAndEveryTokenHasSuccessors) {
  for (const int topics : {0, 3, 7}) {
    SyntheticOptions options = small(Family::kOlmoe);
    options.topics = topics;
    const RoutingPlan routing(options);
    std::multiset<std::int64_t> all;
    std::vector<std::int64_t> predecessors;
    for (std::int64_t token = 0; token < options.vocab_size; ++token) {
      routing.predecessors(token, predecessors);
      for (const auto predecessor : predecessors) {
        ASSERT_EQ(routing.topic_of(predecessor), routing.topic_of(token)) << token;
        all.insert(predecessor);
      }
    }
    for (std::int64_t token = 0; token < options.vocab_size; ++token) {
      ASSERT_EQ(all.count(token), predecessors.size()) << token;
    }
  }
}

}  // namespace
}  // namespace gimbal::synthetic
