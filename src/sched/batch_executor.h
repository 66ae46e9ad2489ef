#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/cursor.h"
#include "base/ids.h"
#include "sched/expert_post.h"
#include "sched/request.h"

namespace gimbal::sched {

// The rows of one sequence in one step: a chunk of its prompt, or one decode.
// The spans point into the request table and stay valid until the step has finished.
struct SequenceStep {
  RequestId request;
  RequestClass request_class = RequestClass::kLatencySensitive;
  std::span<const TokenId> tokens;  // all tokens known, prompt and generated
  std::int32_t position = 0;        // of the first row; rows are tokens[position, position + rows)
  std::int32_t rows = 0;            // >= 1
  std::span<const PageId> pages;    // block table; covers positions [0, position + rows)
  std::int32_t prompt_tokens = 0;   // of `tokens`, the first that many came with the request
  bool samples = false;             // the last row is the newest known token: choose the next one
  const SamplingParams* sampling = nullptr;
};

// One step's batch: a ragged list of rows, any mix of prefill chunks and decodes. BatchIds are not
// reused while the batch lives.
struct StepPlan {
  BatchId batch;
  std::vector<SequenceStep> sequences;
  // The gang step that it is part of, and the ranks that are, a bit each (docs/design/0010).
  std::uint64_t gang_step = kSolo;
  std::uint64_t gang_members = 0;
};

// What a step gave one sequence.
struct SequenceResult {
  RequestId request;
  std::optional<TokenId> token;                // with SequenceStep::samples
  std::optional<FinishReason> finish;          // the token ended the sequence (end or stop id)
  std::unique_ptr<TokenLogprobs> logprobs;     // with SamplingParams::logprobs >= 0
  std::vector<TokenLogprobs> prompt_logprobs;  // of this chunk's rows, where asked for
};

// A batch stands at a stage boundary: at the lease's end, or earlier after a yield.
struct StageReached {
  BatchId batch;
  Cursor cursor;
};

// A batch has run all its stages and its tokens are chosen. Times leave waits out of the first two.
struct StepFinished {
  BatchId batch;
  std::vector<SequenceResult> sequences;  // in the plan's order
  Duration attention{};                   // spent in the ranks's own stages
  Duration service{};                     // spent in expert services
  Duration wait{};                        // spent waiting for experts elsewhere
  // Experts whose weights were read for its rows, summed over layers and runs; 0: a dense model.
  std::int64_t distinct_experts = 0;
};

// A batch cannot go on (a device error): its sequences have failed, the engine stays.
struct StepFailed {
  BatchId batch;
  std::string message;
};

using ExecutorEvent = std::variant<StageReached, StepFinished, StepFailed>;

// Runs batches stage by stage: engine::ModelExecutor on a device, sim::CostModelExecutor on a
// virtual clock. Every call returns at once; what happens is told later by an ExecutorEvent. A
// batch is in one of the states running (holds a lease), standing (at a boundary, no lease) or
// suspended. At most one batch of an engine runs. One thread: the engine's.
class BatchExecutor {
 public:
  virtual ~BatchExecutor() = default;

  // Makes a standing batch at Cursor{}. The plan is copied; what its spans point at is not.
  virtual void start(const StepPlan& plan) = 0;
  // Grants a lease: run the standing batch until it stands at `until`. Answered by StageReached.
  virtual void advance(BatchId batch, Cursor until) = 0;
  // Ends a lease at the next boundary. No effect on a batch that stands there already.
  virtual void yield(BatchId batch) = 0;
  // Parks a standing batch: its rows are kept, its place among runnable batches is given up.
  virtual void suspend(BatchId batch) = 0;
  // Makes a suspended batch stand again, where it stood.
  virtual void resume(BatchId batch) = 0;
  // Moves the rows of `from` to the end of `into`; `from` is gone, and its gang step left.
  // Requires: both stand at the same cursor.
  virtual void merge(BatchId into, BatchId from) = 0;
  // Moves the rows of `sequences` (a proper, non-empty subset) from `from` into the new standing
  // batch `to`, at the same cursor.
  virtual void split(BatchId from, std::span<const RequestId> sequences, BatchId to) = 0;
  // Drops the sequences from a standing or suspended batch (cancelled or evicted); a batch that
  // loses its last sequence is gone.
  virtual void drop(BatchId batch, std::span<const RequestId> sequences) = 0;
  // Ends a batch that stands at Cursor::end: chooses tokens. Answered by StepFinished.
  virtual void finish(BatchId batch) = 0;

  [[nodiscard]] virtual int layers() const = 0;
};

}  // namespace gimbal::sched
