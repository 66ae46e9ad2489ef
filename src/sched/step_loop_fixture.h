#pragma once

#include <utility>
#include <vector>

#include "base/hash.h"
#include "sched/loop_driver.h"

namespace gimbal::sched {

inline constexpr int kVocab = 997;

inline StepLoopOptions small_options() {
  StepLoopOptions options;
  options.order = "fcfs";
  options.former = "vllm";
  options.max_model_len = 64;
  options.vocab_size = kVocab;
  options.kv_pages = 64;
  options.page_tokens = 4;
  options.max_num_batched_tokens = 32;
  return options;
}

// Prompts of different `first` share no page, and after none of them the model stops by itself.
inline std::vector<TokenId> prompt(int first, int length) {
  for (int salt = first * 1000;; ++salt) {
    Request request;
    for (int i = 0; i < length; ++i) {
      const auto word =
          hash_combine(static_cast<std::uint64_t>(salt), static_cast<std::uint64_t>(i));
      request.prompt.push_back(static_cast<TokenId>(word % kVocab));
    }
    request.max_tokens = 24;
    FinishReason finish{};
    static_cast<void>(ScriptedExecutor::generate(request, kVocab, &finish));
    if (finish == FinishReason::kLength) return request.prompt;
  }
}

inline Event submit_event(LoopDriver& driver, std::vector<TokenId> tokens, int max_tokens) {
  Request request;
  request.id = driver.next_id();
  request.prompt = std::move(tokens);
  request.max_tokens = max_tokens;
  return SubmitGroup{{std::move(request)}};
}

}  // namespace gimbal::sched
