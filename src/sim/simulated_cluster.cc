#include "sim/simulated_cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/hash.h"
#include "workload/prompt_tokens.h"

namespace gimbal::sim {
namespace {

constexpr int kKindBits = 2;
constexpr std::uint64_t kEventsBetween = 1 << 14;  // calls of `progress`

// The topic of a prompt: the first that a part of it has.
int topic_of(const workload::RequestSpec& request, int topics) {
  for (const workload::PromptPart& part : request.prompt) {
    if (part.topic != workload::kAnyTopic) return part.topic % topics;
  }
  return 0;
}

}  // namespace

SimulatedCluster::SimulatedCluster(SimulatedClusterOptions options,
                                   const workload::Workload& workload)
    : options_(std::move(options)),
      workload_(workload),
      log_(workload),
      rng_(hash_combine(options_.seed, 0x51)) {}

Result<std::unique_ptr<SimulatedCluster>> SimulatedCluster::make(
    SimulatedClusterOptions options, const workload::Workload& workload) {
  std::unique_ptr<SimulatedCluster> cluster(new SimulatedCluster(std::move(options), workload));
  GIMBAL_RETURN_IF_ERROR(cluster->build());
  return cluster;
}

Result<void> SimulatedCluster::build() {
  GIMBAL_CHECK(!options_.groups.empty());
  cluster::DispatcherOptions dispatch = options_.dispatch;
  const sched::StepLoopOptions& scheduler = options_.groups.front().options.scheduler;
  dispatch.page_tokens = scheduler.page_tokens;
  dispatch.prefix_caching = scheduler.prefix_caching;
  dispatch.model_salt = scheduler.model_salt;
  dispatch.order = scheduler.order;
  dispatch.order_options = scheduler.order_options;
  dispatch.prefill_cost = scheduler.prefill_cost;
  max_model_len_ = scheduler.max_model_len;
  vocab_size_ = scheduler.vocab_size;
  const int topics = options_.groups.front().hardware->loads.topics();
  topics_.reserve(workload_.requests.size());
  for (const workload::RequestSpec& request : workload_.requests)
    topics_.push_back(static_cast<std::uint8_t>(topic_of(request, topics)));
  for (std::size_t g = 0; g < options_.groups.size(); ++g) {
    SimulatedClusterOptions::Group& group = options_.groups[g];
    group.options.first_engine = EngineId{static_cast<EngineId::rep>(places_.size())};
    group.options.scheduler.record_prefix_events = true;
    group.options.scheduler.profile_queues = true;
    for (int rank = 0; rank < group.options.ranks; ++rank) {
      places_.push_back({.group = static_cast<int>(g), .rank = Rank{rank}});
      dispatch.groups.push_back(static_cast<int>(g));
    }
    max_model_len_ = std::min<std::int64_t>(max_model_len_, group.options.scheduler.max_model_len);
  }
  dispatch.engines = size();
  if (options_.groups.size() == places_.size()) dispatch.groups.clear();
  late_prefix_.resize(places_.size());
  GIMBAL_RETURN_IF_ERROR(check_script());
  GIMBAL_ASSIGN_OR_RETURN(dispatcher_,
                          cluster::Dispatcher::make(dispatch, options_.dispatch_recorder));
  if (options_.on_decision) dispatcher_->on_decision(options_.on_decision);
  for (const SimulatedClusterOptions::Group& group : options_.groups) {
    GIMBAL_ASSIGN_OR_RETURN(groups_.emplace_back(),
                            SimulatedGroup::make(group.options, {.queue = queue_,
                                                                 .model = group.hardware->model,
                                                                 .routing = group.hardware->routing,
                                                                 .loads = group.hardware->loads,
                                                                 .map = group.hardware->map,
                                                                 .topics = topics_,
                                                                 .cluster = *this,
                                                                 .recorders = options_.recorders,
                                                                 .trace = options_.trace}));
  }
  return {};
}

Result<void> SimulatedCluster::check_script() const {
  for (std::size_t i = 0; i < options_.script.size(); ++i) {
    const ScriptEvent& event = options_.script[i];
    if (event.engine.value() >= 0 && event.engine.value() < size()) continue;
    return invalid_argument(fmt::format("script[{}].engine must be from 0 to {}, is {}", i,
                                        size() - 1, event.engine.value()),
                            "script");
  }
  return {};
}

SimulatedEngine& SimulatedCluster::engine(int index) {
  const Place& place = places_[static_cast<std::size_t>(index)];
  return groups_[static_cast<std::size_t>(place.group)]->engine(place.rank);
}

void SimulatedCluster::schedule(Duration at, EventKind kind, std::uint64_t value) {
  queue_.at(TimePoint{at}, *this, (value << kKindBits) | kind);
}

void SimulatedCluster::run(const std::function<bool(std::size_t)>& progress) {
  for (std::size_t i = 0; i < options_.script.size(); ++i) {
    const ScriptEvent& event = options_.script[i];
    if (event.kind == ScriptEvent::Kind::kStart) {
      engine(event.engine.value()).set_draining(true);
      set_down(event.engine, true);
    }
    schedule(event.at, kScript, i);
  }
  if (!workload_.requests.empty()) schedule(workload_.requests.front().arrival, kArrival, 0);
  while (log_.ended() < log_.size() && queue_.run_one()) {
    if (progress && queue_.handled() % kEventsBetween == 0 && !progress(log_.ended())) return;
  }
  for (std::size_t i = 0; i < log_.size(); ++i) {
    if (log_.at(i).end == RequestEnd::kNone) log_.note_end(i, RequestEnd::kFailed);
  }
}

void SimulatedCluster::on_event(std::uint64_t what) {
  const auto value = static_cast<std::size_t>(what >> kKindBits);
  switch (static_cast<EventKind>(what & ((1U << kKindBits) - 1))) {
    case kArrival:
      return arrive(value);
    case kScript:
      return play(options_.script[value]);
    case kNotice:
      return notice_failure(EngineId{static_cast<EngineId::rep>(value)});
    case kSignal:
      return take_signal(value);
  }
}

void SimulatedCluster::arrive(std::size_t index) {
  arrived_ = index + 1;
  if (arrived_ < workload_.requests.size()) {
    schedule(workload_.requests[arrived_].arrival, kArrival, arrived_);
  }
  submit(index);
}

sched::Request SimulatedCluster::make_request(std::size_t index) const {
  const workload::RequestSpec& spec = workload_.requests[index];
  sched::Request request;
  request.id = RequestId{static_cast<RequestId::rep>(index + 1)};
  request.prompt = workload::prompt_tokens(
      spec, {.vocab_size = vocab_size_, .first = options_.first_token, .topics = options_.topics});
  request.max_tokens = static_cast<int>(spec.output_tokens);
  if (spec.traffic_class == workload::TrafficClass::kBestEffort)
    request.request_class = sched::RequestClass::kBestEffort;
  if (!spec.user.empty()) request.user_key = hash_bytes(spec.user);
  return request;
}

void SimulatedCluster::submit(std::size_t index) {
  const workload::RequestSpec& spec = workload_.requests[index];
  if (spec.prompt_tokens() + spec.output_tokens > max_model_len_) {
    return end(index, RequestEnd::kTooLong);
  }
  std::vector<sched::Request> group;
  group.push_back(make_request(index));
  if (spec.source) {  // fixed to an engine
    SimulatedEngine& own = engine(*spec.source % size());
    if (!own.accepts()) return end(index, RequestEnd::kFailed);
    log_.at(index).engine = own.id().value();
    own.submit(std::move(group));
    return;
  }
  fetch();
  const Result<void> queued = dispatcher_->submit(std::move(group), queue_.now());
  if (!queued.ok()) return end(index, RequestEnd::kRefused);
  send_all();
}

// Sends what the dispatcher binds. What an engine says meanwhile may bind more.
void SimulatedCluster::send_all() {
  if (sending_) return;
  sending_ = true;
  while (auto dispatched = dispatcher_->next(queue_.now()))
    send(*dispatched);
  sending_ = false;
}

void SimulatedCluster::send(cluster::Dispatched& dispatched) {
  SimulatedEngine& to = engine(dispatched.engine.value());
  if (!to.accepts()) {
    dispatcher_->note_health(dispatched.engine, false, queue_.now());
    return give_back_or_end(dispatched, RequestEnd::kFailed);
  }
  const bool again =
      std::find(dispatched.tried.begin(), dispatched.tried.end(), true) != dispatched.tried.end();
  for (const sched::Request& request : dispatched.group) {
    log_.at(index_of(request.id)).engine = dispatched.engine.value();
    if (again) tried_[request.id] = dispatched.tried;
  }
  to.submit(std::move(dispatched.group));
}

void SimulatedCluster::give_back_or_end(cluster::Dispatched& dispatched, RequestEnd how) {
  if (dispatcher_->give_back(dispatched)) return;
  for (const sched::Request& request : dispatched.group) {
    dispatcher_->note_end(request.id);
    end(index_of(request.id), how);
  }
}

// The engine has it no more and has said nothing of it: another one may take it.
void SimulatedCluster::retry(EngineId from, RequestId request, RequestEnd otherwise) {
  const std::size_t index = index_of(request);
  cluster::Dispatched back{
      .engine = from, .group = {}, .tried = {}, .arrival = TimePoint{log_.at(index).arrival}};
  if (const auto tried = tried_.find(request); tried != tried_.end()) back.tried = tried->second;
  back.group.push_back(make_request(index));
  give_back_or_end(back, otherwise);
}

void SimulatedCluster::end(std::size_t index, RequestEnd how) {
  log_.note_end(index, how);
  if (!tried_.empty()) tried_.erase(RequestId{static_cast<RequestId::rep>(index + 1)});
}

void SimulatedCluster::note(const sched::TokenNews& news) {
  const std::size_t index = index_of(news.request);
  RequestEntry& entry = log_.at(index);
  const bool first = entry.output_tokens == 0;
  if (news.token) log_.note_token(index, queue_.now().time_since_epoch());
  entry.cached_tokens = news.cached_tokens;
  if (!news.finish) {
    if (first) dispatcher_->note_first_token(news.request);
    return;
  }
  dispatcher_->note_end(news.request);
  const bool whole =
      *news.finish == sched::FinishReason::kLength || *news.finish == sched::FinishReason::kStop;
  end(index, whole                                             ? RequestEnd::kCompleted
             : *news.finish == sched::FinishReason::kCancelled ? RequestEnd::kCancelled
                                                               : RequestEnd::kFailed);
}

void SimulatedCluster::on_outputs(SimulatedEngine& from, sched::Outputs& outputs) {
  for (const sched::TokenNews& news : outputs.news)
    note(news);
  bool changed = !outputs.news.empty();
  for (const sched::Refusal& refusal : outputs.refusals) {
    changed = true;
    if (refusal.error.code == ErrorCode::kResourceExhausted) {
      retry(from.id(), refusal.request, RequestEnd::kRefused);
    } else {
      dispatcher_->note_end(refusal.request);
      end(index_of(refusal.request), RequestEnd::kTooLong);
    }
  }
  if (!options_.signals.instant()) publish(from);
  if (!changed || dispatcher_->queued_groups() == 0) return;
  fetch();
  send_all();
}

}  // namespace gimbal::sim
