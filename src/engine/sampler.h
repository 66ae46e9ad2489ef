#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "sched/request.h"

namespace gimbal::engine {

// What the choice of one token depends on, beside its logits.
struct SamplingContext {
  const sched::SamplingParams* params = nullptr;
  std::span<const TokenId> tokens;   // prompt and generated so far
  std::int32_t prompt_tokens = 0;    // of `tokens`, how many came with the request
  std::span<const TokenId> eos_ids;  // the model's end-of-sequence ids
};

struct SampledToken {
  TokenId token = 0;
  std::unique_ptr<sched::TokenLogprobs> logprobs;  // where params.logprobs >= 0
};

// The most probable tokens and the chosen one's place, from raw logits [vocab].
[[nodiscard]] sched::TokenLogprobs token_logprobs(std::span<const float> logits, TokenId token,
                                                  int top);

// True if `token` ends the sequence for this request.
[[nodiscard]] bool is_stop_token(TokenId token, const SamplingContext& context);

// Chooses tokens. In this order: logit bias; repetition, presence and frequency penalties; no end
// before min_tokens; temperature; min-p; top-k; top-p; then one uniform number from Philox with key
// (seed, choice) and counter = position, so that no schedule can change the choice.
// Reported log-probabilities are those of the raw logits. One thread each; keeps scratch memory.
class Sampler {
 public:
  explicit Sampler(std::int64_t vocab_size);

  // `logits` [vocab] is overwritten. Requires: params in the ranges that sched::SamplingParams
  // states.
  SampledToken sample(std::span<float> logits, const SamplingContext& context);

 private:
  struct Candidate {
    TokenId token;
    float weight;  // exp(logit - max)
  };

  void apply_bias_and_penalties(std::span<float> logits, const SamplingContext& context);
  void collect(std::span<const float> logits, float max, const sched::SamplingParams& params);
  void keep_top_k(std::size_t k);
  void keep_top_p(float top_p);
  [[nodiscard]] TokenId draw(float uniform) const;

  std::vector<Candidate> candidates_;
  std::vector<std::int32_t> prompt_counts_;     // by token; all zero between calls
  std::vector<std::int32_t> generated_counts_;  // by token; all zero between calls
};

}  // namespace gimbal::engine
