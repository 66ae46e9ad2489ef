#include "engine/data_parallel_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "cluster/engine_snapshot.h"
#include "engine/record_file.h"

namespace gimbal::engine {
namespace {

using cluster::EngineSnapshot;
using cluster::TokenOutput;

constexpr std::string_view kGivenUp = "the engine hangs and was given up";

// What the exchange of a token's expert rows is made to take, all layers together.
double exchange_ms_per_token(const model::Model& model, const EngineFleetOptions& fleet) {
  const model_config::ModelConfig& config = model.config();
  const int ranks = EngineFleet::group_size(fleet, config.moe_layers() > 0 ? config.experts : 0);
  if (ranks < 2 || !fleet.profile) return 0;
  const double row_bytes =
      static_cast<double>(config.hidden_size) * static_cast<double>(tensor::size_of(model.dtype()));
  return fleet.profile->round_trip_ms(ranks,
                                      row_bytes * config.experts_per_token * config.moe_layers());
}

}  // namespace

DataParallelEngine::DataParallelEngine(const DataParallelOptions& options, cluster::TokenSink& sink)
    : options_(options),
      sink_(sink),
      failed_(static_cast<std::size_t>(options.fleet.engines)),
      given_up_(failed_.size()) {}

Result<std::unique_ptr<DataParallelEngine>> DataParallelEngine::start(
    const model::Model& model, const DataParallelOptions& options, ThreadPool& pool,
    cluster::TokenSink& sink) {
  const int experts = model.config().moe_layers() > 0 ? model.config().experts : 0;
  GIMBAL_RETURN_IF_ERROR(EngineFleet::check(options.fleet, experts));
  std::unique_ptr<DataParallelEngine> whole(new DataParallelEngine(options, sink));
  cluster::DispatcherOptions dispatch = options.dispatch;
  cluster::match_scheduler(dispatch, options.fleet.engine.scheduler);
  dispatch.engines = options.fleet.engines;
  dispatch.engines_alike = true;
  dispatch.page_tokens = kernels::kPageTokens;
  dispatch.rule_options.exchange_ms_per_token =
      options.exchange_ms_per_token.value_or(exchange_ms_per_token(model, options.fleet));
  const int group = EngineFleet::group_size(options.fleet, experts);
  for (int i = 0; group > 1 && i < options.fleet.engines; ++i)
    dispatch.groups.push_back(i / group);
  GIMBAL_RETURN_IF_ERROR(whole->open_files(std::move(dispatch)));
  EngineFleetOptions fleet = options.fleet;
  fleet.engine.scheduler.record_prefix_events = true;
  fleet.engine.scheduler.profile_queues = true;
  std::vector<cluster::TokenSink*> sinks;
  for (int i = 0; i < fleet.engines; ++i) {
    sinks.push_back(
        whole->sinks_.emplace_back(std::make_unique<EngineSink>(*whole, EngineId{i})).get());
  }
  GIMBAL_ASSIGN_OR_RETURN(whole->fleet_, EngineFleet::start(model, std::move(fleet), pool, sinks));
  whole->pressure_ = std::make_unique<PressureFeed>(*whole->fleet_, model.config().num_layers());
  whole->fleet_->on_retired([raw = whole.get()] { raw->on_retired(); });
  whole->limits_ = whole->fleet_->engine(0).limits();
  whole->limits_.max_waiting_prefill_tokens *= options.fleet.engines;
  whole->limits_.engines = options.fleet.engines;
  return whole;
}

Result<void> DataParallelEngine::open_files(cluster::DispatcherOptions dispatch) {
  if (const std::string& path = options_.fleet.engine.record_path; !path.empty()) {
    const std::string name = path + ".dispatch";
    record_.open(name, std::ios::trunc);
    if (!record_) return io_error(name, errno);
    recorder_.emplace(record_);
  }
  GIMBAL_ASSIGN_OR_RETURN(dispatcher_,
                          cluster::Dispatcher::make(dispatch, recorder_ ? &*recorder_ : nullptr));
  if (DecisionRecorder* const decisions = options_.fleet.engine.decisions) {
    dispatcher_->on_decision(
        [decisions](const cluster::DecisionRecord& record) { decisions->note_dispatch(record); });
    const cluster::OrderRule rule{dispatch.order, dispatch.order_options};
    dispatcher_->on_order([decisions, rule](TimePoint now, const sched::OrderDecision& decision) {
      decisions->note_orders(std::nullopt, now, rule, {&decision, 1});
    });
  }
  return {};
}

DataParallelEngine::~DataParallelEngine() {
  Outputs ended;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    if (dispatcher_ != nullptr) {
      for (const RequestId request : dispatcher_->queued_requests()) {
        dispatcher_->note_end(request);
        ended.push_back({.request = request, .finish = sched::FinishReason::kCancelled});
      }
    }
  }
  tell(ended);
  fleet_.reset();
  close_record(record_, options_.fleet.engine.record_path + ".dispatch");
}

