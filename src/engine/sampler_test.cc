#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "base/random.h"

namespace gimbal::engine {
namespace {

std::vector<float> random_logits(std::uint64_t seed, int vocab) {
  Rng rng(seed);
  std::vector<float> logits(vocab);
  for (float& logit : logits)
    logit = static_cast<float>(rng.uniform() * 8 - 4);
  return logits;
}

TokenId choose(std::vector<float> logits, const sched::SamplingParams& params,
               const std::vector<TokenId>& tokens = {1}, std::vector<TokenId> eos = {}) {
  Sampler sampler(static_cast<std::int64_t>(logits.size()));
  return sampler
      .sample(logits, {.params = &params, .tokens = tokens, .prompt_tokens = 1, .eos_ids = eos})
      .token;
}

TEST(Sampler, GreedyTakesTheFirstOfTheLargest) {
  EXPECT_EQ(choose({0, 3, 3, 1}, {.temperature = 0}), 1);
  EXPECT_EQ(choose({0, std::nanf(""), 3, 1}, {.temperature = 0}), 2);
}

TEST(Sampler, AllLogitsNotANumberStillGivesAToken) {
  const float nan = std::nanf("");
  EXPECT_EQ(choose({nan, nan, nan}, {}), 0);
}

TEST(Sampler, FrequenciesFollowTheSoftmax) {
  const std::vector<float> logits{0.0F, std::log(2.0F), std::log(5.0F)};
  std::map<TokenId, int> counts;
  sched::SamplingParams params;
  for (std::uint64_t seed = 0; seed < 8000; ++seed) {
    params.seed = seed;
    ++counts[choose(logits, params)];
  }
  EXPECT_NEAR(counts[0] / 8000.0, 1 / 8.0, 0.02);
  EXPECT_NEAR(counts[1] / 8000.0, 2 / 8.0, 0.02);
  EXPECT_NEAR(counts[2] / 8000.0, 5 / 8.0, 0.02);
}

TEST(Sampler, ChoiceDependsOnSeedChoiceAndPositionOnly) {
  const auto logits = random_logits(1, 500);
  const sched::SamplingParams params{.temperature = 2.0F, .seed = 7};
  const TokenId first = choose(logits, params, {1, 2, 3});
  EXPECT_EQ(choose(logits, params, {9, 9, 9}), first);
  std::map<TokenId, int> by_choice;
  for (std::uint32_t choice = 0; choice < 20; ++choice) {
    sched::SamplingParams other = params;
    other.choice = choice;
    ++by_choice[choose(logits, other, {1, 2, 3})];
  }
  EXPECT_GT(by_choice.size(), 10U);
}

// Naive filters: sort everything, keep what the definitions keep.
std::vector<TokenId> naive_support(const std::vector<float>& logits,
                                   const sched::SamplingParams& params) {
  std::vector<std::pair<double, TokenId>> all;
  const float max = *std::max_element(logits.begin(), logits.end());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double weight = std::exp((logits[i] - max) / params.temperature);
    if (weight >= params.min_p) all.emplace_back(-weight, static_cast<TokenId>(i));
  }
  std::sort(all.begin(), all.end());
  if (params.top_k > 0 && all.size() > static_cast<std::size_t>(params.top_k)) {
    all.resize(params.top_k);
  }
  double total = 0;
  for (const auto& [weight, token] : all)
    total -= weight;
  std::vector<TokenId> kept;
  double mass = 0;
  for (const auto& [weight, token] : all) {
    if (mass >= params.top_p * total) break;
    mass -= weight;
    kept.push_back(token);
  }
  std::sort(kept.begin(), kept.end());
  return kept;
}

TEST(Sampler, FiltersKeepExactlyTheNaiveSupport) {
  for (std::uint64_t round = 0; round < 30; ++round) {
    Rng rng(round);
    const auto logits = random_logits(round, 300);
    sched::SamplingParams params{.temperature = static_cast<float>(0.3 + rng.uniform() * 2),
                                 .top_p = static_cast<float>(0.2 + rng.uniform() * 0.7),
                                 .top_k = static_cast<int>(rng.below(40)),
                                 .min_p = static_cast<float>(rng.uniform() * 0.1)};
    const auto support = naive_support(logits, params);
    std::map<TokenId, int> seen;
    for (std::uint64_t seed = 0; seed < 2000; ++seed) {
      params.seed = seed;
      const TokenId token = choose(logits, params);
      ++seen[token];
      ASSERT_TRUE(std::binary_search(support.begin(), support.end(), token)) << "round " << round;
    }
    if (support.size() <= 5) {
      EXPECT_EQ(seen.size(), support.size());
    }
  }
}

TEST(Sampler, PenaltiesCountPromptAndGeneratedTokensApart) {
  // Token 1 in the prompt, token 2 generated twice.
  std::vector<float> logits{0, 1, 1, 0.9F};
  const std::vector<TokenId> tokens{1, 2, 2};
  EXPECT_EQ(choose(logits, {.temperature = 0, .presence_penalty = 0.5F}, tokens), 1);
  EXPECT_EQ(choose(logits, {.temperature = 0, .repetition_penalty = 2.0F}, tokens), 3);
  logits[2] = 3;
  EXPECT_EQ(choose(logits, {.temperature = 0, .frequency_penalty = 0.9F}, tokens), 2);
  EXPECT_EQ(choose(logits, {.temperature = 0, .frequency_penalty = 1.1F}, tokens), 1);
}

TEST(Sampler, PenaltyScratchIsCleanBetweenCalls) {
  Sampler sampler(4);
  const sched::SamplingParams params{.temperature = 0, .presence_penalty = 2.0F};
  const std::vector<TokenId> first{0, 3};
  const std::vector<TokenId> second{0, 1};
  std::vector<float> logits{0, 1, 0, 2};
  EXPECT_EQ(sampler.sample(logits, {&params, first, 1, {}}).token, 1);
  logits = {0, 1, 0, 2};
  EXPECT_EQ(sampler.sample(logits, {&params, second, 1, {}}).token, 3);
}

TEST(Sampler, NoEndBeforeMinTokens) {
  const std::vector<float> logits{0, 5, 4, 3};
  const sched::SamplingParams params{
      .temperature = 0, .min_tokens = 2, .ignore_eos = false, .stop_token_ids = {2}};
  EXPECT_EQ(choose(logits, params, {0}, {1}), 3);
  EXPECT_EQ(choose(logits, params, {0, 3, 3}, {1}), 1);
}

TEST(Sampler, EndIdsBeyondTheVocabularyAreLeftAlone) {
  const sched::SamplingParams params{.temperature = 0, .min_tokens = 2};
  EXPECT_EQ(choose({0, 5, 4}, params, {0}, {1, 2000000}), 2);
}

TEST(Sampler, LogitBiasDecides) {
  const sched::SamplingParams params{.temperature = 0, .logit_bias = {{0, 100.0F}, {1, -100.0F}}};
  EXPECT_EQ(choose({0, 50, 3}, params), 0);
}

TEST(Sampler, LogprobsAreThoseOfTheRawLogits) {
  std::vector<float> logits{0.0F, std::log(2.0F), std::log(5.0F)};
  Sampler sampler(3);
  const sched::SamplingParams params{.temperature = 0, .logit_bias = {{0, 100.0F}}, .logprobs = 2};
  const std::vector<TokenId> tokens{1};
  const auto result = sampler.sample(logits, {&params, tokens, 1, {}});
  ASSERT_TRUE(result.logprobs);
  EXPECT_EQ(result.logprobs->token, 0);
  EXPECT_EQ(result.logprobs->rank, 3);
  EXPECT_NEAR(result.logprobs->logprob, std::log(1 / 8.0), 1e-5);
  ASSERT_EQ(result.logprobs->top.size(), 2U);
  EXPECT_EQ(result.logprobs->top[0].first, 2);
  EXPECT_NEAR(result.logprobs->top[0].second, std::log(5 / 8.0), 1e-5);
}

TEST(Sampler, StopTokensAreTheModelsAndTheRequests) {
  const sched::SamplingParams params{.stop_token_ids = {7}};
  const std::vector<TokenId> eos{9};
  const SamplingContext context{
      .params = &params, .tokens = {}, .prompt_tokens = 0, .eos_ids = eos};
  EXPECT_TRUE(is_stop_token(7, context));
  EXPECT_TRUE(is_stop_token(9, context));
  EXPECT_FALSE(is_stop_token(8, context));
  const sched::SamplingParams ignoring{.ignore_eos = true, .stop_token_ids = {7}};
  EXPECT_FALSE(
      is_stop_token(9, {.params = &ignoring, .tokens = {}, .prompt_tokens = 0, .eos_ids = eos}));
}

}  // namespace
}  // namespace gimbal::engine
