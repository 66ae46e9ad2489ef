#include "engine/token_chooser.h"

#include <algorithm>

namespace gimbal::engine {
namespace {

// Rows of logits at once: enough to read the output matrix seldom, few enough to stay small.
constexpr std::int64_t kBlockRows = 64;

}  // namespace

TokenChooser::TokenChooser(const model::Model& model, const kernels::KernelContext& context)
    : model_(model),
      context_(context),
      logits_(static_cast<std::size_t>(kBlockRows * model.config().vocab_size) * sizeof(float),
              tensor::PageKind::kSmall) {
  for (int worker = 0; worker < context.pool.workers(); ++worker) {
    samplers_.emplace_back(model.config().vocab_size);
  }
}

void TokenChooser::collect(const ExecutorBatch& batch,
                           std::vector<sched::SequenceResult>& results) {
  wanted_.clear();
  for (std::size_t i = 0; i < batch.sequences.size(); ++i) {
    const ExecutorSequence& sequence = batch.sequences[i];
    const sched::SequenceStep& step = sequence.step;
    results[i].request = step.request;
    const auto want = [&](std::int32_t row, bool samples) {
      wanted_.push_back({.row = static_cast<std::int32_t>(sequence.first_row) + row,
                         .position = step.position + row,
                         .sequence = static_cast<int>(i),
                         .samples = samples,
                         .score = results[i].prompt_logprobs.size()});
    };
    if (step.sampling->prompt_logprobs) {
      for (std::int32_t row = 0; row < step.rows; ++row) {
        if (step.position + row + 1 >= step.prompt_tokens) break;
        want(row, false);
        results[i].prompt_logprobs.emplace_back();
      }
    }
    if (step.samples) want(step.rows - 1, true);
  }
}

void TokenChooser::use_logits(const WantedRow& wanted, const ExecutorSequence& sequence,
                              std::span<float> logits, Sampler& sampler,
                              sched::SequenceResult& result) const {
  const sched::SequenceStep& step = sequence.step;
  if (!wanted.samples) {
    result.prompt_logprobs[wanted.score] = token_logprobs(logits, step.tokens[wanted.position + 1],
                                                          std::max(0, step.sampling->logprobs));
    return;
  }
  const SamplingContext context{.params = step.sampling,
                                .tokens = step.tokens,
                                .prompt_tokens = step.prompt_tokens,
                                .eos_ids = model_.config().eos_token_ids};
  SampledToken sampled = sampler.sample(logits, context);
  result.token = sampled.token;
  result.logprobs = std::move(sampled.logprobs);
  const auto generated = static_cast<std::int32_t>(step.tokens.size()) - step.prompt_tokens;
  if (generated >= step.sampling->min_tokens && is_stop_token(sampled.token, context)) {
    result.finish = sched::FinishReason::kStop;
  }
}

std::vector<sched::SequenceResult> TokenChooser::choose(ExecutorBatch& batch,
                                                        model::StageWorkspace& workspace) {
  std::vector<sched::SequenceResult> results(batch.sequences.size());
  collect(batch, results);
  const std::int64_t vocab = model_.config().vocab_size;
  for (std::size_t begin = 0; begin < wanted_.size(); begin += kBlockRows) {
    const std::size_t count = std::min<std::size_t>(kBlockRows, wanted_.size() - begin);
    const std::span<const WantedRow> block(&wanted_[begin], count);
    rows_.clear();
    for (const WantedRow& wanted : block)
      rows_.push_back(wanted.row);
    const tensor::MatrixView logits{logits_.data(), tensor::DType::kF32,
                                    static_cast<std::int64_t>(count), vocab, vocab};
    model_.logits(context_, rows_, batch.rows, workspace, logits);
    if (observer_) {
      for (std::size_t i = 0; i < count; ++i) {
        if (!block[i].samples) continue;
        observer_(batch.sequences[block[i].sequence].step.request, block[i].position,
                  {logits.row_as<float>(i), static_cast<std::size_t>(vocab)});
      }
    }
    // One task a row: no two rows write to the same place of a result.
    context_.run(static_cast<int>(count), [&](int task, int worker) {
      const WantedRow& wanted = block[task];
      use_logits(wanted, batch.sequences[wanted.sequence],
                 {logits.row_as<float>(task), static_cast<std::size_t>(vocab)}, samplers_[worker],
                 results[wanted.sequence]);
    });
  }
  return results;
}

}  // namespace gimbal::engine