ServingEngine& DataParallelEngine::engine(EngineId id) const {
  return fleet_->engine(id.value());
}

void DataParallelEngine::tell(Outputs& outputs) {
  if (!outputs.empty()) sink_.on_outputs(outputs);
}

Result<void> DataParallelEngine::submit(std::vector<sched::Request> group) {
  for (const sched::Request& request : group)
    GIMBAL_RETURN_IF_ERROR(fleet_->engine(0).check(request));
  if (group.empty()) return {};
  const RequestId first = group.front().id;
  std::vector<Refused> refused;
  Result<void> result;
  Outputs outputs;
  {
    const std::lock_guard lock(mutex_);
    if (draining_ || stopping_)
      return Error{ErrorCode::kUnavailable, "the server is shutting down"};
    const TimePoint now = clock_.now();
    fetch(now);
    const Result<void> queued = dispatcher_->submit(std::move(group), now);
    refused = send_all(now);
    outputs.swap(lost_);
    result = queued;
  }
  for (const Refused& each : refused) {
    if (each.group.front().id == first) {
      result = each.why;
    } else {
      add_refusal(each, outputs);
    }
  }
  tell(outputs);
  return result;
}

void DataParallelEngine::add_refusal(const Refused& refused, Outputs& outputs) {
  for (const sched::Request& request : refused.group) {
    outputs.push_back({.request = request.id,
                       .finish = sched::FinishReason::kFailed,
                       .error = refused.why.message,
                       .refused = refused.why.code});
  }
}

void DataParallelEngine::fetch_published() const {
  std::vector<kv::PrefixEvent> changes;
  for (int i = 0; i < fleet_->size(); ++i) {
    const EngineId id{i};
    dispatcher_->note_snapshot(id, engine(id).snapshot());
    changes.clear();
    engine(id).take_prefix_events(changes);
    dispatcher_->note_prefix(id, changes);
  }
  pressure_->fetch(*dispatcher_);
}

void DataParallelEngine::fetch(TimePoint now) {
  fetch_published();
  for (int i = 0; i < fleet_->size(); ++i) {
    const EngineId id{i};
    if (engine(id).healthy(nullptr)) continue;
    note_failure(id, now);
    if (engine(id).declared_dead()) give_up(id);
  }
}

// Its thread may hang for ever: its requests go on without it, or end.
void DataParallelEngine::give_up(EngineId id) {
  if (given_up_[static_cast<std::size_t>(id.value())] || stopping_) return;
  given_up_[static_cast<std::size_t>(id.value())] = true;
  for (const RequestId request : dispatcher_->requests_of(id)) {
    if (retry(id, request)) continue;
    if (was_cancelled(request)) {
      lost_.push_back({.request = request, .finish = sched::FinishReason::kCancelled});
    } else {
      lost_.push_back({.request = request,
                       .finish = sched::FinishReason::kFailed,
                       .error = std::string(kGivenUp)});
    }
    untold_.erase(request);
    dispatcher_->note_end(request);
  }
}

// A failed engine does not come back: each time that its exclusion ends, it is excluded again.
void DataParallelEngine::note_failure(EngineId id, TimePoint now) {
  const auto index = static_cast<std::size_t>(id.value());
  if (failed_[index] && now < dispatcher_->watch(id).excluded_until()) return;
  failed_[index] = true;
  dispatcher_->note_health(id, false, now);
}

