#include "live/live_engine.h"

#include <fmt/format.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/log.h"
#include "base/thread_name.h"
#include "cluster/engine_snapshot.h"
#include "sched/request_check.h"

namespace gimbal::live {
namespace {

// Events that are handled before others may look at the simulation, and before outputs are told.
constexpr std::size_t kMostEvents = 1024;
constexpr Duration kNotedLag = std::chrono::seconds(1);  // by the clock
constexpr Duration kBetweenWarnings = std::chrono::seconds(10);
constexpr double kFarNs = 3e18;  // 95 years: nobody waits for what comes later

}  // namespace

LiveEngine::LiveEngine(LiveOptions options, const Clock& clock, cluster::TokenSink& sink)
    : time_scale_(options.time_scale),
      clock_(clock),
      started_(clock.now()),
      sink_(sink),
      warned_(started_ - kBetweenWarnings),
      book_(std::move(options.text)) {}

Result<std::unique_ptr<LiveEngine>> LiveEngine::make(LiveOptions options, const Clock& clock,
                                                     cluster::TokenSink& sink) {
  if (!(options.time_scale > 0 && options.time_scale <= kMostTimeScale)) {  // not a number either
    return invalid_argument(fmt::format("time_scale must be more than 0 and at most {}, is {}",
                                        kMostTimeScale, options.time_scale),
                            "time-scale");
  }
  sim::SimulatedClusterOptions cluster = std::move(options.cluster);
  std::unique_ptr<LiveEngine> engine(new LiveEngine(std::move(options), clock, sink));
  GIMBAL_ASSIGN_OR_RETURN(engine->cluster_,
                          sim::ServingCluster::make(std::move(cluster), engine->book_));
  sim::ServingCluster& made = *engine->cluster_;
  made.start();
  engine->experts_ = std::make_unique<LiveExperts>(made, engine->mutex_);
  engine->limits_ = {.max_model_len = made.max_model_len(),
                     .vocab_size = made.vocab_size(),
                     .engines = made.size()};
  for (int i = 0; i < made.size(); ++i) {
    engine->limits_.max_waiting_prefill_tokens +=
        made.engine(i).loop().max_waiting_prefill_tokens();
  }
  return engine;
}

LiveEngine::~LiveEngine() {
  {
    const std::lock_guard lock(inbox_mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  std::vector<cluster::TokenOutput> left;
  for (const Call& call : inbox_) {
    const auto* group = std::get_if<std::vector<sched::Request>>(&call.what);
    if (group == nullptr) continue;
    for (const sched::Request& request : *group)
      left.push_back({.request = request.id, .finish = sched::FinishReason::kCancelled});
  }
  if (!left.empty()) sink_.on_outputs(left);
  book_.cancel_all();
  left = book_.take_outputs();
  if (!left.empty()) sink_.on_outputs(left);
}

void LiveEngine::start() {
  thread_ = std::thread([this] { work(); });
}

TimePoint LiveEngine::virtual_now() const {
  const auto passed = static_cast<double>((clock_.now() - started_).count());
  return TimePoint{Duration{static_cast<Duration::rep>(passed * time_scale_)}};
}

// When virtual time gets there: not before.
TimePoint LiveEngine::clock_time(TimePoint virtual_time) const {
  const auto passed = static_cast<double>(virtual_time.time_since_epoch().count());
  const double ns = std::min(std::ceil(passed / time_scale_), kFarNs);
  return started_ + Duration{static_cast<Duration::rep>(ns)};
}

void LiveEngine::work() {
  name_thread("simulation");
  prctl(PR_SET_TIMERSLACK, 1UL);  // wakes as exactly as it can
  std::unique_lock lock(inbox_mutex_);
  while (!stopping_) {
    lock.unlock();
    const std::optional<TimePoint> next = advance();
    lock.lock();
    const auto awake = [this] { return stopping_ || !inbox_.empty(); };
    if (!next) {
      wake_.wait(lock, awake);
    } else {
      wake_.wait_for(lock, *next - clock_.now(), awake);
    }
  }
}

std::optional<TimePoint> LiveEngine::advance() {
  std::vector<Call> calls;
  TimePoint target;
  {
    const std::lock_guard lock(inbox_mutex_);
    calls.swap(inbox_);
    target = virtual_now();  // what is submitted from here on comes later
  }
  for (Call& call : calls) {
    run_to(call.time);
    carry_out(call);
  }
  run_to(target);
  note_lag(target);
  const std::lock_guard lock(mutex_);
  const std::optional<TimePoint> next = cluster_->queue().next();
  return next ? std::optional(clock_time(*next)) : std::nullopt;
}

void LiveEngine::run_to(TimePoint time) {
  bool there = false;
  while (!there && !stopping_) {
    std::vector<cluster::TokenOutput> outputs;
    {
      const std::lock_guard lock(mutex_);
      there = cluster_->run_until(time, kMostEvents);
      outputs = book_.take_outputs();
    }
    if (!outputs.empty()) sink_.on_outputs(outputs);
  }
}

// Outputs of it are told by the run_to() that follows.
void LiveEngine::carry_out(Call& call) {
  if (stopping_) {
    const std::lock_guard lock(inbox_mutex_);
    inbox_.push_back(std::move(call));
    return;
  }
  const std::lock_guard lock(mutex_);
  if (const auto* request = std::get_if<RequestId>(&call.what)) return cluster_->cancel(*request);
  auto& group = std::get<std::vector<sched::Request>>(call.what);
  std::vector<RequestId> ids;
  for (const sched::Request& request : group) {
    ids.push_back(request.id);
    book_.add(request, cluster_->now(), limits_.max_model_len);
  }
  const Result<void> taken = cluster_->submit(std::move(group));
  if (taken.ok()) return;
  for (const RequestId id : ids)
    book_.on_end(id, sim::RequestEnd::kRefused, taken.error());
}

void LiveEngine::note_lag(TimePoint target) {
  const Duration lag = clock_.now() - clock_time(target);
  if (lag < kNotedLag || clock_.now() - warned_ < kBetweenWarnings) return;
  warned_ = clock_.now();
  log_warning("the simulation is {:.1f} s behind the clock: tokens come late", to_ms(lag) * 1e-3);
}

Result<void> LiveEngine::check(const sched::Request& request) const {
  GIMBAL_RETURN_IF_ERROR(sched::check_request(request, limits_.max_model_len, limits_.vocab_size));
  if (request.sampling.logprobs >= 0 || request.sampling.prompt_logprobs) {
    return unsupported("logprobs must be absent: a simulated model has no probabilities",
                       "logprobs");
  }
  return {};
}

Result<void> LiveEngine::submit(std::vector<sched::Request> group) {
  for (const sched::Request& request : group)
    GIMBAL_RETURN_IF_ERROR(check(request));
  if (group.empty()) return {};
  {
    const std::lock_guard lock(inbox_mutex_);
    if (draining_ || stopping_)
      return Error{ErrorCode::kUnavailable, "the server is shutting down"};
    inbox_.push_back({.time = virtual_now(), .what = std::move(group)});
  }
  wake_.notify_one();
  return {};
}

void LiveEngine::cancel(RequestId request) {
  {
    const std::lock_guard lock(inbox_mutex_);
    inbox_.push_back({.time = virtual_now(), .what = request});
  }
  wake_.notify_one();
}

void LiveEngine::drain() {
  const std::lock_guard lock(inbox_mutex_);
  draining_ = true;
}

cluster::EngineSnapshot LiveEngine::snapshot() const {
  cluster::EngineSnapshot sum;
  const std::lock_guard lock(mutex_);
  for (int i = 0; i < cluster_->size(); ++i)
    cluster::add_snapshot(sum, cluster_->engine(i).snapshot());
  cluster::add_queued(sum, cluster_->dispatcher());
  if (sum.prefill_tokens_per_second) *sum.prefill_tokens_per_second *= time_scale_;
  return sum;
}

bool LiveEngine::healthy(std::string* why) const {
  const std::lock_guard lock(mutex_);
  for (int i = 0; i < cluster_->size(); ++i) {
    if (cluster_->engine(i).accepts()) return true;
  }
  if (why != nullptr) *why = "no engine of the simulated cluster takes requests";
  return false;
}

std::vector<cluster::EngineStatus> LiveEngine::engine_status() const {
  const std::lock_guard lock(mutex_);
  cluster_->fetch();
  const TimePoint now = std::max(virtual_now(), cluster_->now());
  std::vector<cluster::EngineStatus> all;
  for (int i = 0; i < cluster_->size(); ++i) {
    sim::SimulatedEngine& engine = cluster_->engine(i);
    cluster::EngineStatus& status =
        all.emplace_back(cluster::engine_status_of(cluster_->dispatcher(), EngineId{i}, now));
    status.snapshot = engine.snapshot();
    status.healthy = engine.accepts();
    if (!status.healthy) {
      status.failure = engine.failed() ? "the engine failed" : "the engine takes no requests";
    }
  }
  return all;
}

cluster::DispatchStatus LiveEngine::dispatch_status() const {
  const std::lock_guard lock(mutex_);
  return cluster::dispatch_status_of(cluster_->dispatcher());
}

std::vector<cluster::DecisionRecord> LiveEngine::decisions_of(RequestId request) const {
  const std::lock_guard lock(mutex_);
  return cluster_->dispatcher().log().of(request);
}

std::vector<cluster::DecisionRecord> LiveEngine::last_decisions(std::size_t most) const {
  const std::lock_guard lock(mutex_);
  return cluster_->dispatcher().log().last(most);
}

}  // namespace gimbal::live
