#include "sched/step_loop.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/cursor.h"
#include "sched/event_recorder.h"
#include "sched/request_check.h"

namespace gimbal::sched {
namespace {

constexpr std::int64_t kLeastQueueBound = 65'536;  // tokens
constexpr double kQueueBoundSeconds = 60;          // of measured prefill
// The longest stage, unless it is given: this part of the predicted step of so many prompt tokens.
constexpr double kStageOfStep = 0.25;
constexpr int kStageReferenceTokens = 512;

}  // namespace

Result<std::unique_ptr<StepLoop>> StepLoop::make(const StepLoopOptions& options,
                                                 BatchExecutor& executor, EventRecorder* recorder) {
  GIMBAL_RETURN_IF_ERROR(check_options(options));
  Policies policies;
  GIMBAL_ASSIGN_OR_RETURN(policies.order,
                          policy::make_request_order(options.order, options.order_options));
  GIMBAL_ASSIGN_OR_RETURN(policies.former,
                          policy::make_batch_former(options.former, options.former_options));
  return std::unique_ptr<StepLoop>(new StepLoop(options, std::move(policies), executor, recorder));
}

StepLoop::StepLoop(const StepLoopOptions& options, Policies policies, BatchExecutor& executor,
                   EventRecorder* recorder)
    : options_(options),
      policies_(std::move(policies)),
      executor_(executor),
      recorder_(recorder),
      cache_({.pages = options.kv_pages,
              .page_tokens = options.page_tokens,
              .prefix_caching = options.prefix_caching,
              .record_events = options.record_prefix_events,
              .keep_tokens = options.keep_prefix_tokens}),
      step_times_(options.experts),
      planner_(options_, {.order = *policies_.order,
                          .former = *policies_.former,
                          .table = table_,
                          .cache = cache_,
                          .times = step_times_}),
      prefill_rate_(options.prefill_cost) {
  if (recorder_ != nullptr) recorder_->header(options_, executor_.layers());
}

Outputs& StepLoop::on(TimePoint now, std::span<Event> events) {
  GIMBAL_CHECK(now >= now_, "time went backwards");
  now_ = now;
  outputs_.news.clear();
  outputs_.refusals.clear();
  outputs_.admitted.clear();
  outputs_.evicted.clear();
  outputs_.ordered.clear();
  outputs_.intent.reset();
  outputs_.ended.reset();
  outputs_.declined = false;
  if (recorder_ != nullptr) recorder_->events(now, events);
  for (Event& event : events) {
    std::visit([this](auto& what) { handle(what); }, event);
  }
  if (batch_state_ != BatchState::kNone) return outputs_;
  if (permission_ && used_) end_permission(false);
  if (!options_.asks_before_steps) {
    start_step();
  } else {
    if (permission_) start_step();
    if (batch_state_ == BatchState::kNone && (!asking_ || more_came_)) ask();
    more_came_ = false;
  }
  return outputs_;
}

void StepLoop::handle(const StartStep& event) {
  GIMBAL_CHECK(asking_ && batch_state_ == BatchState::kNone, "a start that nobody asked for");
  asking_ = false;
  used_ = false;
  permission_ = event;
}

// Says what the next step would be: once until it is answered, and again when more has come.
void StepLoop::ask() {
  policy::GangMember member;
  if (!planner_.preview(now_, member)) return;
  member.max_rows = options_.max_num_batched_tokens;
  member.times = policy::GangTimes::of(step_times_, options_.experts);
  if (options_.max_stage_ms > 0) {
    member.max_stage_ms = options_.max_stage_ms;
  } else if (member.times) {
    const policy::GangMember idle{.times = member.times};
    member.max_stage_ms = kStageOfStep * idle.alone_ms(kStageReferenceTokens);
  }
  asking_ = true;
  if (recorder_ != nullptr) recorder_->intent(member);
  outputs_.intent = std::move(member);
}

void StepLoop::end_permission(bool declined) {
  outputs_.ended = permission_;
  outputs_.declined = declined;
  permission_.reset();
}

Result<void> StepLoop::check(const Request& request) const {
  if (draining_) return Error{ErrorCode::kUnavailable, "the engine is draining"};
  return check_request(request, options_.max_model_len, options_.vocab_size);
}

void StepLoop::handle(SubmitGroup& event) {
  for (const Request& request : event.requests) {
    totals_.dispatch_sequence = std::max(totals_.dispatch_sequence, request.dispatch_sequence);
  }
  for (const Request& request : event.requests) {
    const auto valid = check(request);
    if (valid.ok()) continue;
    for (const Request& each : event.requests)
      outputs_.refusals.push_back({each.id, valid.error()});
    return;
  }
  std::vector<Sequence*> group;
  std::int64_t missing = 0;
  for (Request& request : event.requests) {
    Sequence& sequence = table_.add(std::move(request), now_, options_.max_model_len);
    missing += planner_.missing_prefill(sequence, group.empty() ? nullptr : group.back());
    group.push_back(&sequence);
  }
  const std::int64_t waiting = planner_.queues().prefill_tokens();
  if (waiting > 0 && waiting + missing > max_waiting_prefill_tokens()) {
    const Error full{ErrorCode::kResourceExhausted,
                     fmt::format("the queue is full: {} prompt tokens wait, at most {} may",
                                 waiting, max_waiting_prefill_tokens())};
    for (const Sequence* sequence : group) {
      const RequestId id = sequence->request.id;
      outputs_.refusals.push_back({id, full});
      table_.erase(id);
    }
    return;
  }
  const Sequence* ahead = nullptr;
  for (Sequence* sequence : group) {
    totals_.prompt_tokens += static_cast<std::uint64_t>(sequence->prompt_tokens);
    planner_.enqueue(*sequence, now_, prefill_cost(), ahead);
    ahead = sequence;
  }
  take_orders();
  more_came_ = true;
}

void StepLoop::take_orders() {
  const std::size_t first = outputs_.ordered.size();
  planner_.take_orders(outputs_.ordered);
  if (recorder_ == nullptr) return;
  for (std::size_t i = first; i < outputs_.ordered.size(); ++i)
    recorder_->order(outputs_.ordered[i]);
}

// The step model tells attention from the rest and knows full steps; until it is fitted, what the
// prompts so far took.
policy::PrefillCost StepLoop::prefill_cost() const {
  if (step_times_.fitted()) {
    const policy::PrefillCost cost = step_times_.prefill_cost(options_.max_num_batched_tokens);
    if (cost.ms_per_token > 0) return cost;
  }
  return prefill_rate_.cost();
}

void StepLoop::handle(const CancelRequest& event) {
  Sequence* sequence = table_.find(event.request);
  if (sequence == nullptr || sequence->cancelled) return;
  if (!sequence->in_batch) {
    end(*sequence, FinishReason::kCancelled);
    return;
  }
  sequence->cancelled = true;
  cancels_ = true;
  if (batch_state_ != BatchState::kRunning || yielding_) return;
  yielding_ = true;
  if (recorder_ != nullptr) recorder_->yielded(plan_.batch);
  executor_.yield(plan_.batch);
}

void StepLoop::handle(const SetDraining& event) {
  draining_ = event.draining;
}

void StepLoop::handle(const StageReached& event) {
  GIMBAL_CHECK(batch_state_ == BatchState::kRunning && event.batch == plan_.batch);
  yielding_ = false;
  drop_cancelled();
  if (plan_.sequences.empty()) {
    batch_state_ = BatchState::kNone;
    return;
  }
  const Cursor end = Cursor::end(executor_.layers());
  if (event.cursor < end) {
    executor_.advance(plan_.batch, end);
  } else {
    batch_state_ = BatchState::kFinishing;
    executor_.finish(plan_.batch);
  }
}

void StepLoop::drop_cancelled() {
  if (!std::exchange(cancels_, false)) return;
  dropped_.clear();
  std::erase_if(plan_.sequences, [this](const SequenceStep& step) {
    const bool cancelled = table_.at(step.request).cancelled;
    if (cancelled) dropped_.push_back(step.request);
    return cancelled;
  });
  if (dropped_.empty()) return;
  lost_members_ = true;
  if (recorder_ != nullptr) recorder_->dropped(plan_.batch, dropped_);
  executor_.drop(plan_.batch, dropped_);
  for (const RequestId id : dropped_)
    end(table_.at(id), FinishReason::kCancelled);
}

void StepLoop::handle(StepFinished& event) {
  GIMBAL_CHECK(batch_state_ == BatchState::kFinishing && event.batch == plan_.batch);
  GIMBAL_CHECK(event.sequences.size() == plan_.sequences.size());
  batch_state_ = BatchState::kNone;
  ++totals_.steps;
  note_times(event);
  for (std::size_t i = 0; i < event.sequences.size(); ++i)
    take_result(plan_.sequences[i], event.sequences[i]);
}

policy::StepShape StepLoop::shape_of_plan() const {
  policy::StepShape shape;
  for (const SequenceStep& step : plan_.sequences) {
    if (table_.at(step.request).phase == Phase::kDecode) {
      shape.decodes += step.rows;
      shape.decode_context += step.position + step.rows;
    } else {
      shape.add_prefill(step.position, step.rows);
    }
  }
  return shape;
}

// Before the results are taken: they change what the members are.
void StepLoop::note_times(const StepFinished& event) {
  const policy::StepShape shape = shape_of_plan();
  totals_.prefill_rows += static_cast<std::uint64_t>(shape.prefill);
  prefill_rate_.note_step(event.attention + event.service, static_cast<int>(shape.prefill),
                          static_cast<int>(shape.decodes));
  // Of rows that left in mid-pass some stages' time is in there, and nobody knows how much.
  if (lost_members_) return;
  step_times_.note(shape, to_ms(event.attention), to_ms(event.service),
                   static_cast<double>(event.distinct_experts));
}

void StepLoop::take_result(const SequenceStep& step, SequenceResult& result) {
  GIMBAL_CHECK(result.request == step.request && result.token.has_value() == step.samples);
  Sequence& sequence = table_.at(step.request);
  sequence.in_batch = false;
  planner_.commit(sequence, step.position + step.rows, now_);
  if (sequence.cancelled) {
    end(sequence, FinishReason::kCancelled);
    return;
  }
  std::vector<TokenLogprobs> prompt_logprobs = untold_logprobs(sequence, step.position, result);
  std::optional<FinishReason> finish;
  if (result.token) {
    append_token(sequence, *result.token);
    if (sequence.known() == sequence.max_tokens_known) finish = FinishReason::kLength;
    if (result.finish) finish = result.finish;
  } else if (sequence.request.max_tokens == 0 && sequence.uncomputed() == 0) {
    finish = FinishReason::kLength;
  }
  if (!result.token && !finish && prompt_logprobs.empty()) return;
  if (finish) {
    end(sequence, *finish);
  } else {
    tell(sequence);
  }
  TokenNews& news = outputs_.news.back();
  news.token = result.token;
  news.logprobs = std::move(result.logprobs);
  news.prompt_logprobs = std::move(prompt_logprobs);
}

void StepLoop::append_token(Sequence& sequence, TokenId token) {
  GIMBAL_CHECK(sequence.known() < sequence.max_tokens_known);
  if (sequence.generated() == 0) sequence.first_token = now_;
  sequence.tokens.push_back(token);
  sequence.phase = Phase::kDecode;
  sequence.evicted_since_token = false;
  ++totals_.generated_tokens;
}

// A sequence that was evicted computes its prompt again; what was told is not told twice.
std::vector<TokenLogprobs> StepLoop::untold_logprobs(Sequence& sequence, int position,
                                                     SequenceResult& result) {
  std::vector<TokenLogprobs> entries = std::move(result.prompt_logprobs);
  const int count = static_cast<int>(entries.size());  // entry i is of token position + 1 + i
  const int told = std::clamp(sequence.prompt_logprobs_told - position, 0, count);
  entries.erase(entries.begin(), entries.begin() + told);
  sequence.prompt_logprobs_told = std::max(sequence.prompt_logprobs_told, position + count);
  return entries;
}

void StepLoop::handle(const StepFailed& event) {
  GIMBAL_CHECK(batch_state_ != BatchState::kNone && event.batch == plan_.batch);
  batch_state_ = BatchState::kNone;
  yielding_ = false;
  ++totals_.failed_steps;
  for (const SequenceStep& step : plan_.sequences) {
    Sequence& sequence = table_.at(step.request);
    end(sequence, sequence.cancelled ? FinishReason::kCancelled : FinishReason::kFailed,
        sequence.cancelled ? std::string() : event.message);
  }
}

void StepLoop::start_step() {
  const std::optional<int> budget = permission_ ? permission_->prefill_budget : std::nullopt;
  const bool planned = planner_.plan(now_, steps_started_ + 1, plan_, budget);
  take_orders();
  planner_.take_moves(outputs_.admitted, outputs_.evicted);
  if (!planned) {
    if (permission_) end_permission(true);
    return;
  }
  used_ = true;
  const bool together = permission_ && permission_->members != 0;
  plan_.gang_step = together ? permission_->number : kSolo;
  plan_.gang_members = together ? permission_->members : 0;
  ++steps_started_;
  plan_.batch = BatchId{static_cast<BatchId::rep>(steps_started_)};
  for (const SequenceStep& step : plan_.sequences) {
    table_.at(step.request).in_batch = true;
  }
  batch_state_ = BatchState::kRunning;
  lost_members_ = cancels_ = false;
  totals_.running_step = shape_of_plan();
  totals_.step_started = now_;
  totals_.step_expected_ms = permission_ ? permission_->expected_ms : 0;
  if (recorder_ != nullptr) recorder_->plan(plan_);
  executor_.start(plan_);
  executor_.advance(plan_.batch, Cursor::end(executor_.layers()));
}

TokenNews& StepLoop::tell(const Sequence& sequence) {
  TokenNews& news = outputs_.news.emplace_back();
  news.request = sequence.request.id;
  news.cached_tokens = sequence.cached_tokens;
  return news;
}

void StepLoop::end(Sequence& sequence, FinishReason reason, std::string error) {
  TokenNews& news = tell(sequence);
  news.finish = reason;
  news.error = std::move(error);
  if (reason == FinishReason::kStop || reason == FinishReason::kLength) {
    ++totals_.finished_requests;
    totals_.finished_output_tokens += static_cast<std::uint64_t>(sequence.generated());
  }
  planner_.remove(sequence, now_);
  table_.erase(sequence.request.id);
}

std::int64_t StepLoop::max_waiting_prefill_tokens() const {
  if (options_.max_waiting_prefill_tokens) return *options_.max_waiting_prefill_tokens;
  const double rate = prefill_rate_.tokens_per_second().value_or(0);
  return std::max(kLeastQueueBound, static_cast<std::int64_t>(rate * kQueueBoundSeconds));
}

SchedulerCounters StepLoop::counters() const {
  SchedulerCounters counters = totals_;
  if (batch_state_ == BatchState::kNone) counters.running_step.reset();
  counters.pages_total = cache_.total_pages();
  counters.pages_referenced = cache_.referenced_pages();
  counters.page_tokens = cache_.page_tokens();
  planner_.count(now_, counters);
  counters.prefill_cost = prefill_cost();
  counters.prefill_tokens_per_second = prefill_rate_.tokens_per_second();
  counters.pages_freed = cache_.totals().freed;
  counters.pages_evicted = cache_.totals().evicted;
  if (step_times_.fitted()) counters.step_times = step_times_.coefficients();
  counters.expert_ratio = step_times_.expert_ratio();
  return counters;
}

}  // namespace gimbal::sched
