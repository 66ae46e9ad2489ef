#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/hash.h"
#include "base/random.h"

namespace gimbal::engine {
namespace {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();

// The first of the largest logits; NaN is never chosen.
TokenId arg_max(std::span<const float> logits) {
  TokenId best = 0;
  float best_logit = kImpossible;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > best_logit) {
      best_logit = logits[i];
      best = static_cast<TokenId>(i);
    }
  }
  return best;
}

std::int32_t generated_tokens(const SamplingContext& context) {
  return static_cast<std::int32_t>(context.tokens.size()) - context.prompt_tokens;
}

}  // namespace

sched::TokenLogprobs token_logprobs(std::span<const float> logits, TokenId token, int top) {
  const float max = logits[arg_max(logits)];
  double sum = 0;
  int rank = 1;
  const float own = logits[token];
  for (const float logit : logits) {
    sum += std::exp(static_cast<double>(logit - max));
    rank += logit > own ? 1 : 0;
  }
  const auto log_sum = static_cast<float>(std::log(sum)) + max;
  sched::TokenLogprobs result{.token = token, .logprob = own - log_sum, .rank = rank, .top = {}};
  if (top > 0) {
    std::vector<TokenId> order(logits.size());
    for (std::size_t i = 0; i < order.size(); ++i)
      order[i] = static_cast<TokenId>(i);
    const auto count = std::min<std::size_t>(top, order.size());
    const auto stronger = [&](TokenId a, TokenId b) {
      return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
    };
    std::partial_sort(order.begin(), order.begin() + count, order.end(), stronger);
    for (std::size_t i = 0; i < count; ++i) {
      result.top.emplace_back(order[i], logits[order[i]] - log_sum);
    }
  }
  return result;
}

bool is_stop_token(TokenId token, const SamplingContext& context) {
  const sched::SamplingParams& params = *context.params;
  const auto holds = [token](const auto& ids) {
    return std::find(ids.begin(), ids.end(), token) != ids.end();
  };
  return holds(params.stop_token_ids) || (!params.ignore_eos && holds(context.eos_ids));
}

Sampler::Sampler(std::int64_t vocab_size)
    : prompt_counts_(vocab_size), generated_counts_(vocab_size) {}

void Sampler::apply_bias_and_penalties(std::span<float> logits, const SamplingContext& context) {
  const sched::SamplingParams& params = *context.params;
  for (const auto& [token, bias] : params.logit_bias)
    logits[token] += bias;

  const bool counts_matter = params.repetition_penalty != 1.0F || params.presence_penalty != 0.0F ||
                             params.frequency_penalty != 0.0F;
  if (counts_matter) {
    const auto prompt = static_cast<std::size_t>(context.prompt_tokens);
    for (std::size_t i = 0; i < context.tokens.size(); ++i) {
      ++(i < prompt ? prompt_counts_ : generated_counts_)[context.tokens[i]];
    }
    for (const TokenId token : context.tokens) {
      const int generated = generated_counts_[token];
      if (generated == 0 && prompt_counts_[token] == 0) continue;  // penalised already
      float& logit = logits[token];
      logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
      logit -= params.frequency_penalty * static_cast<float>(generated);
      if (generated > 0) logit -= params.presence_penalty;
      prompt_counts_[token] = 0;
      generated_counts_[token] = 0;
    }
  }
  if (generated_tokens(context) < params.min_tokens) {
    for (const TokenId token : params.stop_token_ids)
      logits[token] = kImpossible;
    for (const TokenId token : context.eos_ids) {
      // A checkpoint may name ids beyond its own vocabulary.
      if (static_cast<std::size_t>(token) < logits.size()) logits[token] = kImpossible;
    }
  }
}

void Sampler::collect(std::span<const float> logits, float max,
                      const sched::SamplingParams& params) {
  candidates_.clear();
  const float scale = 1.0F / params.temperature;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const float weight = std::exp((logits[i] - max) * scale);
    // The strongest token has weight 1, so min-p is a bound on the weight itself.
    if (weight > 0 && weight >= params.min_p) {
      candidates_.push_back({static_cast<TokenId>(i), weight});
    }
  }
}

void Sampler::keep_top_k(std::size_t k) {
  if (k >= candidates_.size()) return;
  std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(k),
                   candidates_.end(), [](const Candidate& a, const Candidate& b) {
                     return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
                   });
  candidates_.resize(k);
}

void Sampler::keep_top_p(float top_p) {
  const auto stronger = [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
  };
  double total = 0;
  for (const Candidate& candidate : candidates_)
    total += static_cast<double>(candidate.weight);
  // Few tokens usually hold most of the mass, so sort a growing head instead of everything.
  double mass = 0;
  std::size_t sorted = 0;
  for (std::size_t head = 64; sorted < candidates_.size(); head *= 4) {
    const std::size_t end = std::min(head, candidates_.size());
    std::partial_sort(candidates_.begin() + static_cast<std::ptrdiff_t>(sorted),
                      candidates_.begin() + static_cast<std::ptrdiff_t>(end), candidates_.end(),
                      stronger);
    for (; sorted < end; ++sorted) {
      mass += static_cast<double>(candidates_[sorted].weight);
      if (mass >= static_cast<double>(top_p) * total) {
        candidates_.resize(sorted + 1);
        return;
      }
    }
  }
}

TokenId Sampler::draw(float uniform) const {
  double total = 0;
  for (const Candidate& candidate : candidates_)
    total += static_cast<double>(candidate.weight);
  double rest = static_cast<double>(uniform) * total;
  for (const Candidate& candidate : candidates_) {
    rest -= static_cast<double>(candidate.weight);
    if (rest < 0) return candidate.token;
  }
  return candidates_.back().token;
}

SampledToken Sampler::sample(std::span<float> logits, const SamplingContext& context) {
  GIMBAL_CHECK(logits.size() == prompt_counts_.size());
  const sched::SamplingParams& params = *context.params;
  std::vector<float> raw;
  if (params.logprobs >= 0) raw.assign(logits.begin(), logits.end());

  apply_bias_and_penalties(logits, context);
  SampledToken result;
  result.token = arg_max(logits);
  if (params.temperature > 0) {
    collect(logits, logits[result.token], params);
    // Nothing is left where every logit is NaN or -infinity: keep the arg-max's answer.
    if (!candidates_.empty()) {
      const std::size_t all = candidates_.size();
      if (params.top_k > 0) keep_top_k(static_cast<std::size_t>(params.top_k));
      if (params.top_p < 1.0F) keep_top_p(params.top_p);
      // Back into vocabulary order, so that the draw is a function of the logits alone.
      if (params.top_p < 1.0F || candidates_.size() < all) {
        std::sort(candidates_.begin(), candidates_.end(),
                  [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
      }
      result.token = draw(philox_uniform(hash_combine(params.seed, params.choice), 0,
                                         static_cast<std::uint64_t>(context.tokens.size())));
    }
  }
  if (params.logprobs >= 0) {
    result.logprobs =
        std::make_unique<sched::TokenLogprobs>(token_logprobs(raw, result.token, params.logprobs));
  }
  return result;
}

}  // namespace gimbal::engine
