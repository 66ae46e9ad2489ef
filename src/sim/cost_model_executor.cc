#include "sim/cost_model_executor.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "base/hash.h"

namespace gimbal::sim {

TokenId simulated_token(RequestId request, std::int64_t position, int vocab_size) {
  const std::uint64_t word = hash_combine(request.value(), static_cast<std::uint64_t>(position));
  return static_cast<TokenId>(word % static_cast<std::uint64_t>(vocab_size));
}

CostModelExecutor::CostModelExecutor(const Collaborators& collaborators, Rank rank, int vocab_size)
    : queue_(collaborators.queue),
      runner_(collaborators.runner),
      costs_(collaborators.costs),
      owner_(collaborators.owner),
      rank_(rank),
      vocab_size_(vocab_size) {}

CostModelExecutor::~CostModelExecutor() {
  stop();
}

bool CostModelExecutor::forget(BatchId batch) {
  const bool there = std::any_of(batches_.begin(), batches_.end(),
                                 [batch](const auto& each) { return each->id == batch; });
  if (there) erase(batch);
  return there;
}

void CostModelExecutor::hang() {
  stopped_ = true;
  for (const auto& batch : batches_)
    runner_.hang(batch->member);
}

void CostModelExecutor::stop() {
  stopped_ = true;
  for (const auto& batch : batches_)
    runner_.remove(batch->member);
}

CostModelExecutor::Batch& CostModelExecutor::at(BatchId id) {
  const auto found = std::find_if(batches_.begin(), batches_.end(),
                                  [id](const auto& batch) { return batch->id == id; });
  GIMBAL_CHECK(found != batches_.end(), "no such batch");
  return **found;
}

std::unique_ptr<CostModelExecutor::Batch> CostModelExecutor::new_batch(BatchId id) {
  std::unique_ptr<Batch> batch;
  if (unused_.empty()) {
    batch = std::make_unique<Batch>();
  } else {
    batch = std::move(unused_.back());
    unused_.pop_back();
  }
  batch->id = id;
  batch->suspended = batch->finishing = false;
  batch->started = queue_.now();
  batch->rows.clear();
  std::vector<double> tokens = std::move(batch->member.tokens);
  batch->member = PassMember{.rank = rank_, .tokens = std::move(tokens), .listener = this};
  return batch;
}

void CostModelExecutor::erase(BatchId id) {
  const auto found = std::find_if(batches_.begin(), batches_.end(),
                                  [id](const auto& batch) { return batch->id == id; });
  runner_.remove((*found)->member);
  unused_.push_back(std::move(*found));
  batches_.erase(found);
}

// What the batch's rows are for the costs.
void CostModelExecutor::describe(Batch& batch) const {
  cost::RankWork work;
  std::vector<double>& tokens = batch.member.tokens;
  tokens.assign(static_cast<std::size_t>(costs_.topics()), 0.0);
  for (const Row& row : batch.rows) {
    tokens[static_cast<std::size_t>(row.topic)] += row.rows;
    work.sampled += row.samples ? 1 : 0;
    const double first = row.position + 1;  // tokens that the first row attends to
    if (row.decode) {
      work.decodes += row.rows;
      work.decode_context += first;
    } else {
      work.prefill_rows += row.rows;
      work.prefill_context += row.rows * (first + (row.rows - 1) / 2.0);
    }
  }
  batch.member.work = work;
}

void CostModelExecutor::start(const sched::StepPlan& plan) {
  std::unique_ptr<Batch> batch = new_batch(plan.batch);
  batch->member.gang_step = plan.gang_step;
  batch->member.gang_members = plan.gang_members;
  for (const sched::SequenceStep& step : plan.sequences) {
    const auto known = static_cast<std::int32_t>(step.tokens.size());
    batch->rows.push_back(
        {.request = step.request,
         .position = step.position,
         .rows = step.rows,
         .decode = step.rows == 1 && known > step.prompt_tokens && step.position + 1 == known,
         .samples = step.samples,
         .topic = owner_.topic_of(step.request)});
  }
  describe(*batch);
  batches_.push_back(std::move(batch));
}

void CostModelExecutor::advance(BatchId id, Cursor until) {
  Batch& batch = at(id);
  GIMBAL_CHECK(!batch.suspended && !batch.finishing && until <= Cursor::end(layers()));
  batch.member.until = until;
  runner_.run(batch.member);
}

void CostModelExecutor::yield(BatchId id) {
  runner_.yield(at(id).member);
}

void CostModelExecutor::suspend(BatchId id) {
  Batch& batch = at(id);
  GIMBAL_CHECK(!batch.member.running && !batch.suspended);
  batch.suspended = true;
  runner_.remove(batch.member);
  batch.member.gang_step = sched::kSolo;
}

void CostModelExecutor::resume(BatchId id) {
  Batch& batch = at(id);
  GIMBAL_CHECK(batch.suspended);
  batch.suspended = false;
}

void CostModelExecutor::merge(BatchId into, BatchId from) {
  Batch& to = at(into);
  Batch& source = at(from);
  GIMBAL_CHECK(&to != &source && to.member.cursor == source.member.cursor);
  GIMBAL_CHECK(!to.member.running && !source.member.running);
  to.rows.insert(to.rows.end(), source.rows.begin(), source.rows.end());
  to.member.attention_ms += source.member.attention_ms;
  to.member.service_ms += source.member.service_ms;
  to.member.wall_ms += source.member.wall_ms;
  to.member.distinct += source.member.distinct;
  erase(from);
  describe(to);
  runner_.changed(to.member);
}

void CostModelExecutor::split(BatchId from, std::span<const RequestId> sequences, BatchId to) {
  Batch& source = at(from);
  GIMBAL_CHECK(!source.member.running);
  std::unique_ptr<Batch> part = new_batch(to);
  part->member.cursor = source.member.cursor;
  std::erase_if(source.rows, [&](const Row& row) {
    if (std::find(sequences.begin(), sequences.end(), row.request) == sequences.end()) return false;
    part->rows.push_back(row);
    return true;
  });
  GIMBAL_CHECK(part->rows.size() == sequences.size() && !part->rows.empty() &&
               !source.rows.empty());
  describe(source);
  describe(*part);
  batches_.push_back(std::move(part));
  runner_.changed(source.member);
}

void CostModelExecutor::drop(BatchId id, std::span<const RequestId> sequences) {
  Batch& batch = at(id);
  GIMBAL_CHECK(!batch.member.running);
  const auto dropped = std::erase_if(batch.rows, [&](const Row& row) {
    return std::find(sequences.begin(), sequences.end(), row.request) != sequences.end();
  });
  GIMBAL_CHECK(dropped == sequences.size());
  if (batch.rows.empty()) return erase(id);
  describe(batch);
  runner_.changed(batch.member);
}

void CostModelExecutor::finish(BatchId id) {
  Batch& batch = at(id);
  GIMBAL_CHECK(batch.member.cursor == Cursor::end(layers()) && !batch.finishing);
  batch.finishing = true;
  const double ms = costs_.step_ms(rank_, batch.member.work);
  batch.member.attention_ms += ms;
  batch.member.wall_ms += ms;
  queue_.at(queue_.now() + from_ms(ms), *this, id.value());
}

void CostModelExecutor::reached(PassMember& member) {
  if (stopped_) return;
  for (const auto& batch : batches_) {
    if (&batch->member != &member) continue;
    owner_.on_executor_event(sched::StageReached{batch->id, member.cursor});
    return;
  }
}

void CostModelExecutor::on_event(std::uint64_t what) {
  if (stopped_) return;
  answer(at(BatchId{static_cast<BatchId::rep>(what)}));
}

void CostModelExecutor::answer(Batch& batch) {
  const PassMember& took = batch.member;
  const double wait_ms = std::max(0.0, took.wall_ms - took.attention_ms - took.service_ms);
  sched::StepFinished finished{.batch = batch.id,
                               .sequences = {},
                               .attention = from_ms(took.attention_ms),
                               .service = from_ms(took.service_ms),
                               .wait = from_ms(wait_ms),
                               .distinct_experts = std::llround(took.distinct)};
  finished.sequences.resize(batch.rows.size());
  for (std::size_t i = 0; i < batch.rows.size(); ++i) {
    const Row& row = batch.rows[i];
    finished.sequences[i].request = row.request;
    totals_.rows += static_cast<std::uint64_t>(row.rows);
    if (!row.decode) totals_.prefill_rows += static_cast<std::uint64_t>(row.rows);
    if (row.samples) {
      const SaidToken said = owner_.token_at(row.request, row.position + row.rows, vocab_size_);
      finished.sequences[i].token = said.token;
      if (said.ends) finished.sequences[i].finish = sched::FinishReason::kStop;
    }
  }
  totals_.attention_ms += took.attention_ms;
  totals_.service_ms += took.service_ms;
  totals_.wait_ms += wait_ms;
  totals_.distinct += took.distinct;
  ++totals_.steps;
  if (trace_ != nullptr) {
    trace_->complete(track_, took.gang_step == sched::kSolo ? "step" : "gang step", batch.started,
                     queue_.now(),
                     {{"prefill", static_cast<double>(took.work.prefill_rows)},
                      {"decodes", static_cast<double>(took.work.decodes)},
                      {"wait_ms", wait_ms}});
  }
  erase(batch.id);
  owner_.on_executor_event(std::move(finished));
}

}  // namespace gimbal::sim
