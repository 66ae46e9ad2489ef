#include "engine/model_executor.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"

namespace gimbal::engine {

ModelExecutor::ModelExecutor(const model::Model& model, const model::KvStorage& kv,
                             const kernels::KernelContext& context, const Clock& clock,
                             const ModelExecutorOptions& options, const GroupPlace* place)
    : model_(model),
      kv_(kv),
      context_(context),
      clock_(clock),
      store_(place != nullptr ? place->rows
                              : own_rows_.emplace(model.config(), model.dtype(),
                                                  options.max_batches, options.max_batch_rows)),
      first_region_(place != nullptr ? place->first_region : 0),
      max_batches_(options.max_batches),
      workspace_(model.config(), model.dtype(), max_batches_ * store_.region_rows()),
      outstanding_({.max_slots = static_cast<int>(max_batches_ * store_.region_rows()),
                    .max_outputs = static_cast<int>(
                        std::max<std::int64_t>(1, store_.rows() * store_.choices()))}),
      chooser_(model, context) {
  GIMBAL_CHECK(store_.region_rows() == options.max_batch_rows);
  if (place == nullptr) {
    own_service_.emplace(model, store_, workspace_, clock, 1);
    own_experts_.emplace(*own_service_, context_);
    experts_ = &*own_experts_;
  } else {
    experts_ = &place->experts;
  }
  row_counts_ = experts_->row_counts();
  for (auto slot = static_cast<std::int32_t>(max_batches_ * store_.region_rows()); slot-- > 0;) {
    free_slots_.emplace_back(slot);
  }
}

ModelExecutor::~ModelExecutor() = default;

void ModelExecutor::set_expert_policy(std::unique_ptr<policy::ExpertQueuePolicy> policy) {
  GIMBAL_CHECK(own_service_.has_value(), "a group's services have one policy for all");
  own_service_->set_policy(std::move(policy));
}

const ExecutorBatch& ModelExecutor::find(BatchId batch) const {
  const auto found = std::find_if(batches_.begin(), batches_.end(),
                                  [batch](const auto& each) { return each->id == batch; });
  GIMBAL_CHECK(found != batches_.end(), "no such batch");
  return **found;
}

ExecutorBatch& ModelExecutor::find(BatchId batch) {
  return const_cast<ExecutorBatch&>(std::as_const(*this).find(batch));
}

ExecutorBatch& ModelExecutor::make_batch(BatchId id) {
  if (unused_.empty()) {
    GIMBAL_CHECK(used_regions_ < max_batches_, "too many batches in mid-forward");
    unused_.push_back(
        std::make_unique<ExecutorBatch>(model::BatchRows(store_, first_region_ + used_regions_++)));
  }
  ExecutorBatch& batch = *batches_.emplace_back(std::move(unused_.back()));
  unused_.pop_back();
  batch.reset(id);
  return batch;
}

void ModelExecutor::remove_batch(BatchId id) {
  const auto found = std::find_if(batches_.begin(), batches_.end(),
                                  [id](const auto& each) { return each->id == id; });
  unused_.push_back(std::move(*found));
  batches_.erase(found);
}

void ModelExecutor::release_slot(ExecutorSequence& sequence) {
  if (outstanding_.missing(sequence.slot) > 0) {
    experts_->cancel(sequence.slot, outstanding_.epoch(sequence.slot));
    outstanding_.drop(sequence.slot);
  }
  if (row_counts_ != nullptr) {
    if (sequence.step.request == kDummyRequest) {
      row_counts_->discard(sequence.slot);
    } else {
      row_counts_->settle(sequence.slot, sequence.step.request);
    }
  }
  free_slots_.push_back(sequence.slot);
}

void ModelExecutor::start(const sched::StepPlan& plan) {
  GIMBAL_CHECK(!plan.sequences.empty());
  ExecutorBatch& batch = make_batch(plan.batch);
  std::int64_t rows = 0;
  for (const sched::SequenceStep& step : plan.sequences) {
    batch.sequences.push_back({.step = step, .first_row = rows, .slot = free_slots_.back()});
    free_slots_.pop_back();
    rows += step.rows;
  }
  batch.started = clock_.now();
  batch.gang_step = plan.gang_step;
  batch.gang_members = plan.gang_members;
  batch.rows.reset(rows);
  for (const ExecutorSequence& sequence : batch.sequences) {
    const std::span<std::int32_t> positions =
        batch.rows.positions().subspan(sequence.first_row, sequence.step.rows);
    for (std::int32_t row = 0; row < sequence.step.rows; ++row) {
      positions[row] = sequence.step.position + row;
    }
  }
}

void ModelExecutor::start_dummy(BatchId batch, PageId page, std::uint64_t gang_step,
                                std::uint64_t members) {
  static constexpr TokenId kToken = 0;
  static const sched::SamplingParams kSampling;
  dummy_page_ = page;
  start({.batch = batch,
         .sequences = {{.request = kDummyRequest,
                        .tokens = {&kToken, 1},
                        .rows = 1,
                        .pages = {&dummy_page_, 1},
                        .prompt_tokens = 1,
                        .sampling = &kSampling}},
         .gang_step = gang_step,
         .gang_members = members});
}

void ModelExecutor::advance(BatchId id, Cursor until) {
  ExecutorBatch& batch = find(id);
  GIMBAL_CHECK(batch.state == ExecutorBatch::State::kStanding && until > batch.cursor);
  GIMBAL_CHECK(
      std::none_of(batches_.begin(), batches_.end(),
                   [](const auto& each) { return each->state == ExecutorBatch::State::kRunning; }),
      "one batch runs at a time");
  batch.until = until;
  batch.state = ExecutorBatch::State::kRunning;
  batch.yielding = false;
}

void ModelExecutor::yield(BatchId id) {
  ExecutorBatch& batch = find(id);
  if (batch.state == ExecutorBatch::State::kRunning) batch.yielding = true;
}

void ModelExecutor::suspend(BatchId id) {
  ExecutorBatch& batch = find(id);
  GIMBAL_CHECK(batch.state == ExecutorBatch::State::kStanding);
  leave_gang(batch);
  batch.state = ExecutorBatch::State::kSuspended;
}

void ModelExecutor::resume(BatchId id) {
  ExecutorBatch& batch = find(id);
  GIMBAL_CHECK(batch.state == ExecutorBatch::State::kSuspended);
  batch.state = ExecutorBatch::State::kStanding;
}

void ModelExecutor::merge(BatchId into_id, BatchId from_id) {
  ExecutorBatch& into = find(into_id);
  ExecutorBatch& from = find(from_id);
  GIMBAL_CHECK(into.state != ExecutorBatch::State::kRunning &&
               from.state != ExecutorBatch::State::kRunning);
  GIMBAL_CHECK(into.cursor == from.cursor && !into.posted && !from.posted,
               "batches merge at the same stage start only");
  leave_gang(from);
  for (ExecutorSequence& sequence : from.sequences) {
    const std::int64_t first = into.rows.rows();
    into.rows.append(from.rows, sequence.first_row, sequence.step.rows);
    sequence.first_row = first;
    into.sequences.push_back(sequence);
  }
  into.attention += from.attention;
  into.service += from.service;
  into.wait += from.wait;
  into.distinct_experts += from.distinct_experts;
  remove_batch(from_id);
}

void ModelExecutor::split(BatchId from_id, std::span<const RequestId> sequences, BatchId to_id) {
  ExecutorBatch& to = make_batch(to_id);
  ExecutorBatch& from = find(from_id);
  GIMBAL_CHECK(from.state != ExecutorBatch::State::kRunning);
  to.cursor = to.until = from.cursor;
  to.posted = from.posted;
  const auto moves = [&](const ExecutorSequence& sequence) {
    return std::find(sequences.begin(), sequences.end(), sequence.step.request) != sequences.end();
  };
  const auto first_moved =
      std::stable_partition(from.sequences.begin(), from.sequences.end(),
                            [&](const ExecutorSequence& sequence) { return !moves(sequence); });
  GIMBAL_CHECK(first_moved != from.sequences.begin() && first_moved != from.sequences.end(),
               "a split takes some sequences and leaves some");
  for (auto sequence = first_moved; sequence != from.sequences.end(); ++sequence) {
    const std::int64_t first = to.rows.rows();
    to.rows.append(from.rows, sequence->first_row, sequence->step.rows);
    sequence->first_row = first;
    to.sequences.push_back(*sequence);
    ExecutorSequence& moved = to.sequences.back();
    if (from.posted && outstanding_.missing(moved.slot) > 0) {
      experts_->cancel(moved.slot, outstanding_.epoch(moved.slot));
      outstanding_.drop(moved.slot);
      post(to, {&moved, 1});
    }
  }
  from.sequences.erase(first_moved, from.sequences.end());
  from.has_gaps = true;
  if (!from.posted) from.compact();
}

void ModelExecutor::drop(BatchId id, std::span<const RequestId> sequences) {
  ExecutorBatch& batch = find(id);
  GIMBAL_CHECK(batch.state == ExecutorBatch::State::kStanding ||
               batch.state == ExecutorBatch::State::kSuspended);
  for (ExecutorSequence& sequence : batch.sequences) {
    if (std::find(sequences.begin(), sequences.end(), sequence.step.request) == sequences.end()) {
      continue;
    }
    release_slot(sequence);
    sequence.step.rows = 0;
    batch.has_gaps = true;
  }
  std::erase_if(batch.sequences, [](const ExecutorSequence& each) { return each.step.rows == 0; });
  if (batch.sequences.empty()) {
    leave_gang(batch);
    remove_batch(id);
  } else if (!batch.posted) {
    batch.compact();
  }
}

void ModelExecutor::finish(BatchId id) {
  ExecutorBatch& batch = find(id);
  GIMBAL_CHECK(batch.state == ExecutorBatch::State::kStanding &&
               batch.cursor == Cursor::end(layers()));
  batch.state = ExecutorBatch::State::kFinishing;
}

Cursor ModelExecutor::cursor(BatchId batch) const {
  return find(batch).cursor;
}

bool ModelExecutor::inside_experts(BatchId batch) const {
  return find(batch).posted;
}

void ModelExecutor::leave_gang(ExecutorBatch& batch) {
  if (batch.gang_step == sched::kSolo) return;
  experts_->leave(batch.gang_step, batch.gang_members);
  batch.gang_step = sched::kSolo;
  batch.gang_members = 0;
}

Progress ModelExecutor::run(std::vector<sched::Event>& events) {
  for (const auto& each : batches_) {
    ExecutorBatch& batch = *each;
    if (batch.state == ExecutorBatch::State::kFinishing) {
      events.emplace_back(finish_step(batch));
      remove_batch(batch.id);
      return Progress::kWorked;
    }
    if (batch.state != ExecutorBatch::State::kRunning) continue;
    if (!run_stage(batch)) return Progress::kWaiting;
    const bool may_stand = !batch.posted || experts_->may_stand_inside();
    if (batch.cursor == batch.until || (batch.yielding && may_stand)) {
      batch.state = ExecutorBatch::State::kStanding;
      events.emplace_back(sched::StageReached{.batch = batch.id, .cursor = batch.cursor});
    }
    return Progress::kWorked;
  }
  return Progress::kIdle;
}

bool ModelExecutor::run_stage(ExecutorBatch& batch) {
  const TimePoint started = clock_.now();
  const Cursor cursor = batch.cursor;
  if (!batch.waiting_since && !batch.posted) batch.stage_started = started;
  const ExpertPort::Totals before = experts_->totals();
  bool worked = true;
  switch (batch.cursor.stage) {
    case Stage::kAttention:
      run_attention(batch);
      batch.cursor = batch.cursor.next();
      break;
    case Stage::kRouter:
      model_.router(context_, batch.cursor.layer, batch.rows, workspace_);
      batch.cursor = batch.cursor.next();
      break;
    case Stage::kExperts:
      if (batch.waiting_since) batch.wait += started - *batch.waiting_since;
      batch.waiting_since.reset();
      worked = run_experts(batch);
      break;
  }
  const TimePoint ended = clock_.now();
  if (!worked) batch.waiting_since = ended;
  const ExpertPort::Totals& after = experts_->totals();
  batch.service += after.service - before.service;
  batch.distinct_experts += after.distinct_experts - before.distinct_experts;
  batch.attention += ended - started - (after.serving - before.serving);
  if (batch.cursor != cursor) trace_.stage(batch, cursor, batch.stage_started, ended);
  return worked;
}

void ModelExecutor::run_attention(ExecutorBatch& batch) {
  attention_sequences_.clear();
  for (const ExecutorSequence& sequence : batch.sequences) {
    static_assert(sizeof(PageId) == sizeof(std::int32_t));
    attention_sequences_.push_back(
        {.first_row = sequence.first_row,
         .rows = sequence.step.rows,
         .position = sequence.step.position,
         .pages = reinterpret_cast<const std::int32_t*>(sequence.step.pages.data())});
  }
  if (batch.cursor.layer == LayerIndex{0}) {
    embedded_tokens_.resize(static_cast<std::size_t>(batch.rows.rows()));
    for (const ExecutorSequence& sequence : batch.sequences) {
      const auto tokens = sequence.step.tokens.subspan(sequence.step.position, sequence.step.rows);
      std::copy(tokens.begin(), tokens.end(), embedded_tokens_.begin() + sequence.first_row);
    }
    model_.embed(context_, embedded_tokens_, 0, batch.rows);
  }
  model_.attention(context_, batch.cursor.layer, attention_sequences_, kv_, batch.rows, workspace_);
}

void ModelExecutor::post(ExecutorBatch& batch, std::span<const ExecutorSequence> sequences) {
  const auto choices = static_cast<std::int32_t>(store_.choices());
  const auto first_index = static_cast<std::int32_t>(batch.rows.first_index());
  const std::span<const std::int32_t> ids = batch.rows.expert_ids();
  posted_rows_.clear();
  posted_experts_.clear();
  for (const ExecutorSequence& sequence : sequences) {
    for (std::int32_t i = 0; i < sequence.step.rows; ++i) {
      const auto row = static_cast<std::int32_t>(sequence.first_row) + i;
      posted_rows_.push_back({.slot = sequence.slot,
                              .epoch = outstanding_.epoch(sequence.slot),
                              .row = first_index + row,
                              .first_output = (first_index + row) * choices,
                              .request_class = sequence.step.request_class});
      const auto chosen = ids.subspan(static_cast<std::size_t>(row) * choices, choices);
      posted_experts_.insert(posted_experts_.end(), chosen.begin(), chosen.end());
    }
  }
  const sched::ExpertPost what{.source = experts_->rank(),
                               .layer = batch.cursor.layer,
                               .step = batch.gang_step,
                               .members = batch.gang_members,
                               .map_version = experts_->map_version(),
                               .rows = posted_rows_,
                               .experts = posted_experts_};
  outstanding_.post(what);
  experts_->post(what);
}

bool ModelExecutor::outputs_missing(const ExecutorBatch& batch) const {
  return std::any_of(
      batch.sequences.begin(), batch.sequences.end(),
      [this](const ExecutorSequence& each) { return outstanding_.missing(each.slot) > 0; });
}

void ModelExecutor::record_routing(const ExecutorBatch& batch) {
  const auto choices = static_cast<std::size_t>(store_.choices());
  recorded_.clear();
  for (const ExecutorSequence& sequence : batch.sequences) {
    recorded_.push_back({.request = sequence.step.request,
                         .position = static_cast<std::uint32_t>(sequence.step.position),
                         .experts = batch.rows.expert_ids().subspan(
                             static_cast<std::size_t>(sequence.first_row) * choices,
                             static_cast<std::size_t>(sequence.step.rows) * choices)});
  }
  routing_->add(routing_source_, batch.cursor.layer, recorded_);
}

bool ModelExecutor::run_experts(ExecutorBatch& batch) {
  if (model_.config().is_moe(batch.cursor.layer)) {
    if (!batch.posted) {
      if (routing_ != nullptr) record_routing(batch);
      post(batch, batch.sequences);
      batch.posted = true;
    }
    if (outputs_missing(batch)) {
      outstanding_.complete(experts_->advance(), completion_);
      // More is missing when a policy held experts back, or they run elsewhere.
      if (outputs_missing(batch)) return experts_->progress();
    }
    batch.posted = false;
    batch.compact();
  }
  model_.combine(context_, batch.cursor.layer, batch.rows, workspace_);
  batch.cursor = batch.cursor.next();
  return true;
}

sched::StepFinished ModelExecutor::finish_step(ExecutorBatch& batch) {
  const TimePoint started = clock_.now();
  sched::StepFinished finished{.batch = batch.id,
                               .sequences = chooser_.choose(batch, workspace_),
                               .attention = batch.attention,
                               .service = batch.service,
                               .wait = batch.wait,
                               .distinct_experts = std::llround(batch.distinct_experts)};
  for (ExecutorSequence& sequence : batch.sequences)
    release_slot(sequence);
  const TimePoint ended = clock_.now();
  finished.attention += ended - started;
  trace_.finished(batch, ended);
  return finished;
}

}  // namespace gimbal::engine
