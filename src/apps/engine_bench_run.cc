#include "apps/engine_bench_run.h"

#include <algorithm>
#include <cmath>
#include <variant>

#include "base/check.h"
#include "kernels/kv_cache.h"

namespace gimbal::apps {
namespace {

constexpr int kChunkRows = 512;  // of the prompts before decodes

std::int64_t pages_of(std::int64_t tokens) {
  return (tokens + kernels::kPageTokens - 1) / kernels::kPageTokens;
}

std::int64_t total_pages(const EngineBenchRun::Sizes& sizes) {
  const std::int64_t decodes = sizes.batch * pages_of(sizes.depth + sizes.generate_tokens);
  return std::max<std::int64_t>(1, decodes + pages_of(sizes.prompt_tokens));
}

engine::ModelExecutorOptions executor_options(const EngineBenchRun::Sizes& sizes) {
  const int rows =
      std::max({1, sizes.prompt_tokens, sizes.batch, std::min(sizes.depth, kChunkRows)});
  return {.max_batch_rows = rows, .max_batches = 1};
}

}  // namespace

EngineBenchRun::EngineBenchRun(const LoadedModel& loaded, const Sizes& sizes)
    : model_(*loaded.model),
      sizes_(sizes),
      kv_(model_.config(), model_.dtype(), total_pages(sizes)),
      executor_(model_, kv_, kernels::KernelContext{.pool = *loaded.pool, .isa = loaded.isa},
                clock_, executor_options(sizes)),
      rng_(1),
      prompt_(make_sequence(sizes.prompt_tokens)) {
  sampling_.temperature = 0.0F;
  sampling_.ignore_eos = true;
  for (int i = 0; i < sizes.batch; ++i) {
    decodes_.push_back(make_sequence(sizes.depth + sizes.generate_tokens));
  }
}

EngineBenchRun::Sequence EngineBenchRun::make_sequence(int tokens) {
  Sequence sequence;
  const auto vocabulary = static_cast<std::uint64_t>(model_.config().vocab_size);
  for (int i = 0; i < tokens; ++i)
    sequence.tokens.push_back(static_cast<TokenId>(rng_.below(vocabulary)));
  for (std::int64_t i = 0; i < pages_of(tokens); ++i)
    sequence.pages.emplace_back(next_page_++);
  return sequence;
}

sched::SequenceStep EngineBenchRun::step_of(std::size_t number, const Sequence& sequence,
                                            std::int32_t position, std::int32_t rows) const {
  const auto known = static_cast<std::size_t>(position + rows);
  return {.request = RequestId{number},
          .tokens = std::span(sequence.tokens).first(known),
          .position = position,
          .rows = rows,
          .pages = sequence.pages,
          .prompt_tokens = position + rows,
          .samples = true,
          .sampling = &sampling_};
}

void EngineBenchRun::run_step(const std::vector<sched::SequenceStep>& steps, Work& work) {
  plan_.sequences = steps;
  const double distinct = executor_.experts().totals().distinct_experts;
  const TimePoint start = clock_.now();
  executor_.start(plan_);
  executor_.advance(plan_.batch, Cursor::end(executor_.layers()));
  for (events_.clear(); events_.empty();)
    GIMBAL_CHECK(executor_.run(events_) == engine::Progress::kWorked);
  executor_.finish(plan_.batch);
  for (events_.clear(); events_.empty();)
    GIMBAL_CHECK(executor_.run(events_) == engine::Progress::kWorked);
  work.time += clock_.now() - start;
  const auto* finished = std::get_if<sched::StepFinished>(&events_.front());
  GIMBAL_CHECK(finished != nullptr, "the step failed");
  work.service += finished->service;
  ++work.steps;
  for (const sched::SequenceStep& step : steps)
    work.rows += step.rows;
  work.distinct_experts += static_cast<std::uint64_t>(
      std::llround(executor_.experts().totals().distinct_experts - distinct));
}

EngineBenchRun::Work EngineBenchRun::prefill(int tokens) {
  GIMBAL_CHECK(tokens >= 1 && tokens <= sizes_.prompt_tokens);
  Work work;
  run_step({step_of(0, prompt_, 0, tokens)}, work);
  return work;
}

void EngineBenchRun::fill_contexts() {
  Work unused;
  for (const Sequence& sequence : decodes_) {
    for (int done = 0; done < sizes_.depth; done += kChunkRows) {
      run_step({step_of(0, sequence, done, std::min(kChunkRows, sizes_.depth - done))}, unused);
    }
  }
}

EngineBenchRun::Work EngineBenchRun::decode(int batch, int steps) {
  GIMBAL_CHECK(batch >= 1 && batch <= sizes_.batch && steps <= sizes_.generate_tokens);
  Work work;
  std::vector<sched::SequenceStep> rows;
  for (int step = 0; step < steps; ++step) {
    rows.clear();
    for (int i = 0; i < batch; ++i) {
      rows.push_back(step_of(static_cast<std::size_t>(i), decodes_[i], sizes_.depth + step, 1));
    }
    run_step(rows, work);
  }
  return work;
}

}  // namespace gimbal::apps
