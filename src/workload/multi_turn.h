#pragma once

#include <cstdint>

#include "base/random.h"
#include "base/result.h"
#include "workload/request_spec.h"
#include "workload/transforms.h"

namespace gimbal::workload {

// Users who hold conversations. Each prompt repeats the conversation so far: a system prompt that
// some users share, earlier messages and answers, and a new message.
struct MultiTurnOptions {
  std::int64_t num_prompts = 1000;
  UserOptions users = {.users = 64};
  int system_prompts = 4;  // user u has number u mod this; 0: none
  std::int64_t system_tokens = 256;
  double mean_turns = 4.0;            // of a conversation, geometric
  double mean_message_tokens = 64.0;  // log-normal
  double mean_answer_tokens = 150.0;  // log-normal
  double length_sigma = 0.8;          // deviation of the logarithm of both
  double mean_think_seconds = 10.0;   // between an arrival and the user's next, exponential
  double mean_pause_seconds = 60.0;   // before a user's next conversation, exponential
  double return_probability = 0.3;    // a user takes up the last conversation instead of a new one
  std::int64_t max_prompt_tokens = 2048;  // a conversation that would grow beyond it ends
};
[[nodiscard]] Result<void> validate(const MultiTurnOptions& options);

// The first num_prompts requests in order of arrival. Open loop: a user does not wait for answers,
// and the answers in a prompt are made up, so what a server generated itself is not hit again;
// earlier prompts are. Times are the users' own; rescale_arrivals sets a rate. Requires:
// validate(options).ok().
[[nodiscard]] Workload generate_multi_turn(const MultiTurnOptions& options, Rng& rng);

}  // namespace gimbal::workload
