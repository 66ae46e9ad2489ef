#include "sched/scripted_executor.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "base/check.h"

namespace gimbal::sched {
namespace {

constexpr std::uint64_t kRoot = 0x51ed270b;
constexpr std::uint64_t kPoison = 0xdeadbeef;

TokenId token_of(std::uint64_t context_hash, int vocab_size) {
  return static_cast<TokenId>(context_hash % static_cast<std::uint64_t>(vocab_size));
}

std::uint64_t extend(std::uint64_t context_hash, TokenId token) {
  return hash_combine(context_hash, static_cast<std::uint64_t>(token));
}

}  // namespace

ScriptedExecutor::ScriptedExecutor(const Options& options)
    : options_(options),
      rng_(options.seed),
      memory_(static_cast<std::size_t>(options.pages) * options.page_tokens, kPoison) {}

TokenId ScriptedExecutor::next_token(std::span<const TokenId> context, int vocab_size) {
  std::uint64_t hash = kRoot;
  for (const TokenId token : context)
    hash = extend(hash, token);
  return token_of(hash, vocab_size);
}

int ScriptedExecutor::touched_experts(int experts, int rows) {
  if (experts == 0) return 0;
  return static_cast<int>(std::lround(experts * (1 - std::pow(1 - 1.0 / experts, rows))));
}

std::vector<TokenId> ScriptedExecutor::generate(const Request& request, int vocab_size,
                                                FinishReason* finish) {
  std::vector<TokenId> context = request.prompt;
  std::vector<TokenId> generated;
  FinishReason reason = FinishReason::kLength;
  while (static_cast<int>(generated.size()) < request.max_tokens) {
    generated.push_back(next_token(context, vocab_size));
    context.push_back(generated.back());
    if (is_stop(generated.back())) {
      reason = FinishReason::kStop;
      break;
    }
  }
  if (finish != nullptr) *finish = reason;
  return generated;
}

std::uint64_t& ScriptedExecutor::memory(const SequenceStep& step, int position) {
  const PageId page = step.pages[static_cast<std::size_t>(position / options_.page_tokens)];
  return memory_[static_cast<std::size_t>(page.value()) * options_.page_tokens +
                 position % options_.page_tokens];
}

void ScriptedExecutor::check_plan(const StepPlan& plan) const {
  GIMBAL_CHECK(!plan.sequences.empty());
  GIMBAL_CHECK(static_cast<int>(plan.sequences.size()) <= options_.max_sequences);
  int rows = 0;
  std::set<RequestId> requests;
  for (const SequenceStep& step : plan.sequences) {
    GIMBAL_CHECK(requests.insert(step.request).second, "a sequence is in the batch twice");
    GIMBAL_CHECK(step.rows >= 1 && step.position >= 0);
    const auto end = static_cast<std::size_t>(step.position + step.rows);
    GIMBAL_CHECK(end <= step.tokens.size());
    GIMBAL_CHECK(end <= step.pages.size() * static_cast<std::size_t>(options_.page_tokens));
    GIMBAL_CHECK(!step.samples || end == step.tokens.size());
    GIMBAL_CHECK(step.sampling != nullptr);
    rows += step.rows;
  }
  GIMBAL_CHECK(rows <= options_.max_rows, "more rows than the budget");
}

void ScriptedExecutor::start(const StepPlan& plan) {
  GIMBAL_CHECK(!batch_);
  check_plan(plan);
  log.push_back("start");
  plans.push_back(plan);
  batch_ = Batch{plan, Cursor{}};
  // A step that is given up leaves rubbish in the rows that it was to write.
  for (const SequenceStep& step : plan.sequences) {
    for (int row = 0; row < step.rows; ++row)
      memory(step, step.position + row) = kPoison;
  }
}

void ScriptedExecutor::reach(Cursor cursor) {
  batch_->cursor = cursor;
  batch_->reported = true;
  events.push_back(StageReached{batch_->plan.batch, cursor});
  batch_->leased = false;
}

void ScriptedExecutor::advance(BatchId batch, Cursor until) {
  GIMBAL_CHECK(batch_ && batch_->plan.batch == batch && !batch_->leased);
  GIMBAL_CHECK(batch_->cursor < until && until <= Cursor::end(options_.layers));
  log.push_back("advance");
  batch_->leased = true;
  batch_->until = until;
  if (rng_.uniform() < options_.failure_rate) {
    fail("the device is gone");
    return;
  }
  if (!hold_leases && rng_.below(2) == 0) reach(until);  // else it takes until asked
}

void ScriptedExecutor::release_lease() {
  if (batch_ && batch_->leased) reach(batch_->until);
}

void ScriptedExecutor::fail(std::string message) {
  GIMBAL_CHECK(batch_ && batch_->leased);
  events.push_back(StepFailed{batch_->plan.batch, std::move(message)});
  batch_.reset();
}

void ScriptedExecutor::yield(BatchId batch) {
  log.push_back("yield");
  if (!batch_ || !batch_->leased) return;  // it stands already, or has failed
  GIMBAL_CHECK(batch_->plan.batch == batch);
  const int from = batch_->cursor.index() + 1;
  reach(Cursor::from_index(static_cast<int>(rng_.between(from, batch_->until.index()))));
}

void ScriptedExecutor::suspend(BatchId /*batch*/) {
  GIMBAL_CHECK(false);
}
void ScriptedExecutor::resume(BatchId /*batch*/) {
  GIMBAL_CHECK(false);
}
void ScriptedExecutor::merge(BatchId /*into*/, BatchId /*from*/) {
  GIMBAL_CHECK(false);
}
void ScriptedExecutor::split(BatchId /*from*/, std::span<const RequestId> /*sequences*/,
                             BatchId /*to*/) {
  GIMBAL_CHECK(false);
}

void ScriptedExecutor::drop(BatchId batch, std::span<const RequestId> sequences) {
  GIMBAL_CHECK(batch_ && batch_->plan.batch == batch && !batch_->leased && !sequences.empty());
  log.push_back("drop");
  const auto dropped = std::erase_if(batch_->plan.sequences, [&](const SequenceStep& step) {
    return std::find(sequences.begin(), sequences.end(), step.request) != sequences.end();
  });
  GIMBAL_CHECK(dropped == sequences.size());
  if (batch_->plan.sequences.empty()) batch_.reset();
}

void ScriptedExecutor::run_rows(const SequenceStep& step) {
  for (int row = 0; row < step.rows; ++row) {
    const int position = step.position + row;
    const std::uint64_t before = position == 0 ? kRoot : memory(step, position - 1);
    memory(step, position) = extend(before, step.tokens[static_cast<std::size_t>(position)]);
  }
}

void ScriptedExecutor::finish(BatchId batch) {
  GIMBAL_CHECK(batch_ && batch_->plan.batch == batch && !batch_->leased);
  GIMBAL_CHECK(batch_->cursor == Cursor::end(options_.layers));
  log.push_back("finish");
  StepFinished finished;
  finished.batch = batch;
  finished.attention = options_.per_step;
  int rows = 0;
  for (const SequenceStep& step : batch_->plan.sequences) {
    run_rows(step);
    SequenceResult& result = finished.sequences.emplace_back();
    result.request = step.request;
    finished.attention += options_.per_row * step.rows;
    rows += step.rows;
    const int end = step.position + step.rows;
    if (step.sampling->prompt_logprobs) {
      for (int next = step.position + 1; next <= end && next < step.prompt_tokens; ++next) {
        result.prompt_logprobs.emplace_back().token = step.tokens[static_cast<std::size_t>(next)];
      }
    }
    if (!step.samples) continue;
    result.token = token_of(memory(step, end - 1), options_.vocab_size);
    if (is_stop(*result.token)) result.finish = FinishReason::kStop;
  }
  finished.distinct_experts = touched_experts(options_.experts, rows);
  finished.service = options_.per_expert * finished.distinct_experts;
  events.push_back(std::move(finished));
  batch_.reset();
}

}  // namespace gimbal::sched
