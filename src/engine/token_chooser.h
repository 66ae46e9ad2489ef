#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/executor_batch.h"
#include "engine/sampler.h"
#include "kernels/kernel_context.h"
#include "model/forward.h"
#include "sched/batch_executor.h"
#include "tensor/buffer.h"

namespace gimbal::engine {

// The end of a step: logits of the rows that need them, then a token for every sequence that
// samples, and log-probabilities of prompt tokens where they were asked for. Logits are computed a
// block of rows at a time, so memory does not grow with the batch. One thread.
class TokenChooser {
 public:
  // Sees the raw logits, f32 [vocab], that follow position `position` of a sequence, before its
  // next token is chosen.
  using LogitsObserver =
      std::function<void(RequestId, std::int32_t position, std::span<const float> logits)>;

  TokenChooser(const model::Model& model, const kernels::KernelContext& context);

  void set_observer(LogitsObserver observer) { observer_ = std::move(observer); }

  // One result a sequence, in the batch's order. Requires: the batch has passed all layers.
  [[nodiscard]] std::vector<sched::SequenceResult> choose(ExecutorBatch& batch,
                                                          model::StageWorkspace& workspace);

 private:
  // A row whose logits are wanted.
  struct WantedRow {
    std::int32_t row = 0;       // in the batch
    std::int32_t position = 0;  // in its sequence
    int sequence = 0;           // in the batch
    bool samples = false;       // else it scores the prompt token at position + 1
    std::size_t score = 0;      // index into the result's prompt_logprobs
  };

  void collect(const ExecutorBatch& batch, std::vector<sched::SequenceResult>& results);
  void use_logits(const WantedRow& wanted, const ExecutorSequence& sequence,
                  std::span<float> logits, Sampler& sampler, sched::SequenceResult& result) const;

  const model::Model& model_;
  kernels::KernelContext context_;
  tensor::Buffer logits_;          // f32 [block, vocab]
  std::vector<Sampler> samplers_;  // one a worker
  std::vector<WantedRow> wanted_;
  std::vector<std::int32_t> rows_;
  LogitsObserver observer_;
};

}  // namespace gimbal::engine
