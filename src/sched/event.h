#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "policy/gang_planner.h"
#include "sched/batch_executor.h"
#include "sched/order_decision.h"
#include "sched/request.h"

namespace gimbal::sched {

// The sequences that one API request asks for, accepted or refused as a whole. Choices of one
// prompt stand side by side: see group_prefill_tokens().
struct SubmitGroup {
  std::vector<Request> requests;
};
struct CancelRequest {
  RequestId request;
};
// While draining new requests are refused; those accepted before go on.
struct SetDraining {
  bool draining = true;
};
// The answer to an intent: the step may start, as part of a gang step or alone.
struct StartStep {
  std::uint64_t number = 0;           // of the answer; of the gang step, where there are members
  std::uint64_t members = 0;          // of the gang step, a bit a rank; 0: solo
  std::optional<int> prefill_budget;  // prefill rows of the step; nullopt: as the former wants
  double expected_ms = 0;             // of the step, with all its members; 0: not known
};

// All that reaches a StepLoop.
using Event = std::variant<SubmitGroup, CancelRequest, SetDraining, StartStep, StageReached,
                           StepFinished, StepFailed>;

// What became known of one request. A request gets any number of these, at most one of them with a
// token for each step, and exactly one, the last, with `finish`.
struct TokenNews {
  RequestId request;
  std::optional<TokenId> token;
  std::unique_ptr<TokenLogprobs> logprobs;     // of `token`, where asked for
  std::vector<TokenLogprobs> prompt_logprobs;  // positions in order, the first token has no entry
  std::optional<FinishReason> finish;
  std::string error;               // with FinishReason::kFailed: what happened
  std::int32_t cached_tokens = 0;  // prompt tokens found in the prefix cache at first admission
};

// A request that was not accepted: nothing else is said of it.
struct Refusal {
  RequestId request;
  Error error;
};

// What a StepLoop says in answer to events; commands to the executor are given directly.
struct Outputs {
  std::vector<TokenNews> news;
  std::vector<Refusal> refusals;
  // By the step that is planned now: who got pages, for the first time or again, and before them
  // who lost theirs and waits again.
  std::vector<RequestId> admitted;
  std::vector<RequestId> evicted;
  std::vector<OrderDecision> ordered;  // with StepLoopOptions::report_order
  // With StepLoopOptions::asks_before_steps: what the next step would be; the answer is a
  // StartStep. All but the rank.
  std::optional<policy::GangMember> intent;
  // The step that this answer started has ended, or nothing was left to run.
  std::optional<StartStep> ended;
  bool declined = false;  // nothing of it was run: the others must not wait for this rank's rows
};

}  // namespace gimbal::sched
