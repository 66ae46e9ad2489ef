#include "engine/serving_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <limits>
#include <stdexcept>
#include <utility>
#include <variant>

#include "base/log.h"
#include "base/niceness.h"
#include "base/thread_name.h"
#include "cluster/engine_snapshot.h"
#include "engine/record_file.h"
#include "sched/request_group.h"

namespace gimbal::engine {
namespace {

LifeSigns& life_of(const ServingEngineOptions& options, const GroupSeat* seat, LifeSigns& own) {
  if (seat != nullptr) return seat->group.life();
  return options.peers != nullptr ? *options.peers : own;
}

int place_of(const ServingEngineOptions& options, const GroupSeat* seat) {
  if (seat != nullptr) return seat->rank.value();
  return options.peers != nullptr ? options.id.value() : 0;
}

}  // namespace

ServingEngine::ServingEngine(const model::Model& model, ServingEngineOptions options,
                             ThreadPool& pool, cluster::TokenSink& sink, const GroupSeat* seat)
    : options_(std::move(options)),
      pool_(pool),
      sink_(sink),
      life_(life_of(options_, seat, own_life_)),
      place_(place_of(options_, seat)),
      bell_(life_.bell(place_)),
      watch_(life_, place_, options_.dead_after),
      member_(seat == nullptr
                  ? nullptr
                  : std::make_unique<RankMember>(
                        *seat, kernels::KernelContext{.pool = pool, .isa = options_.isa})),
      // One page more than the scheduler knows, for steps without sequences.
      kv_(model.config(), model.dtype(), options_.scheduler.kv_pages + (member_ ? 1 : 0)),
      executor_(model, kv_, context(), clock_,
                {.max_batch_rows = options_.scheduler.max_num_batched_tokens},
                member_ ? &member_->place() : nullptr) {
  if (member_) member_->join(executor_, PageId{options_.scheduler.kv_pages});
  observe();
}

// Has the parts draw and record, where that is asked for.
void ServingEngine::observe() {
  executor_.set_routing_recorder(options_.routing, Rank{options_.id.value()});
  if (options_.trace == nullptr) return;
  Trace& trace = *options_.trace;
  const std::int32_t process =
      trace.add_process(trace.intern(fmt::format("engine {}", options_.id.value())));
  executor_.set_trace(&trace, trace.add_track(process, "batches"));
  executor_.trace_own_experts(
      trace, trace.intern(fmt::format("experts of engine {}", options_.id.value())));
  spans_.emplace(trace, trace.add_track(process, "requests"));
}

// Of the executor's kernels.
kernels::KernelContext ServingEngine::context() {
  Interrupt* const interrupt = life_.places() > 1 ? this : nullptr;
  return {.pool = pool_, .isa = options_.isa, .interrupt = interrupt};
}

Result<std::unique_ptr<ServingEngine>> ServingEngine::start(const model::Model& model,
                                                            ServingEngineOptions options,
                                                            ThreadPool& pool,
                                                            cluster::TokenSink& sink,
                                                            const GroupSeat* seat) {
  GIMBAL_RETURN_IF_ERROR(complete_options(model, options));
  options.scheduler.report_order = options.decisions != nullptr || !options.record_path.empty();
  options.scheduler.asks_before_steps =
      seat != nullptr && seat->gang.pace() != cluster::GangPace::kImmediate;
  std::unique_ptr<ServingEngine> engine(
      new ServingEngine(model, std::move(options), pool, sink, seat));
  const sched::StepLoopOptions& scheduler = engine->options_.scheduler;
  if (const std::string& path = engine->options_.record_path; !path.empty()) {
    engine->record_.open(path, std::ios::trunc);
    if (!engine->record_) return io_error(path, errno);
    engine->recorder_.emplace(engine->record_);
  }
  GIMBAL_ASSIGN_OR_RETURN(engine->loop_,
                          sched::StepLoop::make(scheduler, engine->executor_,
                                                engine->recorder_ ? &*engine->recorder_ : nullptr));
  engine->limits_ = {.max_model_len = scheduler.max_model_len,
                     .vocab_size = scheduler.vocab_size,
                     .max_waiting_prefill_tokens = engine->loop_->max_waiting_prefill_tokens()};
  engine->publish();
  engine->thread_ = std::thread([raw = engine.get()] { raw->work(); });
  return engine;
}

ServingEngine::~ServingEngine() {
  {
    const std::lock_guard lock(inbox_mutex_);
    stopping_ = true;
    inbox_pending_.store(true);
  }
  bell_.ring();
  if (thread_.joinable()) thread_.join();
  close_record(record_, options_.record_path);
}

Result<void> ServingEngine::submit(std::vector<sched::Request> group) {
  for (const sched::Request& request : group)
    GIMBAL_RETURN_IF_ERROR(check(request));
  if (group.empty()) return {};
  const std::int64_t missing = sched::group_prefill_tokens(group, options_.scheduler);
  {
    const std::lock_guard lock(inbox_mutex_);
    const std::int64_t waiting = snapshot().waiting_prefill_tokens;
    if (!failure_.empty()) return Error{ErrorCode::kUnavailable, "the engine failed: " + failure_};
    if (draining_ || stopping_)
      return Error{ErrorCode::kUnavailable, "the server is shutting down"};
    // May count a request twice for a moment, never not at all.
    const std::int64_t ahead = waiting + taken_prompt_tokens_ + inbox_prompt_tokens_;
    const std::int64_t bound = max_waiting_prefill_tokens_.load(std::memory_order_relaxed);
    if (ahead > 0 && ahead + missing > bound) {
      return Error{
          ErrorCode::kResourceExhausted,
          fmt::format("the queue is full: {} prompt tokens wait, at most {} may", ahead, bound)};
    }
    inbox_prompt_tokens_ += missing;
    accepted_.fetch_add(static_cast<std::int64_t>(group.size()));
    inbox_.emplace_back(sched::SubmitGroup{std::move(group)});
    inbox_pending_.store(true, std::memory_order_release);
  }
  bell_.ring();
  return {};
}

void ServingEngine::push(sched::Event event) {
  {
    const std::lock_guard lock(inbox_mutex_);
    if (!failure_.empty()) return;
    inbox_.push_back(std::move(event));
    inbox_pending_.store(true, std::memory_order_release);
  }
  bell_.ring();
}

void ServingEngine::cancel(RequestId request) {
  push(sched::CancelRequest{request});
}

void ServingEngine::drain() {
  {
    const std::lock_guard lock(inbox_mutex_);
    draining_ = true;
  }
  push(sched::SetDraining{true});
}

bool ServingEngine::idle() const {
  return accepted_.load() == 0;
}

cluster::EngineSnapshot ServingEngine::snapshot() const {
  const bool ended = ended_.load() || given_up();
  return ended ? cluster::without_work(snapshot_.read()) : snapshot_.read();
}

void ServingEngine::take_prefix_events(std::vector<kv::PrefixEvent>& events) {
  prefix_events_.take(events);
}

bool ServingEngine::healthy(std::string* why) const {
  const std::lock_guard lock(inbox_mutex_);
  if (failure_.empty() && !given_up()) return true;
  if (why != nullptr) *why = failure_.empty() ? "the engine hangs and was declared dead" : failure_;
  return false;
}

bool ServingEngine::declared_dead() const {
  const std::lock_guard lock(inbox_mutex_);
  return failure_.empty() && given_up();
}

bool ServingEngine::given_up() const {
  return !life_.alive(place_) || (member_ && member_->broken());
}

bool ServingEngine::take_inbox(std::vector<sched::Event>& events) {
  if (!inbox_pending_.load(std::memory_order_acquire)) return true;
  const std::lock_guard lock(inbox_mutex_);
  std::swap(events, inbox_);
  note_live(events);  // at once: they are to end even if this thread fails before it handles them
  taken_prompt_tokens_ += std::exchange(inbox_prompt_tokens_, 0);
  inbox_pending_.store(false, std::memory_order_relaxed);
  return !stopping_;
}

void ServingEngine::work() {
  name_thread(fmt::format("engine {}", options_.id.value()));
  try {
    serve();
    fail_all(sched::FinishReason::kCancelled, "the engine was stopped");
  } catch (const std::exception& cause) {
    log_error("the engine's thread failed: {}", cause.what());
    fail_all(sched::FinishReason::kFailed, cause.what());
  }
  retire(place_);
}

void ServingEngine::retire(int place) {
  if (member_) {
    member_->retire(Rank{place});
  } else if (life_.retire(place)) {
    life_.announce(place);
  }
}

void ServingEngine::look_after_life() {
  life_.beat(place_);
  if (thrown_) std::rethrow_exception(thrown_);
  if (!life_.alive(place_))
    throw std::runtime_error("this engine gave no sign of life and was declared dead");
  if (member_ && member_->broken())
    throw std::runtime_error("an engine of its group failed while it ran experts for the others");
  look_out();
}

void ServingEngine::between_tasks() {
  life_.beat(place_);
  if (member_) member_->port().between_tasks();
  if (thrown_) return;
  try {
    look_out();
  } catch (...) {
    thrown_ = std::current_exception();
  }
}

void ServingEngine::look_out() {
  for (const int place : watch_.look(clock_.now())) {
    log_error("{} {} gave no sign of life for {:.1f} s: declared dead", member_ ? "rank" : "engine",
              place, to_ms(watch_.dead_after()) / 1000.0);
    retire(place);
  }
}

void ServingEngine::serve() {
  if (options_.pin) pool_.pin_caller();
  be_nicer(options_.nice);
  std::vector<sched::Event> events;
  while (true) {
    // Read before anything is looked at, so that what comes meanwhile ends the rest.
    const std::uint32_t rung = bell_.rings();
    if (!take_inbox(events)) break;
    if (life_.places() > 1) look_after_life();
    if (member_) member_->take_answers(events);
    if (!events.empty()) handle(events);
    const Progress progress = executor_.run(events);
    if (member_) member_->take_dummy_events(events);
    if (!events.empty()) handle(events);
    if (progress == Progress::kWorked) continue;
    if (!member_ || !member_->port().serve()) rest(rung, progress);
  }
  handle(events);
}

void ServingEngine::rest(std::uint32_t rung, Progress progress) {
  std::optional<Duration> limit = member_ ? member_->keep_time() : std::nullopt;
  if (life_.places() > 1) {
    const Duration look = std::max(Duration::zero(), watch_.next_look() - clock_.now());
    limit = std::min(look, limit.value_or(look));
  }
  const bool spins = member_ && progress == Progress::kWaiting;
  bell_.wait(rung, limit, spins ? options_.spin : Duration::zero());
}

void ServingEngine::note_live(std::span<const sched::Event> events) {
  for (const sched::Event& event : events) {
    if (const auto* submitted = std::get_if<sched::SubmitGroup>(&event)) {
      for (const sched::Request& request : submitted->requests)
        live_.insert(request.id);
    }
  }
}

// Feeds the scheduler, tells what it says, and empties `events`.
void ServingEngine::handle(std::vector<sched::Event>& events) {
  const bool stage_only = std::all_of(events.begin(), events.end(), [](const sched::Event& event) {
    return std::holds_alternative<sched::StageReached>(event);
  });
  const TimePoint now = clock_.now();
  if (spans_) spans_->arrived(events, now);
  sched::Outputs& said = loop_->on(now, events);
  if (options_.decisions != nullptr && !said.ordered.empty()) {
    const sched::StepLoopOptions& scheduler = options_.scheduler;
    options_.decisions->note_orders(options_.id, now, {scheduler.order, scheduler.order_options},
                                    said.ordered);
  }
  events.clear();
  outputs_.clear();
  for (sched::TokenNews& news : said.news) {
    outputs_.push_back({.request = news.request,
                        .token = news.token,
                        .logprobs = std::move(news.logprobs),
                        .prompt_logprobs = std::move(news.prompt_logprobs),
                        .finish = news.finish,
                        .error = std::move(news.error),
                        .cached_tokens = news.cached_tokens});
  }
  for (const sched::Refusal& refusal : said.refusals) {
    outputs_.push_back({.request = refusal.request,
                        .finish = sched::FinishReason::kFailed,
                        .error = refusal.error.message,
                        .refused = refusal.error.code});
  }
  if (member_) {
    for (cluster::TokenOutput& output : outputs_) {
      if (output.finish) output.expert_rows = executor_.take_expert_rows(output.request);
    }
    member_->tell(said);
  }
  if (spans_) {
    spans_->told(outputs_, now);
    spans_->evicted(said.evicted, now);
    spans_->admitted(said.admitted, now);
  }
  std::int64_t ended = 0;
  for (const cluster::TokenOutput& output : outputs_) {
    if (output.finish && live_.erase(output.request) > 0) ++ended;
  }
  if (!stage_only || ended > 0) publish();
  accepted_.fetch_sub(ended);
  if (!outputs_.empty()) sink_.on_outputs(outputs_);
}

void ServingEngine::publish() {
  const ExpertPort::Totals& experts = executor_.experts().totals();
  max_waiting_prefill_tokens_.store(loop_->max_waiting_prefill_tokens(), std::memory_order_relaxed);
  prefix_events_.give(loop_->prefix_events());
  loop_->clear_prefix_events();
  snapshot_.publish(cluster::snapshot_of(
      *loop_, {.sequence = ++snapshots_,
               .taken = clock_.now(),
               .expert_rows = experts.rows,
               .distinct_experts = static_cast<std::uint64_t>(experts.distinct_experts)}));
  const std::lock_guard inbox_lock(inbox_mutex_);
  taken_prompt_tokens_ = 0;
}

// Ends what is left, inbox included, and takes nothing any more.
void ServingEngine::fail_all(sched::FinishReason reason, const std::string& why) {
  {
    const std::lock_guard lock(inbox_mutex_);
    failure_ = why;
    note_live(inbox_);
    inbox_.clear();
  }
  outputs_.clear();
  for (const RequestId request : live_) {
    outputs_.push_back({.request = request,
                        .finish = reason,
                        .error = reason == sched::FinishReason::kFailed ? why : std::string()});
  }
  live_.clear();
  if (spans_) spans_->end_all(clock_.now());
  ended_.store(true);
  if (!outputs_.empty()) sink_.on_outputs(outputs_);
  accepted_.store(0);
}

}  // namespace gimbal::engine