// Sends what the dispatcher binds. An engine that does not take a group is left for another one.
std::vector<DataParallelEngine::Refused> DataParallelEngine::send_all(TimePoint now) {
  std::vector<Refused> refused;
  std::unordered_map<RequestId, Error> full;  // by first request: what an engine that works said
  while (auto dispatched = dispatcher_->next(now)) {
    const Result<void> sent = send(*dispatched);
    if (sent.ok()) continue;
    const RequestId first = dispatched->group.front().id;
    if (sent.error().code == ErrorCode::kUnavailable) note_failure(dispatched->engine, now);
    if (sent.error().code == ErrorCode::kResourceExhausted) full.emplace(first, sent.error());
    const bool may_retry = sent.error().code != ErrorCode::kInvalidArgument;
    if (may_retry && dispatcher_->give_back(*dispatched)) continue;
    for (const sched::Request& request : dispatched->group)
      dispatcher_->note_end(request.id);
    const auto said = full.find(first);
    refused.push_back(
        {std::move(dispatched->group), said != full.end() ? said->second : sent.error()});
  }
  return refused;
}

Result<void> DataParallelEngine::send(cluster::Dispatched& dispatched) {
  for (const sched::Request& request : dispatched.group) {
    untold_[request.id] = {
        .request = request, .tried = dispatched.tried, .arrival = dispatched.arrival};
  }
  // An engine that hangs would take requests and never say anything of them.
  const bool hangs = given_up_[static_cast<std::size_t>(dispatched.engine.value())];
  const Result<void> taken = hangs ? Error{ErrorCode::kUnavailable, std::string(kGivenUp)}
                                   : engine(dispatched.engine).submit(dispatched.group);
  if (taken.ok()) return {};
  for (const sched::Request& request : dispatched.group)
    untold_.erase(request.id);
  return taken;
}

void DataParallelEngine::on_outputs(EngineId from, std::span<TokenOutput> outputs) {
  Outputs told;
  told.reserve(outputs.size());
  {
    const std::lock_guard lock(mutex_);
    if (given_up_[static_cast<std::size_t>(from.value())]) return;
    bool ended = false;
    for (TokenOutput& output : outputs) {
      ended = ended || output.finish.has_value();
      if (!take_note(from, output)) continue;
      output.engine = from;
      told.push_back(std::move(output));
    }
    if (!stopping_ && (ended || dispatcher_->queued_groups() > 0)) go_on(told);
  }
  tell(told);
}

// An engine is gone. If it hangs, nobody else may have news for long.
void DataParallelEngine::on_retired() {
  Outputs told;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    go_on(told);
  }
  tell(told);
}

void DataParallelEngine::go_on(Outputs& outputs) {
  const TimePoint now = clock_.now();
  fetch(now);
  for (const Refused& refused : send_all(now))
    add_refusal(refused, outputs);
  std::move(lost_.begin(), lost_.end(), std::back_inserter(outputs));
  lost_.clear();
}

bool DataParallelEngine::take_note(EngineId from, TokenOutput& output) {
  if (!output.finish) {
    if (untold_.erase(output.request) > 0) dispatcher_->note_first_token(output.request);
    return true;
  }
  const bool failed = *output.finish == sched::FinishReason::kFailed && !output.token &&
                      output.prompt_logprobs.empty();
  const bool full = output.refused == ErrorCode::kResourceExhausted;
  if (failed && !stopping_ && (full || !engine(from).healthy(nullptr)) &&
      retry(from, output.request)) {
    return false;
  }
  if (failed && was_cancelled(output.request)) {
    output = {.request = output.request, .finish = sched::FinishReason::kCancelled};
  }
  untold_.erase(output.request);
  if (!output.expert_rows.by_rank.empty())
    dispatcher_->note_expert_rows(output.request, output.expert_rows);
  dispatcher_->note_end(output.request);
  return true;
}

bool DataParallelEngine::was_cancelled(RequestId request) const {
  const auto found = untold_.find(request);
  return found != untold_.end() && found->second.cancelled;
}

bool DataParallelEngine::retry(EngineId from, RequestId request) {
  const auto found = untold_.find(request);
  if (found == untold_.end() || found->second.cancelled) return false;
  Untold untold = std::move(found->second);
  untold_.erase(found);
  cluster::Dispatched back{
      .engine = from, .group = {}, .tried = std::move(untold.tried), .arrival = untold.arrival};
  back.group.push_back(std::move(untold.request));
  return dispatcher_->give_back(back);
}

void DataParallelEngine::cancel(RequestId request) {
  Outputs ended;
  {
    const std::lock_guard lock(mutex_);
    if (dispatcher_->cancel_queued(request)) {
      ended.push_back({.request = request, .finish = sched::FinishReason::kCancelled});
      go_on(ended);  // others may have waited behind it
    } else if (const auto id = dispatcher_->engine_of(request)) {
      // If the engine has failed by now, or will before it looks, nobody else gets the request.
      if (const auto untold = untold_.find(request); untold != untold_.end())
        untold->second.cancelled = true;
      engine(*id).cancel(request);
    }
  }
  tell(ended);
}

// The engines do not drain: they may get what waits here, and each other's requests.
void DataParallelEngine::drain() {
  const std::lock_guard lock(mutex_);
  draining_ = true;
}

bool DataParallelEngine::idle() const {
  const std::lock_guard lock(mutex_);
  if (dispatcher_->queued_groups() > 0) return false;
  for (int i = 0; i < fleet_->size(); ++i) {
    if (!given_up_[static_cast<std::size_t>(i)] && !fleet_->engine(i).idle()) return false;
  }
  return true;
}

bool DataParallelEngine::hangs() const {
  for (int i = 0; i < fleet_->size(); ++i) {
    if (fleet_->engine(i).declared_dead()) return true;
  }
  return false;
}

std::vector<EngineSnapshot> DataParallelEngine::snapshots() const {
  std::vector<EngineSnapshot> all;
  for (int i = 0; i < fleet_->size(); ++i)
    all.push_back(fleet_->engine(i).snapshot());
  return all;
}

EngineSnapshot DataParallelEngine::snapshot() const {
  EngineSnapshot sum;
  for (const EngineSnapshot& each : snapshots())
    cluster::add_snapshot(sum, each);
  const std::lock_guard lock(mutex_);
  cluster::add_queued(sum, *dispatcher_);
  return sum;
}

bool DataParallelEngine::healthy(std::string* why) const {
  for (int i = 0; i < fleet_->size(); ++i) {
    if (fleet_->engine(i).healthy(why)) return true;
  }
  return false;
}

std::vector<cluster::EngineStatus> DataParallelEngine::engine_status() const {
  std::unique_lock lock(mutex_);
  fetch_published();
  const TimePoint now = clock_.now();
  std::vector<cluster::EngineStatus> all;
  for (int i = 0; i < fleet_->size(); ++i) {
    const EngineId id{i};
    cluster::EngineStatus& status =
        all.emplace_back(cluster::engine_status_of(*dispatcher_, id, now));
    status.snapshot = *dispatcher_->watch(id).snapshot();
    status.healthy = fleet_->engine(i).healthy(&status.failure);
  }
  lock.unlock();  // the rest needs none, and is many counters
  for (cluster::EngineStatus& status : all)
    status.expert_work = engine(status.engine).expert_work();
  return all;
}

cluster::DispatchStatus DataParallelEngine::dispatch_status() const {
  const std::lock_guard lock(mutex_);
  return cluster::dispatch_status_of(*dispatcher_);
}

std::vector<cluster::DecisionRecord> DataParallelEngine::decisions_of(RequestId request) const {
  const std::lock_guard lock(mutex_);
  return dispatcher_->log().of(request);
}

std::vector<cluster::DecisionRecord> DataParallelEngine::last_decisions(std::size_t most) const {
  const std::lock_guard lock(mutex_);
  return dispatcher_->log().last(most);
}

const ServingEngineOptions& DataParallelEngine::engine_options() const {
  return fleet_->engine(0).options();
}

}  // namespace gimbal::engine
